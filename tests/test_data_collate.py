# SPDX-License-Identifier: Apache-2.0
"""Collation of varying rater counts."""

from typing import Any

import pytest
import torch
from monai.data import DataLoader, MetaTensor

from monai_multirater.data import multirater_collate


def _sample(case: str, raters: int, spatial: tuple[int, ...] = (4, 5), **extra: Any) -> dict[str, Any]:
    generator = torch.Generator().manual_seed(raters)
    ratings = torch.randint(0, 2, (raters, *spatial), generator=generator).to(torch.uint8)
    return {
        "case": case,
        "image": torch.rand(3, *spatial, generator=generator),
        "ratings": ratings,
        "n_raters": torch.tensor(raters),
        "votes": ratings.sum(0, keepdim=True).to(torch.uint8),
        **extra,
    }


@pytest.mark.parametrize("spatial", [(4, 5), (4, 5, 3)], ids=["2d", "3d"])
def test_raters_are_padded_and_masked(spatial: tuple[int, ...]) -> None:
    samples = [_sample("a", 2, spatial), _sample("b", 4, spatial), _sample("c", 1, spatial)]
    batch = multirater_collate(samples)
    assert batch["ratings"].shape == (3, 4, *spatial)
    assert batch["ratings"].dtype == torch.uint8
    assert batch["rater_mask"].tolist() == [
        [True, True, False, False],
        [True] * 4,
        [True, False, False, False],
    ]
    for row, sample in zip(batch["ratings"], samples, strict=True):
        raters = len(sample["ratings"])
        assert torch.equal(row[:raters], sample["ratings"])
        assert not row[raters:].any()
    assert batch["n_raters"].tolist() == [2, 4, 1]
    assert batch["n_raters"].dtype == torch.int64
    assert batch["votes"].shape == (3, 1, *spatial)
    assert batch["case"] == ["a", "b", "c"]


def test_given_rater_mask_is_kept_and_extended() -> None:
    samples = [_sample("a", 3, rater_mask=torch.tensor([True, False, True])), _sample("b", 4)]
    samples[1]["rater_mask"] = torch.ones(4, dtype=torch.bool)
    mask = multirater_collate(samples)["rater_mask"]
    assert mask.dtype == torch.bool
    assert mask.tolist() == [[True, False, True, False], [True] * 4]


def test_meta_tensors_keep_their_affine() -> None:
    affine = torch.diag(torch.tensor([2.0, 3.0, 4.0, 1.0], dtype=torch.float64))
    samples = [_sample("a", 2), _sample("b", 3)]
    for sample in samples:
        sample["image"] = MetaTensor(sample["image"], affine=affine, meta={"filename_or_obj": sample["case"]})
        sample["ratings"] = MetaTensor(sample["ratings"], affine=affine)
    batch = multirater_collate(samples)
    assert isinstance(batch["image"], MetaTensor)
    assert isinstance(batch["ratings"], MetaTensor)
    assert batch["ratings"].shape == (2, 3, 4, 5)
    assert torch.equal(batch["ratings"].affine[0], affine)


def test_keys_that_some_samples_lack_become_lists() -> None:
    truth = torch.zeros(1, 4, 5)
    batch = multirater_collate(
        [_sample("a", 2, truth=truth, group="p1"), _sample("b", 2, diagnosis=1), _sample("c", 2, truth=None)]
    )
    assert batch["group"] == ["p1", None, None]
    assert batch["diagnosis"] == [None, 1, None]
    assert batch["truth"][1:] == [None, None]
    assert torch.equal(batch["truth"][0], truth)


def test_lists_of_crops_are_flattened() -> None:
    batch = multirater_collate([[_sample("a", 2), _sample("a", 2)], [_sample("b", 3), _sample("b", 3)]])
    assert batch["case"] == ["a", "a", "b", "b"]
    assert batch["ratings"].shape[:2] == (4, 3)


def test_samples_without_ratings() -> None:
    batch = multirater_collate([{"image": torch.zeros(1, 2, 2), "case": "a"}])
    assert set(batch) == {"image", "case"}


def test_paths_that_are_not_loaded_stay_lists() -> None:
    batch = multirater_collate([{"ratings": ("x.png", None), "case": "a"}, {"ratings": ("y.png",), "case": "b"}])
    assert batch["ratings"] == [("x.png", None), ("y.png",)]


def test_loader_uses_it() -> None:
    loader = DataLoader([_sample("a", 2), _sample("b", 3)], batch_size=2, collate_fn=multirater_collate)
    assert next(iter(loader))["ratings"].shape[:2] == (2, 3)


@pytest.mark.parametrize(
    ("batch", "error", "message"),
    [
        ([], ValueError, "is empty"),
        ([torch.zeros(2)], TypeError, "must be dictionaries, got Tensor"),
        (
            [_sample("a", 2), _sample("b", 2, (6, 5))],
            ValueError,
            r"'image' must have one shape .*'b': \(3, 6, 5\)",
        ),
        (
            [_sample("a", 2, rater_mask=torch.ones(3))],
            ValueError,
            r"case 'a' must have shape \(2,\), got \(3,\)",
        ),
    ],
    ids=["empty", "tensor", "shapes", "mask"],
)
def test_errors_name_the_case(batch: list[Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        multirater_collate(batch)
