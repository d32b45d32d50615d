# SPDX-License-Identifier: Apache-2.0
"""Level probabilities of every family against scipy or the defining products and differences, in float64."""

import numpy as np
import pytest
import scipy.special
import scipy.stats
import torch

from monai_multirater.ordinal import (
    FAMILIES,
    beta_binomial_log_levels,
    beta_binomial_log_likelihood,
    get_family,
    level_probabilities,
)

ORDERED = ("coral", "cumulative_logit", "cumulative_probit")
SHAPES = [pytest.param((3, 4), id="2d"), pytest.param((2, 3, 2), id="3d")]


def random_outputs(family, raters, shape=(3, 4), *, batch=2, scale=2.0, dtype=torch.float64, seed=0):
    """Outputs of a family, in descending order where the family asks for it."""
    generator = torch.Generator().manual_seed(seed)
    outputs = scale * torch.randn(batch, get_family(family).channels(raters), *shape, generator=generator).to(dtype)
    return outputs.sort(1, descending=True).values if family in ORDERED else outputs


def reference_levels(family, outputs, raters):
    """``[B, R + 1, *]`` by scipy, from the definition of each family."""
    z = outputs.numpy()
    if family == "softmax":
        return scipy.special.softmax(z, axis=1)
    if family in ORDERED:
        link = scipy.stats.norm.cdf if family == "cumulative_probit" else scipy.special.expit
        edges = np.concatenate([np.ones_like(z[:, :1]), link(z), np.zeros_like(z[:, :1])], axis=1)
        return -np.diff(edges, axis=1)
    if family == "corn":
        above = np.cumprod(scipy.special.expit(z), axis=1)
        edges = np.concatenate([np.ones_like(z[:, :1]), above, np.zeros_like(z[:, :1])], axis=1)
        return -np.diff(edges, axis=1)
    k = np.arange(raters + 1).reshape(1, -1, *[1] * (z.ndim - 2))
    mean = scipy.special.expit(z[:, :1])
    if family == "binary":
        return scipy.stats.binom.pmf(k, raters, mean)
    return scipy.stats.betabinom.pmf(k, raters, mean * np.exp(z[:, 1:]), (1 - mean) * np.exp(z[:, 1:]))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("raters", [1, 2, 5, 16])
@pytest.mark.parametrize("family", FAMILIES)
def test_levels_equal_the_definition(family, raters, shape):
    outputs = random_outputs(family, raters, shape)
    levels = level_probabilities(outputs, family=family, raters=raters)
    assert levels.shape == (2, raters + 1, *shape)
    np.testing.assert_allclose(levels.numpy(), reference_levels(family, outputs, raters), rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(levels.sum(1).numpy(), 1, rtol=1e-12)


@pytest.mark.parametrize("family", FAMILIES)
def test_cut_points_and_single_levels_agree_with_levels(family):
    dist = get_family(family).distribution(random_outputs(family, 5), 5)
    below, above = dist.log_cuts
    torch.testing.assert_close(below.exp(), dist.levels.cumsum(1)[:, :-1])
    torch.testing.assert_close(above.exp(), 1 - dist.levels.cumsum(1)[:, :-1])
    torch.testing.assert_close(dist.below, below.exp())
    votes = torch.arange(24).view(2, 1, 3, 4) % 6
    torch.testing.assert_close(dist.log_level_at(votes), dist.levels.log().gather(1, votes))
    is_above = votes > torch.arange(5).view(1, 5, 1, 1)
    torch.testing.assert_close(dist.log_sides(is_above), torch.where(is_above, above, below))


@pytest.mark.parametrize("family", FAMILIES)
def test_half_precision_outputs_give_single_precision_levels(family):
    outputs = random_outputs(family, 3, dtype=torch.bfloat16)
    levels = level_probabilities(outputs, family=family, raters=3)
    assert levels.dtype == torch.float32
    torch.testing.assert_close(levels, level_probabilities(outputs.float(), family=family, raters=3))


@pytest.mark.parametrize("family", FAMILIES)
def test_confident_outputs_keep_finite_log_levels_and_gradients(family):
    if family in ORDERED:
        outputs = torch.stack([500 - torch.arange(4.0) * 100, -500 - torch.arange(4.0)], 1)[None]
    else:
        outputs = 500 * torch.randn(1, get_family(family).channels(4), 64, generator=torch.manual_seed(0)).sign()
        if family == "beta_binomial":
            outputs[:, 1] = torch.linspace(-30, 60, 64)
    outputs = outputs.requires_grad_()
    log_levels = get_family(family).log_levels(outputs, 4)
    log_levels.sum().backward()
    assert log_levels.isfinite().all()
    assert outputs.grad.isfinite().all()


@pytest.mark.parametrize("family", ["coral", "cumulative_logit", "cumulative_probit"])
def test_crossing_values_give_rank_consistent_levels(family):
    outputs = torch.tensor([0.3, 1.0, -0.5, -0.2]).view(1, 4, 1)
    levels = level_probabilities(outputs, family=family, raters=4)
    same = level_probabilities(torch.tensor([0.3, 0.3, -0.5, -0.5]).view(1, 4, 1), family=family, raters=4)
    assert (levels >= 0).all()
    torch.testing.assert_close(levels, same)


@pytest.mark.parametrize("family", ["coral", "corn", "cumulative_logit", "binary"])
def test_with_one_rater_these_families_are_one_sigmoid(family):
    outputs = random_outputs(family, 1)
    levels = level_probabilities(outputs, family=family, raters=1)
    torch.testing.assert_close(levels[:, 1:], torch.sigmoid(outputs))


@pytest.mark.parametrize("n", [1, 3, 10, 64])
@pytest.mark.parametrize("log_concentration", [-8.0, 0.0, 5.0, 12.0])
def test_beta_binomial_equals_scipy(n, log_concentration):
    logit = torch.linspace(-6, 6, 13, dtype=torch.float64).view(1, 1, -1)
    concentration = torch.full_like(logit, log_concentration)
    mean, nu = scipy.special.expit(logit.numpy()), np.exp(log_concentration)
    k = np.arange(n + 1).reshape(1, -1, 1)
    expected = scipy.stats.betabinom.logpmf(k, n, mean * nu, (1 - mean) * nu)
    found = beta_binomial_log_levels(logit, concentration, n)
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-6, atol=1e-6)  # scipy's lgamma cancels
    votes = torch.full_like(logit, n // 2, dtype=torch.int64)
    one = beta_binomial_log_likelihood(logit, concentration, votes, n)
    torch.testing.assert_close(one, found[:, n // 2 : n // 2 + 1])


def test_beta_binomial_of_infinite_concentration_is_binomial_also_in_single_precision():
    logit = torch.linspace(-8, 8, 17).view(1, 1, -1)
    found = beta_binomial_log_levels(logit, torch.full_like(logit, 80.0), 7)
    k = np.arange(8).reshape(1, -1, 1)
    expected = scipy.stats.binom.logpmf(k, 7, scipy.special.expit(logit.double().numpy()))
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-5, atol=1e-5)


def test_wrong_channels_and_unknown_families_are_named():
    with pytest.raises(ValueError, match=r"softmax: outputs for 3 raters must have 4 channels"):
        level_probabilities(torch.zeros(1, 3, 2), family="softmax", raters=3)
    with pytest.raises(ValueError, match="family must be one of"):
        level_probabilities(torch.zeros(1, 3, 2), family="probit", raters=2)
    with pytest.raises(ValueError, match="at least 1"):
        level_probabilities(torch.zeros(1, 1, 2), family="softmax", raters=0)
