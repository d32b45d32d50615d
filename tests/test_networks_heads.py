# SPDX-License-Identifier: Apache-2.0
"""Ordinal heads: channels, order of thresholds, initial level probabilities."""

import numpy as np
import pytest
import torch
from scipy import optimize, stats

from monai_multirater.networks import FreeBiases, OrderedThresholds, OrdinalHead
from monai_multirater.ordinal import FAMILIES, level_probabilities

EXACT = ("softmax", "coral", "corn", "cumulative_logit", "cumulative_probit")
FREQUENCIES = {
    "one-rater": [0.8, 0.2],
    "rare-middle": [0.9, 0.001, 0.002, 0.0005, 0.0965],
    "uniform": [1 / 7] * 7,
    "counts": [900, 30, 20, 50],
    "tiny-tail": [0.999, 0.000999, 0.000001],
}


def features(dims: int, channels: int = 6) -> torch.Tensor:
    return torch.randn(2, channels, *(5, 4, 3)[:dims], generator=torch.Generator().manual_seed(0))


def initial_levels(family: str, frequencies: list[float], dims: int = 2) -> torch.Tensor:
    raters = len(frequencies) - 1
    head = OrdinalHead(dims, 6, raters, family).double()
    head.set_prior(frequencies, weight_scale=0.0)
    return level_probabilities(head(features(dims).double()), family=family, raters=raters).detach()


@pytest.mark.parametrize("raters", [1, 2, 5, 16])
@pytest.mark.parametrize("dims", [2, 3], ids=["2d", "3d"])
@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_outputs_have_the_channels_of_the_family(family: str, dims: int, raters: int) -> None:
    outputs = OrdinalHead(dims, 6, raters, family)(features(dims))
    assert outputs.shape == (2, FAMILIES[family].channels(raters), *features(dims).shape[2:])
    levels = level_probabilities(outputs, family=family, raters=raters)
    torch.testing.assert_close(levels.sum(1), torch.ones_like(levels[:, 0]))


@pytest.mark.parametrize("dims", [2, 3], ids=["2d", "3d"])
@pytest.mark.parametrize("frequencies", FREQUENCIES.values(), ids=FREQUENCIES)
@pytest.mark.parametrize("family", EXACT)
def test_prior_is_exact(family: str, frequencies: list[float], dims: int) -> None:
    levels = initial_levels(family, frequencies, dims)
    expected = torch.tensor(frequencies, dtype=torch.float64) / sum(frequencies)
    shape = [1, -1] + [1] * dims
    torch.testing.assert_close(
        levels,
        expected.reshape(shape).expand_as(levels),
        rtol=2e-4 if min(frequencies) < 1e-5 else 1e-6,
        atol=0,
    )


@pytest.mark.parametrize("frequencies", FREQUENCIES.values(), ids=FREQUENCIES)
@pytest.mark.parametrize("family", ["binary", "beta_binomial"])
def test_prior_has_the_mean_vote(family: str, frequencies: list[float]) -> None:
    levels = initial_levels(family, frequencies)[0, :, 0, 0]
    k = torch.arange(len(frequencies), dtype=torch.float64)
    expected = (torch.tensor(frequencies) * k).sum() / sum(frequencies)
    torch.testing.assert_close((levels * k).sum(), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["rare-middle", "uniform", "counts"])
def test_beta_binomial_prior_has_the_least_divergence(name: str) -> None:
    """Reference: scipy's beta-binomial and scalar minimizer at the same mean."""
    p = np.array(FREQUENCIES[name]) / sum(FREQUENCIES[name])
    raters = len(p) - 1
    mean = (p * np.arange(raters + 1)).sum() / raters

    def divergence(log_concentration: float) -> float:
        a, b = mean * np.exp(log_concentration), (1 - mean) * np.exp(log_concentration)
        return float((p * (np.log(p) - stats.betabinom.logpmf(np.arange(raters + 1), raters, a, b))).sum())

    best = optimize.minimize_scalar(divergence, bounds=(-8, 12), method="bounded").fun
    levels = initial_levels("beta_binomial", FREQUENCIES[name])[0, :, 0, 0].numpy()
    assert float((p * np.log(p / levels)).sum()) <= best + 1e-6


