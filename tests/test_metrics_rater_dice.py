# SPDX-License-Identifier: Apache-2.0
"""Dice of the model and of the raters. References: MONAI's ``compute_dice``, scikit-learn's ``f1_score``, by hand."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from monai.metrics import compute_dice
from sklearn.metrics import f1_score

from monai_multirater.metrics import DICE_PARTNERS, RaterDice, RaterDiceCollector, rater_dice
from monai_multirater.resampling import case_weights

RATERS = ("A", "B", "C", "D")


def _case(shape: tuple[int, ...], seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    p = torch.rand(1, *shape, generator=generator)
    ratings = torch.stack([torch.bernoulli(p[0], generator=generator) for _ in RATERS]).to(torch.uint8)
    return p, ratings


def _monai(first: torch.Tensor, second: torch.Tensor) -> float:
    return float(compute_dice(first[None, None].float(), second[None, None].float(), ignore_empty=True))


@pytest.mark.parametrize("present", [[1, 1, 1, 1], [1, 0, 1, 1], [0, 1, 1, 0]], ids=["all", "three", "two"])
@pytest.mark.parametrize("shape", [(9, 8), (4, 5, 6)], ids=["2d", "3d"])
def test_dice_equals_monai_and_scikit_learn(shape: tuple[int, ...], present: list[int]) -> None:
    p, ratings = _case(shape, 1)
    mask = torch.tensor(present).bool()
    found = rater_dice(p, ratings, mask)
    assert found.shape == (4, 3)
    for r in range(4):
        if not mask[r]:
            assert np.isnan(found[r]).all()
            continue
        others = [o for o in range(4) if o != r and mask[o]]
        majority = sum(ratings[o].int() for o in others) > len(others) / 2
        pairs = [_monai(ratings[r], ratings[o]) for o in others]
        assert found[r, 0] == pytest.approx(_monai(p[0] > 0.5, ratings[r]), rel=1e-6)
        assert found[r, 1] == pytest.approx(_monai(ratings[r], majority), rel=1e-6)
        assert found[r, 2] == pytest.approx(np.mean(pairs), rel=1e-6)
        assert found[r, 0] == pytest.approx(f1_score(ratings[r].ravel(), p.ravel() > 0.5), rel=1e-12)
        assert found[r, 1] == pytest.approx(f1_score(majority.ravel(), ratings[r].ravel()), rel=1e-12)


def test_ceiling_by_hand() -> None:
    """Four voxels. A 1100, B 1110, C 0000; the model says 1001 (0.5 is background).

    A: model 2/4; B and C tie everywhere, so their majority is empty: 0; with B 4/5, with C 0.
    C: model 0; majority of A and B 1100, C is empty: 0. With A and B: 0.
    """
    ratings = torch.tensor([[1, 1, 0, 0], [1, 1, 1, 0], [0, 0, 0, 0]], dtype=torch.uint8)
    found = rater_dice(torch.tensor([[0.9, 0.5, 0.2, 0.6]]), ratings)
    assert found.tolist() == pytest.approx(np.array([[2 / 4, 0, 0.4], [2 / 5, 0, 0.4], [0, 0, 0]]))


def test_undefined_is_nan() -> None:
    """Two empty masks have no Dice, a rater who is alone has no others, and such pairs do not enter means."""
    ratings = torch.tensor([[0, 0], [0, 0], [1, 0]], dtype=torch.uint8)
    empty = rater_dice(torch.zeros(1, 2), ratings)
    assert np.isnan(empty[:2, 0]).all()
    assert np.isnan(empty[:2, 1]).all()  # the others tie: background
    assert empty[2].tolist() == [0, 0, 0]
    assert empty[0, 2] == 0  # the pair of the two empty masks is left out
    alone = rater_dice(torch.ones(1, 2), ratings, torch.tensor([False, False, True]))
    assert alone[2, 0] == pytest.approx(2 / 3)
    assert np.isnan(alone[2, 1:]).all()
    assert np.isnan(alone[:2]).all()


def test_shapes_must_agree() -> None:
    with pytest.raises(ValueError, match=r"rater_dice: 'probability' must have the shape of a mask, \(2, 3\)"):
        rater_dice(torch.zeros(1, 3, 2), torch.zeros(2, 2, 3, dtype=torch.uint8))
    collector = RaterDiceCollector(("A",))
    with pytest.raises(ValueError, match=r"planes of 1 raters\. Got 2"):
        collector.update(torch.zeros(1, 2, 3), {"ratings": torch.zeros(2, 2, 3, dtype=torch.uint8)})


def _collect(cases: int = 6) -> tuple[RaterDice, list[np.ndarray]]:
    collector, loop = RaterDiceCollector(RATERS), []
    for index in reversed(range(cases)):
        p, ratings = _case((7, 6), index)
        mask = torch.tensor([index > 0, True, index % 2 == 0, True])
        collector.update(p, {"ratings": ratings, "rater_mask": mask, "case": f"c{index}"})
        loop.insert(0, rater_dice(p, ratings, mask))
    return collector.evidence(), loop


def test_evidence_is_sorted_and_survives_a_file(tmp_path: Path) -> None:
    evidence, loop = _collect()
    assert evidence.cases == tuple(f"c{index}" for index in range(6))
    np.testing.assert_array_equal(evidence.values, np.stack(loop))
    frame = pd.DataFrame(evidence.columns())
    assert list(frame.columns) == ["rater", "case", *DICE_PARTNERS]
    assert len(frame) == 5 + 6 + 3 + 6  # a row for each rater and case that the rater marked
    frame.to_csv(tmp_path / "dice.csv", index=False)
    again = RaterDice.from_columns(
        {name: column.to_numpy() for name, column in pd.read_csv(tmp_path / "dice.csv").items()}
    )
    assert (again.cases, again.raters) == (evidence.cases, RATERS)
    np.testing.assert_array_equal(again.values, evidence.values)
    np.testing.assert_array_equal(again.present, evidence.present)


def test_means_equal_a_loop_over_the_drawn_cases() -> None:
    """A plain loop that repeats every case as often as it was drawn."""
    evidence, loop = _collect()
    names = ["b", *evidence.cases]  # a case without ratings in front
    weights = case_weights(7, resamples=30, seed=3)
    means, resampled = evidence.means(weights, names)
    np.testing.assert_allclose(means, np.nanmean(np.stack(loop), axis=0), rtol=1e-12)
    for draw, found in zip(weights.astype(int), resampled, strict=True):
        drawn = [loop[case - 1] for case in range(1, 7) for _ in range(draw[case])]
        for r in range(4):
            for partner in range(3):
                values = [table[r, partner] for table in drawn if not np.isnan(table[r, partner])]
                expected = sum(values) / len(values) if values else np.nan
                assert found[r, partner] == pytest.approx(expected, rel=1e-12, nan_ok=True)
    summary = evidence.compute_summary(weights, names)
    low, high = np.nanquantile(resampled[:, 2, 1], [0.025, 0.975])
    assert summary["C"]["consensus"].interval == pytest.approx((low, high))


def test_a_case_that_came_twice_counts_once() -> None:
    collector = RaterDiceCollector(RATERS)
    p, ratings = _case((7, 6), 0)
    for _ in range(2):
        collector.update(p, {"ratings": ratings, "case": "c"})
    assert collector.evidence().cases == ("c",)
    collector.reset()
    for _ in range(2):
        collector.update(p, {"ratings": ratings})
    assert collector.evidence().cases == ("0", "1")
    assert RaterDiceCollector(RATERS).evidence().values.shape == (0, 4, 3)
