# SPDX-License-Identifier: Apache-2.0
"""Fused kernels against the plain scores differentiated by autograd in float64."""

import pytest
import torch

import monai_multirater.ordinal.blocks as blocks
from monai_multirater.ordinal import SCORES, get_family
from monai_multirater.ordinal.beta_binomial_kernel import beta_binomial_score
from monai_multirater.ordinal.blocks import blockwise, score_by_autograd
from monai_multirater.ordinal.cumulative_kernels import link_score, logistic_score
from monai_multirater.ordinal.kernels import fused_score
from monai_multirater.ordinal.softmax_kernels import can_fuse, softmax_score

WEIGHTS = [
    pytest.param({"rps": 1.0}, id="rps"),
    pytest.param({"ranked_log": 1.0}, id="ranked_log"),
    pytest.param({"majority_ce": 1.0, "rps": 2.5}, id="rps+bce"),
    pytest.param({"majority_ce": 0.5, "ranked_log": 1.0}, id="ranked_log+bce"),
    pytest.param({"soft_ce": 2.0}, id="soft"),
    pytest.param({"soft_ce": 1.0, "rps": 2.5}, id="rps+soft"),
    pytest.param({"soft_ce": 0.5, "ranked_log": 1.0}, id="ranked_log+soft"),
    pytest.param({"majority_ce": 1.0, "ranked_log": 0.3, "rps": 2.0, "soft_ce": 0.7}, id="all"),
]


