# SPDX-License-Identifier: Apache-2.0
"""Overlap of pairs. References: scikit-learn's scores, MONAI's and medpy's Dice, the pattern table, by hand."""

import math

import numpy as np
import pytest
import torch
from medpy.metric.binary import dc
from monai.metrics import compute_dice
from sklearn.metrics import cohen_kappa_score, f1_score, jaccard_score, recall_score

from monai_multirater.agreement import (
    PairOverlap,
    bits,
    mean_pairwise_dice,
    pair_indices,
    pair_overlap,
    pairwise_dice,
    pairwise_iou,
    pairwise_kappa,
    upper_pairs,
)
from monai_multirater.agreement.measures import OVERLAP_MEASURES
from monai_multirater.votes import VoteTable

SPATIAL = {"2d": (9, 8), "3d": (4, 5, 7), "1d": (130,), "many-words": (70, 131)}
RATERS = (1, 2, 5, 20, 64)


def _ratings(raters: int, spatial: tuple[int, ...], seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    shares = torch.rand(raters, *[1] * len(spatial), generator=generator)
    return (torch.rand(raters, *spatial, generator=generator) < shares).to(torch.uint8)


def _matrix(ratings: torch.Tensor, measure) -> torch.Tensor:
    planes = [plane.flatten().numpy() for plane in ratings]
    return torch.tensor([[measure(a, b) for b in planes] for a in planes], dtype=torch.float64)


def _close(found: torch.Tensor, expected: torch.Tensor) -> None:
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12, equal_nan=True)


@pytest.mark.parametrize("raters", [1, 2, 5], ids="{} raters".format)
@pytest.mark.parametrize("spatial", [(9, 8), (4, 5, 7)], ids=["2d", "3d"])
def test_measures_equal_scikit_learn_monai_and_medpy(spatial: tuple[int, ...], raters: int) -> None:
    ratings = _ratings(raters, spatial)
    found = pair_overlap(ratings)
    _close(found.dice, _matrix(ratings, f1_score))
    _close(found.dice, _matrix(ratings, dc))
    _close(found.iou, _matrix(ratings, jaccard_score))
    _close(found.kappa, _matrix(ratings, cohen_kappa_score))
    _close(found.sensitivity, _matrix(ratings, lambda a, b: recall_score(b, a)))
    _close(found.specificity, _matrix(ratings, lambda a, b: recall_score(b, a, pos_label=0)))
    _close(found.volume_difference, _matrix(ratings, lambda a, b: 2 * (float(a.sum()) - b.sum()) / (a.sum() + b.sum())))
    monai = _matrix(ratings, lambda a, b: float(compute_dice(*(torch.tensor(m)[None, None].float() for m in (a, b)))))
    torch.testing.assert_close(found.dice, monai, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.bool, torch.int8, torch.int64], ids=str)
@pytest.mark.parametrize("raters", RATERS, ids="{} raters".format)
@pytest.mark.parametrize("spatial", SPATIAL.values(), ids=SPATIAL)
def test_counts_equal_integer_products(spatial: tuple[int, ...], raters: int, dtype: torch.dtype) -> None:
    """Against products of int64 matrices."""
    ratings = _ratings(raters, spatial).to(dtype)
    flat = ratings.flatten(1).long()
    found = pair_overlap(ratings)
    assert torch.equal(found.gram, flat @ flat.T)
    assert (found.voxels, found.gram.dtype) == (math.prod(spatial), torch.int64)
    assert bool(found.present.all())
    assert torch.equal(found.volumes, flat.sum(1))


@pytest.mark.parametrize("raters", [1, 3, 17], ids="{} raters".format)
def test_table_and_masks_give_the_same(raters: int) -> None:
    ratings, mask = _ratings(raters, (12, 11)), torch.arange(raters) != 1
    found, table = pair_overlap(ratings, mask), PairOverlap.from_table(VoteTable.from_ratings(ratings, mask))
    assert torch.equal(found.gram, table.gram)
    assert torch.equal(found.present, table.present)
    assert found.voxels == table.voxels


@pytest.mark.parametrize("block", [64, 1 << 12, 1 << 20], ids="blocks of {}".format)
def test_blocks_change_nothing(monkeypatch: pytest.MonkeyPatch, block: int) -> None:
    ratings = torch.stack([_ratings(4, (23, 37), seed) for seed in range(5)])
    expected = torch.stack([(case.flatten(1).long() @ case.flatten(1).long().T) for case in ratings])
    monkeypatch.setattr(bits, "_BLOCK", block)
    monkeypatch.setattr(bits, "_LEAST", 64)
    assert torch.equal(pair_overlap(ratings, batched=True).gram, expected)


