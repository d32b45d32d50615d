# SPDX-License-Identifier: Apache-2.0
"""SIMPLE against an example worked by hand and the algorithm written out with sets of voxels."""

from __future__ import annotations

from fractions import Fraction
from statistics import fmean, pstdev

import pytest
import torch
from fusion_cases import disagreeing_raters
from torch import Tensor

from monai_multirater.fusion import majority, simple


def masks(*spans: tuple[int, int], voxels: int = 30) -> Tensor:
    """One-dimensional masks from first to last voxel, as ``[R, 1, voxels]``."""
    return torch.stack(
        [((torch.arange(voxels) >= a) & (torch.arange(voxels) <= b)).to(torch.uint8)[None] for a, b in spans]
    )


def test_the_example_worked_by_hand() -> None:
    """A = B = 0..9, C = 0..8, D = 1..9, E = 20..29.

    The majority is 0..9. Dice: 1, 1, 18/19, 18/19, 0; mean 0.7789, standard deviation 0.3902, threshold 0.3888: E goes.
    Then voxel 0 has the weight 1 + 1 + 18/19 of 2 + 36/19, so the vote stays; mean 0.9737, standard deviation 0.0263,
    at 1.5 standard deviations nobody is below 0.9342: the second round changes nothing.
    """
    found = simple(masks((0, 9), (0, 9), (0, 8), (1, 9), (20, 29)))
    assert found.consensus[0, 0].nonzero().flatten().tolist() == list(range(10))
    assert found.dropped.tolist() == [False, False, False, False, True]
    dice = [1.0, 1.0, 18 / 19, 18 / 19, 0.0]
    assert found.dice.tolist() == pytest.approx(dice, abs=1e-15)
    total = 2 + 36 / 19
    assert found.weights.tolist() == pytest.approx([d / total for d in dice], abs=1e-15)
    assert (found.iterations, found.converged) == (2, True)


def loop_simple(ratings: Tensor, alpha: float, step: float, min_raters: int) -> tuple[set[int], list[int], int]:
    """Reference: sets of voxels and fractions, no pattern table."""
    sets = [set(plane.flatten().nonzero().flatten().tolist()) for plane in ratings]
    everything = sorted(set().union(*sets))
    kept, weights = list(range(len(sets))), [Fraction(1)] * len(sets)

    def vote() -> set[int]:
        total = sum(weights[r] for r in kept)
        return {v for v in everything if 2 * sum(weights[r] for r in kept if v in sets[r]) > total}

    estimate = vote()
    for round_ in range(100):
        for r in kept:
            size = len(sets[r]) + len(estimate)
            weights[r] = Fraction(2 * len(sets[r] & estimate), size) if size else Fraction(1)
        scores = [float(weights[r]) for r in kept]
        threshold = fmean(scores) - (alpha + round_ * step) * pstdev(scores)
        below = sorted((r for r in kept if float(weights[r]) < threshold - 1e-12), key=lambda r: weights[r])
        before = list(kept)
        kept = [r for r in kept if r not in below[: max(0, len(kept) - min_raters)]]
        voted = vote()
        if voted == estimate and kept == before:
            return estimate, kept, round_ + 1
        estimate = voted
    raise AssertionError("did not converge")


@pytest.mark.parametrize("spatial", [(20, 21), (8, 9, 10)], ids=["2D", "3D"])
@pytest.mark.parametrize("raters", [1, 2, 4, 5, 8])
@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(("alpha", "step"), [(1.0, 0.5), (0.5, 0.1)])
def test_equals_the_algorithm_on_sets(
    raters: int, spatial: tuple[int, ...], seed: int, alpha: float, step: float
) -> None:
    ratings = disagreeing_raters(raters, spatial, seed=seed, noise=0.05)
    found = simple(ratings, alpha=alpha, step=step)
    estimate, kept, rounds = loop_simple(ratings, alpha, step, 3)
    assert found.consensus.flatten().nonzero().flatten().tolist() == sorted(estimate)
    assert (~found.dropped).nonzero().flatten().tolist() == kept
    assert found.iterations == rounds
    assert found.weights.sum().item() == pytest.approx(1.0, abs=1e-12)


def test_a_rater_far_off_is_dropped_and_the_others_decide() -> None:
    ratings = disagreeing_raters(6, seed=1, noise=0.0)
    ratings[3] = ratings[3].roll(20, dims=1)
    found = simple(ratings)
    assert found.dropped[3]
    assert found.weights[3] == 0
    assert found.dice[3] < found.dice[~found.dropped].min()


def test_raters_who_agree_are_all_kept() -> None:
    """Equal Dice scores that differ by rounding only must not fall below their own mean."""
    ratings = disagreeing_raters(1, (17, 19)).expand(7, -1, -1)
    found = simple(ratings)
    assert not found.dropped.any()
    assert torch.equal(found.consensus, ratings[:1])


@pytest.mark.parametrize(("raters", "dropped"), [(2, 0), (3, 0), (4, 1)])
def test_at_least_three_raters_stay(raters: int, dropped: int) -> None:
    spans = [(0, 9), (0, 9), (0, 9), (20, 29)][-raters:]
    assert int(simple(masks(*spans)).dropped.sum()) == dropped


def test_all_empty_is_empty_and_drops_nobody() -> None:
    found = simple(torch.zeros(4, 5, 6, dtype=torch.uint8))
    assert not found.consensus.any()
    assert not found.dropped.any()
    assert found.dice.tolist() == [1.0] * 4
    assert found.converged


def test_a_batch_is_its_cases_with_missing_raters() -> None:
    ratings = torch.stack([disagreeing_raters(6, seed=s, noise=0.1) for s in range(3)])
    mask = torch.tensor([[1, 1, 1, 1, 1, 1], [1, 1, 0, 1, 1, 1], [0, 0, 1, 0, 1, 0]], dtype=torch.bool)
    found = simple(ratings, mask)
    for case in range(3):
        single = simple(ratings[case][mask[case]])
        assert torch.equal(found.consensus[case], single.consensus)
        assert torch.equal(found.dropped[case][mask[case]], single.dropped)
        assert not found.dropped[case][~mask[case]].any()
        assert (found.weights[case][~mask[case]] == 0).all()
        assert found.dice[case][~mask[case]].isnan().all()
        assert found.iterations[case] == single.iterations


def test_the_cap_on_iterations_is_told() -> None:
    ratings = disagreeing_raters(6, seed=1, noise=0.1)
    found = simple(ratings, max_iterations=1)
    assert (found.iterations, found.converged) == (1, False)


def test_equal_raters_vote_like_the_majority_with_ties_as_background() -> None:
    """Two raters on each side, all with the same Dice: the weights stay equal, and so does the tied vote."""
    ratings = masks((0, 9), (5, 14), (0, 9), (5, 14))
    assert torch.equal(simple(ratings).consensus, majority(ratings))


@pytest.mark.parametrize("options", [{"alpha": -1}, {"step": -0.1}, {"min_raters": 0}, {"max_iterations": 0}])
def test_bad_options_are_named(options: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="simple: alpha and step must not be negative"):
        simple(disagreeing_raters(3), **options)  # type: ignore[arg-type]