def test_binomial_frequencies_reach_the_binomial_limit() -> None:
    p = stats.binom.pmf(np.arange(6), 5, 0.3)
    np.testing.assert_allclose(initial_levels("beta_binomial", list(p))[0, :, 0, 0], p, rtol=1e-2)
    np.testing.assert_allclose(initial_levels("binary", list(p))[0, :, 0, 0], p, rtol=1e-9)


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_level_that_never_occurs_keeps_a_finite_start(family: str) -> None:
    levels = initial_levels(family, [1.0, 0.0, 0.0, 0.0])
    assert torch.isfinite(levels).all()
    assert torch.isfinite(FAMILIES[family].log_levels(OrdinalHead(2, 6, 3, family)(features(2)), 3)).all()


def test_prior_keeps_the_weights_by_default() -> None:
    head = OrdinalHead(2, 6, 3)
    before = head.conv.weight.clone()
    head.set_prior([0.7, 0.1, 0.1, 0.1])
    assert torch.equal(head.conv.weight, before)
    levels = torch.softmax(head(torch.zeros(1, 6, 2, 2)), 1)
    torch.testing.assert_close(levels[0, :, 0, 0], torch.tensor([0.7, 0.1, 0.1, 0.1]))


@pytest.mark.parametrize("scale", [0.0, 1.0])
def test_prior_scales_the_weights(scale: float) -> None:
    head = OrdinalHead(2, 6, 3)
    before = head.conv.weight.clone()
    head.set_prior([0.7, 0.1, 0.1, 0.1], weight_scale=scale)
    assert torch.equal(head.conv.weight, before * scale)
    head(features(2)).square().sum().backward()
    assert head.conv.weight.grad.abs().sum() > 0


@pytest.mark.parametrize(
    "frequencies",
    [[0.5, 0.5], [0, 0, 0], [1, -1, 1], [1, float("nan"), 1], [1, float("inf"), 1]],
    ids=["too-few", "zero", "negative", "nan", "infinite"],
)
def test_bad_frequencies_are_refused(frequencies: list[float]) -> None:
    with pytest.raises(ValueError, match=r"'level_frequencies' must be 3 finite .*levels 0\.\.2"):
        OrdinalHead(2, 6, 2).set_prior(frequencies)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"family": "nothing"}, "'family' must be one of"),
        ({"raters": 0}, "'raters' must be at least 1"),
        ({"spatial_dims": 4}, "'spatial_dims' must be"),
    ],
    ids=["family", "raters", "spatial_dims"],
)
def test_bad_arguments_are_refused(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        OrdinalHead(**{"spatial_dims": 2, "in_channels": 6, "raters": 3, **options})


@pytest.mark.parametrize("raters", [1, 2, 7])
def test_thresholds_ascend_for_any_parameters(raters: int) -> None:
    shared = OrderedThresholds(raters, 2)
    for seed in range(5):
        generator = torch.Generator().manual_seed(seed)
        for parameter in shared.parameters():
            parameter.data = 5 * torch.randn(parameter.shape, generator=generator)
        assert (torch.diff(shared.thresholds()) > 0).all()
        assert (torch.diff(shared(torch.zeros(1, 1, 2, 2)), dim=1) < 0).all()


def test_coral_biases_start_in_descending_order_and_are_free() -> None:
    head = OrdinalHead(2, 6, 4, "coral")
    assert isinstance(head.shared, FreeBiases)
    biases = head.shared.biases.flatten()
    torch.testing.assert_close(biases, torch.logit(torch.tensor([0.8, 0.6, 0.4, 0.2])))
    assert head.conv.bias is None
    assert sum(p.numel() for p in head.parameters()) == 6 + 4


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_gradient_reaches_every_parameter(family: str) -> None:
    head = OrdinalHead(2, 6, 4, family)
    levels = level_probabilities(head(features(2)), family=family, raters=4)
    (levels * torch.linspace(0, 1, 5).reshape(1, -1, 1, 1)).square().sum().backward()
    for name, parameter in head.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name


@pytest.mark.filterwarnings("ignore:.*torch.jit.script")
@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_head_can_be_scripted(family: str) -> None:
    head = OrdinalHead(3, 6, 4, family)
    torch.testing.assert_close(torch.jit.script(head)(features(3)), head(features(3)))


def test_shared_values_keep_float32_under_autocast() -> None:
    head = OrdinalHead(2, 6, 4, "cumulative_logit")
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert head(features(2)).dtype == torch.float32
