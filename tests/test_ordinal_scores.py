# SPDX-License-Identifier: Apache-2.0
"""Scores against loops in Python floats and ``binary_cross_entropy``; propriety by expectation; float64 gradcheck."""

from math import log

import pytest
import torch
from torch.nn.functional import binary_cross_entropy

from monai_multirater.ordinal import (
    FAMILIES,
    SCORES,
    earth_mover_score,
    foreground_probability,
    get_family,
    level_cross_entropy,
    majority_cross_entropy,
    majority_labels,
    nearest_levels,
    ranked_logarithmic_score,
    ranked_probability_score,
    soft_cross_entropy,
    thin_levels,
    unimodality_penalty,
)

FUNCTIONS = {
    "rps": ranked_probability_score,
    "ranked_log": ranked_logarithmic_score,
    "level_ce": level_cross_entropy,
    "earth_mover": earth_mover_score,
    "unimodality": unimodality_penalty,
    "majority_ce": majority_cross_entropy,
    "soft_ce": soft_cross_entropy,
}
SHAPES = [pytest.param((3, 4), id="2d"), pytest.param((2, 3, 2), id="3d")]


def random_levels(raters, shape=(3, 4), *, batch=2, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(batch, raters + 1, *shape, generator=generator, dtype=torch.float64).mul(2).softmax(1)


def random_votes(raters, shape=(3, 4), *, batch=2, seed=1):
    return torch.randint(0, raters + 1, (batch, 1, *shape), generator=torch.Generator().manual_seed(seed))


def python_score(name, p, y):
    """The definition, for a list of level probabilities and one vote count."""
    raters = len(p) - 1
    below = [sum(p[: k + 1]) for k in range(raters)]
    step = [1.0 if y <= k else 0.0 for k in range(raters)]
    if name == "rps":
        return sum((f - h) ** 2 for f, h in zip(below, step, strict=True)) / raters
    if name == "ranked_log":
        return -sum(log(f if h else 1 - f) for f, h in zip(below, step, strict=True)) / raters
    if name == "level_ce":
        return -log(p[y])
    if name == "earth_mover":
        return sum(abs(f - h) ** 2 for f, h in zip(below, step, strict=True)) / (raters + 1)
    if name == "unimodality":
        return sum(max(0.0, 0.05 + (p[k] - p[k + 1] if k < y else p[k + 1] - p[k])) for k in range(raters))
    if name == "soft_ce":
        mean = sum(k * p[k] for k in range(raters + 1)) / raters
        return -(y / raters * log(mean) + (1 - y / raters) * log(1 - mean))
    foreground = sum(p[k] for k in range(raters + 1) if 2 * k > raters)
    return -log(foreground if 2 * y > raters else 1 - foreground)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("raters", [1, 2, 5])
@pytest.mark.parametrize("name", SCORES)
def test_scores_equal_their_definition_voxel_by_voxel(name, raters, shape):
    probs, votes = random_levels(raters, shape), random_votes(raters, shape)
    values = FUNCTIONS[name](probs, votes)
    assert values.shape == votes.shape
    expected = [
        python_score(name, p, y)
        for p, y in zip(probs.movedim(1, -1).reshape(-1, raters + 1).tolist(), votes.flatten().tolist(), strict=True)
    ]
    torch.testing.assert_close(values.flatten(), torch.tensor(expected, dtype=torch.float64))
    torch.testing.assert_close(FUNCTIONS[name](probs.log(), votes, log=True), values)


@pytest.mark.parametrize("ties", ["background", "foreground", "half"])
@pytest.mark.parametrize("raters", [1, 3, 4])
def test_majority_cross_entropy_is_that_of_the_foreground_map(raters, ties):
    probs, votes = random_levels(raters), random_votes(raters)
    expected = binary_cross_entropy(
        foreground_probability(probs, "majority", ties=ties),
        majority_labels(votes, raters, ties=ties).double(),
        reduction="none",
    )
    torch.testing.assert_close(majority_cross_entropy(probs, votes, ties=ties), expected)


@pytest.mark.parametrize("name", [name for name, score in SCORES.items() if score.proper])
@pytest.mark.parametrize("raters", [1, 4])
def test_proper_scores_are_smallest_for_the_true_distribution(name, raters):
    generator = torch.Generator().manual_seed(0)
    truth = random_levels(raters, (1,), batch=1, seed=3)
    votes = torch.arange(raters + 1).view(-1, 1, 1)

    def expected_score(prediction):
        return (truth.flatten() * FUNCTIONS[name](prediction.expand(raters + 1, -1, -1), votes).flatten()).sum()

    best = expected_score(truth)
    for spread in (1e-3, 0.1, 1.0):
        for _ in range(50):
            noise = spread * torch.randn(truth.shape, generator=generator, dtype=torch.float64)
            assert expected_score((truth.log() + noise).softmax(1)) > best
    logits = truth.log().requires_grad_()
    (slope,) = torch.autograd.grad(expected_score(logits.softmax(1)), logits)
    assert slope.abs().max() < 1e-12


def test_distance_to_the_votes_is_not_proper():
    truth = torch.tensor([0.4, 0.35, 0.25], dtype=torch.float64).view(1, 3, 1)
    median = torch.tensor([0.0, 1.0, 0.0], dtype=torch.float64).view(1, 3, 1)
    votes = torch.arange(3).view(3, 1, 1)
    honest, certain = (
        (truth.flatten() * earth_mover_score(p.expand(3, -1, -1), votes, exponent=1).flatten()).sum()
        for p in (truth, median)
    )
    assert certain < honest


@pytest.mark.parametrize("missing", ["thin", "nearest"])
@pytest.mark.parametrize("name", SCORES)
def test_mixed_numbers_of_raters_equal_item_by_item(name, missing):
    probs, counts = random_levels(5, batch=4), torch.tensor([2, 5, 1, 2])
    votes = torch.cat([random_votes(int(n), batch=1, seed=i) for i, n in enumerate(counts)])
    batch = FUNCTIONS[name](probs, votes, n_raters=counts, missing=missing)
    for i, n in enumerate(counts.tolist()):
        if missing == "thin":
            alone = FUNCTIONS[name](thin_levels(probs[i : i + 1], n), votes[i : i + 1])
        else:
            alone = FUNCTIONS[name](probs[i : i + 1], nearest_levels(votes[i : i + 1], n, 5))
        torch.testing.assert_close(batch[i : i + 1], alone)


@pytest.mark.parametrize("name", ["rps", "ranked_log", "level_ce", "earth_mover", "unimodality"])
def test_swapping_foreground_and_background_changes_nothing(name):
    probs, votes = random_levels(4), random_votes(4)
    torch.testing.assert_close(FUNCTIONS[name](probs.flip(1), 4 - votes), FUNCTIONS[name](probs, votes))


def test_one_rater_makes_both_ranked_scores_binary():
    probs, votes = random_levels(1), random_votes(1)
    foreground = probs[:, 1:]
    torch.testing.assert_close(ranked_probability_score(probs, votes), (foreground - votes) ** 2)
    expected = binary_cross_entropy(foreground, votes.double(), reduction="none")
    torch.testing.assert_close(ranked_logarithmic_score(probs, votes), expected)


def test_rps_prefers_errors_on_both_sides_and_the_published_fix_does_not():
    probs = torch.tensor([[0.2, 0.6, 0.2, 0.0], [0.0, 0.6, 0.4, 0.0]]).view(2, 4, 1)
    votes = torch.ones(2, 1, 1, dtype=torch.int64)
    both, one = ranked_probability_score(probs, votes, normalize=False).flatten().tolist()
    assert both == pytest.approx(0.08)
    assert one == pytest.approx(0.16)
    fixed = ((4 * earth_mover_score(probs, votes, exponent=1)) ** 2).flatten().tolist()
    assert fixed == pytest.approx([0.16, 0.16])


def test_impossible_votes_score_infinity():
    probs, votes = torch.tensor([1.0, 0.0]).view(1, 2, 1), torch.ones(1, 1, 1, dtype=torch.int64)
    assert ranked_logarithmic_score(probs, votes).item() == float("inf")
    assert level_cross_entropy(probs, votes).item() == float("inf")
    assert ranked_probability_score(probs, votes).item() == 1


@pytest.mark.parametrize("present", [3, 2])
@pytest.mark.parametrize("score", SCORES)
@pytest.mark.parametrize("family", FAMILIES)
def test_gradients_of_every_score_and_family(family, score, present):
    generator = torch.Generator().manual_seed(0)
    outputs = torch.randn(2, get_family(family).channels(3), 3, generator=generator, dtype=torch.float64)
    outputs = outputs.sort(1, descending=True).values if get_family(family).channels(3) == 3 else outputs
    votes = torch.tensor([0, 1, 2, 2, 0, 1]).view(2, 1, 3)

    def score_of(leaf):
        dist = get_family(family).distribution(leaf, 3)
        return SCORES[score].function(dist if present == 3 else dist.thin(present), votes, present)

    assert torch.autograd.gradcheck(score_of, (outputs.requires_grad_(),))


def test_bad_arguments_are_named():
    probs, votes = random_levels(2), random_votes(2)
    with pytest.raises(ValueError, match="rps: votes must have shape"):
        ranked_probability_score(probs, votes[:, 0])
    with pytest.raises(ValueError, match="missing must be"):
        ranked_probability_score(probs, votes, missing="drop")