def random_case(raters, present, shape=(5, 6), *, batch=2, scale=2.0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(0)
    logits = (scale * torch.randn(batch, raters + 1, *shape, generator=generator)).to(dtype)
    return logits, torch.randint(0, present + 1, (batch, 1, *shape), generator=generator)


def plain(weights, logits, votes, raters, present, ties="background"):
    dist = get_family("softmax").distribution(logits, raters)
    dist = dist if present == raters else dist.thin(present)
    options = {"majority_ce": {"ties": ties}}
    return sum(w * SCORES[s].function(dist, votes, present, **options.get(s, {})) for s, w in weights.items())


def fused(weights, logits, votes, raters, present, *, reduction="none", ties="background"):
    score = softmax_score(weights, raters, present, ties=ties)
    return blockwise(logits, votes, [score] * len(votes), levels=raters + 1, reduction=reduction)


@pytest.mark.parametrize("ties", ["background", "foreground"])
@pytest.mark.parametrize(("raters", "present"), [(1, 1), (2, 2), (4, 4), (7, 7), (5, 1), (5, 4)])
@pytest.mark.parametrize("weights", WEIGHTS)
def test_softmax_kernel_equals_plain_value_and_gradient(weights, raters, present, ties):
    logits, votes = random_case(raters, present)
    ours, theirs = logits.clone().requires_grad_(), logits.clone().requires_grad_()
    values = fused(weights, ours, votes, raters, present, ties=ties)
    expected = plain(weights, theirs, votes, raters, present, ties)
    torch.testing.assert_close(values, expected)
    weight = torch.rand(votes.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    (values * weight).sum().backward()
    (expected * weight).sum().backward()
    torch.testing.assert_close(ours.grad, theirs.grad)


@pytest.mark.parametrize("weights", WEIGHTS)
def test_softmax_kernel_passes_gradcheck(weights):
    logits, votes = random_case(4, 3, (3,))
    for reduction in ("none", "mean", "sum"):
        assert torch.autograd.gradcheck(
            lambda x, reduction=reduction: fused(weights, x, votes, 4, 3, reduction=reduction),
            (logits.clone().requires_grad_(),),
        )


@pytest.mark.parametrize("weights", WEIGHTS)
@pytest.mark.parametrize("present", [5, 3])
def test_confident_wrong_logits_keep_finite_values_and_gradients(weights, present):
    logits, votes = random_case(5, present, scale=400.0, dtype=torch.float32)
    ours, exact = logits.clone().requires_grad_(), logits.double().requires_grad_()
    value = fused(weights, ours, votes, 5, present, reduction="sum")
    expected = plain(weights, exact, votes, 5, present).sum()
    value.backward()
    expected.backward()
    torch.testing.assert_close(value.double(), expected, rtol=1e-5, atol=0)
    torch.testing.assert_close(ours.grad.double(), exact.grad, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kernel", ["softmax", "beta_binomial", "autograd"])
def test_many_blocks_equal_one(kernel, monkeypatch):
    logits, votes = random_case(3, 3, (11, 13))
    if kernel == "beta_binomial":
        logits, score = logits[:, :2].clone(), beta_binomial_score(3)
    elif kernel == "softmax":
        score = softmax_score({"rps": 1.0, "majority_ce": 1.0}, 3, 3)
    else:
        score = score_by_autograd(lambda x, y: plain({"level_ce": 1.0}, x, y, 3, 3))
    results = []
    for size in (40, 1 << 20):
        monkeypatch.setattr(blocks, "_CPU_BLOCK", size)
        leaf = logits.clone().requires_grad_()
        value = blockwise(leaf, votes, [score] * 2, levels=4)
        value.backward()
        results.append((value.detach(), leaf.grad))
    torch.testing.assert_close(results[0], results[1])


@pytest.mark.parametrize("layout", ["channels_last", "strided"])
def test_memory_format_changes_nothing(layout):
    logits, votes = random_case(3, 3, (6, 8))
    other = (
        logits.contiguous(memory_format=torch.channels_last)
        if layout == "channels_last"
        else logits.transpose(2, 3).contiguous().transpose(2, 3)
    )
    results = []
    for leaf in (logits.clone().requires_grad_(), other.clone().requires_grad_()):
        fused({"ranked_log": 1.0}, leaf, votes, 3, 3, reduction="mean").backward()
        results.append(leaf.grad)
    torch.testing.assert_close(results[1], results[0])


@pytest.mark.parametrize("weights", WEIGHTS)
def test_nan_logits_give_nan_and_no_error(weights):
    logits, votes = random_case(3, 3)
    logits[0, 0, 0, 0] = float("nan")
    assert fused(weights, logits.requires_grad_(), votes, 3, 3, reduction="mean").isnan()


def test_gradient_can_be_taken_twice_with_the_graph_retained():
    logits, votes = random_case(3, 3)
    leaf = logits.requires_grad_()
    value = fused({"rps": 1.0}, leaf * 1.0, votes, 3, 3, reduction="mean")
    first = torch.autograd.grad(value, leaf, retain_graph=True)[0].clone()
    second = torch.autograd.grad(value, leaf, grad_outputs=torch.tensor(3.0, dtype=torch.float64))[0]
    torch.testing.assert_close(second, 3 * first)


@pytest.mark.parametrize("raters", [1, 2, 7])
def test_beta_binomial_kernel_equals_plain_value_and_gradient(raters):
    generator = torch.Generator().manual_seed(0)
    outputs = 3 * torch.randn(2, 2, 5, 6, generator=generator, dtype=torch.float64)
    votes = torch.randint(0, raters + 1, (2, 1, 5, 6), generator=generator)
    ours, theirs = outputs.clone().requires_grad_(), outputs.clone().requires_grad_()
    values = blockwise(ours, votes, [beta_binomial_score(raters)] * 2, levels=raters + 1, reduction="none")
    expected = -get_family("beta_binomial").log_levels(theirs, raters).gather(1, votes)
    torch.testing.assert_close(values, expected)
    values.sum().backward()
    expected.sum().backward()
    torch.testing.assert_close(ours.grad, theirs.grad)


@pytest.mark.parametrize(("logit", "log_concentration"), [(300.0, 0.0), (-300.0, 300.0), (0.0, -200.0), (2.0, 1e4)])
def test_beta_binomial_kernel_stays_finite_at_the_ends(logit, log_concentration):
    votes = torch.tensor([0, 2, 5]).view(1, 1, 3)
    outputs = torch.tensor([logit, log_concentration]).view(1, 2, 1).repeat(1, 1, 3).requires_grad_()
    values = blockwise(outputs, votes, [beta_binomial_score(5)], levels=6, reduction="none")
    values.sum().backward()
    assert values.isfinite().all()
    assert outputs.grad.isfinite().all()


CUMULATIVE = {
    "coral": "ranked_log",
    "corn": "level_ce",
    "cumulative_logit": "level_ce",
    "cumulative_probit": "level_ce",
}


def cumulative_case(family, raters, present=None, *, scale=1.0, dtype=torch.float64):
    """Outputs as heads give them (descending for links, any for the others) and votes of the raters present."""
    generator = torch.Generator().manual_seed(0)
    outputs = scale * torch.randn(2, raters, 7, 9, generator=generator, dtype=torch.float64)
    if family.startswith("cumulative"):
        outputs = outputs.sort(dim=1, descending=True).values
    votes = torch.randint(0, (present or raters) + 1, (2, 1, 7, 9), generator=generator)
    return outputs.to(dtype), votes


def cumulative_score(family, raters, present=None, *, weight=1.0):
    weights = {CUMULATIVE[family]: weight}
    return fused_score(family, weights, raters, present or raters, normalize=True, ties="background")


def value_and_gradient(score, outputs, votes):
    leaf = outputs.clone().requires_grad_()
    values = score(leaf, votes)
    values.sum().backward()
    return values.detach().double(), leaf.grad.double()


def by_kernel(score):
    return lambda outputs, votes: blockwise(outputs, votes, [score] * len(votes), levels=8, reduction="none")


def by_distribution(family, raters, present=None):
    """The score of the family, differentiated by autograd."""
    score, present = SCORES[CUMULATIVE[family]].function, present or raters

    def values(outputs, votes):
        dist = get_family(family).distribution(outputs, raters)
        return score(dist if present == raters else dist.thin(present), votes, present)

    return values


@pytest.mark.parametrize(("raters", "present"), [(1, 1), (2, 2), (7, 7), (64, 64), (2, 1), (7, 1), (7, 5), (64, 60)])
@pytest.mark.parametrize("family", CUMULATIVE)
def test_cumulative_kernels_equal_plain_value_and_gradient(family, raters, present):
    outputs, votes = cumulative_case(family, raters, present)
    expected = value_and_gradient(by_distribution(family, raters, present), outputs, votes)
    values, gradient = value_and_gradient(by_kernel(cumulative_score(family, raters, present)), outputs, votes)
    torch.testing.assert_close(values, expected[0])
    torch.testing.assert_close(gradient, expected[1])


@pytest.mark.parametrize("scale", [1.0, 5.0, 100.0])
@pytest.mark.parametrize("present", [5, 3])
@pytest.mark.parametrize("family", CUMULATIVE)
def test_cumulative_kernels_in_float32_are_those_of_float64(family, present, scale):
    """Scale 5 needs float64 inside, scale 100 the logarithms of the family."""
    outputs, votes = cumulative_case(family, 5, present, scale=scale, dtype=torch.float32)
    values, gradient = value_and_gradient(by_kernel(cumulative_score(family, 5, present)), outputs, votes)
    exact, exact_gradient = value_and_gradient(by_distribution(family, 5, present), outputs.double(), votes)
    torch.testing.assert_close(values, exact, rtol=2e-5, atol=1e-6)
    torch.testing.assert_close(gradient, exact_gradient, rtol=2e-4, atol=1e-5)


@pytest.mark.parametrize("link", ["cumulative_logit", "cumulative_probit"])
def test_link_kernel_takes_the_cumulative_minimum_of_values_out_of_order(link):
    outputs = torch.tensor([1.0, 2.0, -1.0]).view(1, 3, 1).repeat(1, 1, 3)
    votes = torch.tensor([0, 2, 3]).view(1, 1, 3)  # level 1 lies between two equal values
    values, gradient = value_and_gradient(by_kernel(link_score(link, 3)), outputs, votes)
    expected = value_and_gradient(by_distribution(link, 3), outputs.double(), votes)
    torch.testing.assert_close(values, expected[0], rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(gradient, expected[1], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("family", CUMULATIVE)
def test_nan_outputs_of_cumulative_kernels_give_nan_and_no_error(family):
    outputs, votes = cumulative_case(family, 3)
    outputs[0, 1, 0, 0] = float("nan")
    votes[0, 0, 0, 0] = 2
    assert by_kernel(cumulative_score(family, 3))(outputs, votes)[0, 0, 0, 0].isnan()


def test_logistic_kernel_leaves_out_cuts_above_the_votes():
    outputs = torch.tensor([0.0, 3.0, -200.0]).view(1, 3, 1)
    value = by_kernel(logistic_score(3, conditional=True))(outputs, torch.zeros(1, 1, 1, dtype=torch.int64))
    torch.testing.assert_close(value.item(), 0.6931471805599453)  # log 2: the first cut alone


@pytest.mark.parametrize("present", [5, 3])
@pytest.mark.parametrize("family", ["coral", "corn"])
def test_weight_scales_value_and_gradient(family, present):
    outputs, votes = cumulative_case(family, 5, present)
    once = value_and_gradient(by_kernel(cumulative_score(family, 5, present)), outputs, votes)
    thrice = value_and_gradient(by_kernel(cumulative_score(family, 5, present, weight=3.0)), outputs, votes)
    torch.testing.assert_close(thrice, (3 * once[0], 3 * once[1]))


def test_scores_without_kernel_are_left_to_autograd():
    for family, weights in [("coral", {"rps": 1.0}), ("corn", {"ranked_log": 1.0}), ("binary", {"level_ce": 1.0})]:
        for present in (5, 3):
            assert fused_score(family, weights, 5, present, normalize=True, ties="background") is None


def test_half_ties_of_even_raters_are_not_fused():
    assert not can_fuse({"majority_ce": 1.0}, 4, "half")
    assert can_fuse({"majority_ce": 1.0}, 3, "half")
    assert not can_fuse({"level_ce": 1.0}, 3, "background")


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("weights", WEIGHTS)
def test_cuda_equals_cpu(weights):
    logits, votes = random_case(5, 3, (32, 32), dtype=torch.float32)
    results = []
    for device in ("cpu", "cuda"):
        leaf = logits.to(device).requires_grad_()
        value = fused(weights, leaf, votes.to(device), 5, 3, reduction="mean")
        value.backward()
        results.append((value.detach().cpu(), leaf.grad.cpu()))
    torch.testing.assert_close(results[1], results[0])


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("present", [5, 3])
@pytest.mark.parametrize("family", CUMULATIVE)
def test_cumulative_kernels_on_cuda_equal_those_on_cpu(family, present):
    outputs, votes = cumulative_case(family, 5, present, dtype=torch.float32)
    score = by_kernel(cumulative_score(family, 5, present))
    cpu, cuda = (value_and_gradient(score, outputs.to(device), votes.to(device)) for device in ("cpu", "cuda"))
    torch.testing.assert_close([part.cpu() for part in cuda], list(cpu), rtol=1e-5, atol=1e-6)