def test_popcount_without_numpy_2(monkeypatch: pytest.MonkeyPatch) -> None:
    words = np.random.default_rng(0).integers(0, 2**64, (3, 5), dtype=np.uint64)
    expected = [[int(word).bit_count() for word in row] for row in words]
    assert bits.popcount(words).tolist() == expected
    ratings = _ratings(5, (30, 31))
    found = pair_overlap(ratings)
    monkeypatch.setattr(bits, "popcount", bits.table_popcount)
    assert bits.popcount(words).tolist() == expected
    assert torch.equal(pair_overlap(ratings).gram, found.gram)


@pytest.mark.parametrize("layout", ["fortran", "raters-last", "strided", "permuted-batch"])
def test_the_order_of_voxels_in_memory_does_not_matter(layout: str) -> None:
    plain = torch.stack([_ratings(3, (6, 7, 8), seed) for seed in range(2)])
    moved = {
        "fortran": plain.permute(0, 1, 4, 3, 2).contiguous().permute(0, 1, 4, 3, 2),
        "raters-last": plain.movedim(1, -1).contiguous().movedim(-1, 1),
        "strided": torch.stack([plain, 1 - plain], dim=-1).flatten(-2)[..., ::2],
        "permuted-batch": plain.transpose(0, 1).contiguous().transpose(0, 1),
    }[layout]
    assert torch.equal(moved, plain)
    assert torch.equal(pair_overlap(moved, batched=True).gram, pair_overlap(plain, batched=True).gram)
    assert torch.equal(pair_overlap(moved[0]).gram, pair_overlap(plain[0]).gram)


def test_values_of_empty_and_full_masks_are_those_of_the_table_of_measures() -> None:
    empty, full, half = (torch.tensor(v, dtype=torch.uint8) for v in ([0, 0], [1, 1], [1, 0]))
    found = pair_overlap(torch.stack([empty, empty, full, full, half]))
    for name, value in found.values().items():
        measure = OVERLAP_MEASURES[name]
        assert value[0, 1] == pytest.approx(measure.both_empty, nan_ok=True)
        assert value[3, 2] == pytest.approx(measure.best, nan_ok=True) or name in ("kappa", "specificity")
        if measure.one_empty is not None:
            assert value[0, 2] == value[4, 1] == measure.one_empty
    assert found.kappa[2, 3].isnan()
    assert found.kappa[2, 4] == 0
    assert found.sensitivity[0, 4] == 0
    assert found.sensitivity[4, 0].isnan()
    assert found.specificity[0, 2].isnan()
    assert found.specificity[2, 4] == 0
    assert found.specificity[4, 0] == 0.5
    assert (found.volume_difference[4, 0], found.volume_difference[0, 4]) == (2, -2)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.bool, torch.int32], ids=str)
def test_absent_raters_are_not_looked_at(dtype: torch.dtype) -> None:
    """Against the raters present alone; the planes of absent raters hold anything."""
    ratings = _ratings(4, (7, 9)).to(dtype)
    mask = torch.tensor([True, False, True, True])
    if dtype != torch.bool:
        ratings[1] = 77
    found, alone = pair_overlap(ratings, mask), pair_overlap(ratings[mask])
    assert torch.equal(found.gram[mask][:, mask], alone.gram)
    assert not found.gram[1].any()
    for name, value in found.values().items():
        _close(value[mask][:, mask], alone.values()[name])
        assert value[1].isnan().all()
        assert value[:, 1].isnan().all()


@pytest.mark.parametrize("raters", [1, 3, 9], ids="{} raters".format)
@pytest.mark.parametrize("spatial", SPATIAL.values(), ids=SPATIAL)
def test_a_batch_is_its_cases(spatial: tuple[int, ...], raters: int) -> None:
    batch = torch.stack([_ratings(raters, spatial, seed) for seed in range(4)])
    masks = torch.rand(4, raters, generator=torch.Generator().manual_seed(1)) < 0.6
    masks[:, 0] = True
    missing, full = pair_overlap(batch, masks), pair_overlap(batch, batched=True)
    for case in range(4):
        assert torch.equal(missing.gram[case], pair_overlap(batch[case], masks[case]).gram)
        assert torch.equal(full.gram[case], pair_overlap(batch[case]).gram)
        _close(missing.kappa[case], pairwise_kappa(batch[case], masks[case]))
        _close(full.iou[case], pairwise_iou(batch[case]))
    _close(pairwise_dice(batch, masks), missing.dice)
    one = pair_overlap(batch, masks[0], batched=True)
    assert torch.equal(one.gram[1], pair_overlap(batch[1], masks[0]).gram)


def test_mean_over_the_pairs_present() -> None:
    """A float64 loop over pairs with scikit-learn; a rater alone has none."""
    batch = torch.stack([_ratings(4, (8, 9), seed) for seed in range(3)])
    masks = torch.tensor([[1, 1, 1, 1], [1, 0, 1, 1], [0, 0, 1, 0]]).bool()
    expected = []
    for ratings, mask in zip(batch, masks, strict=True):
        here = ratings[mask].flatten(1).numpy()
        pairs = [f1_score(here[i], here[j]) for i in range(len(here)) for j in range(i)]
        expected.append(np.mean(pairs) if pairs else math.nan)
    found = mean_pairwise_dice(batch, masks)
    assert found.tolist() == pytest.approx(expected, rel=1e-12, nan_ok=True)
    assert mean_pairwise_dice(batch[0]).ndim == 0
    assert mean_pairwise_dice(batch[0][:1]).isnan()


def test_pairs_above_the_diagonal() -> None:
    found = pair_overlap(_ratings(4, (8, 9)))
    first, second = pair_indices(4)
    assert list(zip(first.tolist(), second.tolist(), strict=True)) == [(0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3)]
    assert torch.equal(found.pairs()["volume_difference"], found.volume_difference[first, second])
    assert upper_pairs(torch.zeros(3, 1, 1)).shape == (3, 0)


def test_permuting_raters_permutes_the_matrix() -> None:
    ratings, order = _ratings(5, (9, 8)), torch.tensor([3, 0, 4, 1, 2])
    for name, value in pair_overlap(ratings[order]).values().items():
        _close(value, pair_overlap(ratings).values()[name][order][:, order])


@pytest.mark.parametrize(("voxels", "both"), [(2**31, 2**29 + 3), (2**40, 2**39 - 2)], ids=["int64", "float64"])
def test_kappa_of_many_voxels(voxels: int, both: int) -> None:
    """Against whole numbers of Python; the first would lose all digits in float64, the second overflow int64."""
    a, b = voxels // 2 + 1, voxels // 2 - 1
    found = PairOverlap(torch.tensor([[a, both], [both, b]]), voxels, torch.ones(2, dtype=torch.bool)).kappa[0, 1]
    expected = 2 * (voxels * both - a * b) / (a * (voxels - b) + b * (voxels - a))
    assert found.item() == pytest.approx(expected, rel=1e-12)


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("raters", [1, 5, 33], ids="{} raters".format)
def test_a_gpu_counts_the_same(raters: int) -> None:
    batch = torch.stack([_ratings(raters, (600, 700, 3), seed) for seed in range(3)])
    masks = torch.ones(3, raters, dtype=torch.bool)
    masks[1, 1:] = False
    assert torch.equal(pair_overlap(batch.cuda(), masks.cuda()).gram, pair_overlap(batch, masks).gram)
    assert torch.equal(pair_overlap(batch.cuda(), batched=True).gram, pair_overlap(batch, batched=True).gram)


@pytest.mark.parametrize(
    ("ratings", "mask", "error", "message"),
    [
        (torch.zeros(2, 3), None, TypeError, "pair_overlap: ratings must be bool or integer masks"),
        (np.zeros((2, 3), np.uint8), None, TypeError, "pair_overlap: ratings must be a torch.Tensor"),
        (torch.zeros(65, 3, dtype=torch.uint8), None, ValueError, "1 to 64 raters along axis 0"),
        (torch.zeros(2, 0, dtype=torch.uint8), None, ValueError, "pair_overlap: ratings must have voxels"),
        (torch.tensor([[0, 1], [2, 0]], dtype=torch.uint8), None, ValueError, "Got 0 to 2 for rater 1"),
        (torch.tensor([[0, 1], [-1, 0]], dtype=torch.int8), None, ValueError, "Got -1 to 0 for rater 1"),
        (torch.tensor([[0, 256], [1, 0]]), None, ValueError, "Got 0 to 256 for rater 0"),
        (torch.zeros(2, 3, dtype=torch.uint8), torch.zeros(2, dtype=torch.bool), ValueError, "at least one rater"),
        (torch.zeros(2, 3, dtype=torch.uint8), torch.ones(3, dtype=torch.bool), ValueError, "rater_mask must be bool"),
    ],
    ids=["float", "numpy", "65", "no-voxels", "two", "negative", "wraps", "nobody", "shape"],
)
def test_what_is_no_stack_of_masks_is_refused(ratings, mask, error, message) -> None:
    with pytest.raises(error, match=message):
        pair_overlap(ratings, mask)
