# SPDX-License-Identifier: Apache-2.0
"""SeededDataset: an item depends on seed, epoch and index only."""

from typing import Any

import numpy as np
import pytest
import torch
from monai.data import DataLoader, Dataset
from monai.transforms import (
    Compose,
    Identityd,
    OneOf,
    RandGaussianNoised,
    Randomizable,
    RandRotate90d,
    Transform,
)

from monai_multirater.data import SeededDataset

ITEMS = [{"image": torch.arange(16.0).reshape(1, 4, 4) + 100 * i, "case": f"c{i}"} for i in range(6)]


class CountedLoad(Transform):
    """Deterministic, counts its calls."""

    calls = 0

    def __call__(self, item: dict[str, Any]) -> dict[str, Any]:
        CountedLoad.calls += 1
        return {**item, "loaded": True}


class NestedChoice(Randomizable, Transform):
    """Random transform of our own that draws in __call__."""

    def __call__(self, item: dict[str, Any]) -> dict[str, Any]:
        return {**item, "draw": int(self.R.randint(1 << 30))}


def _transform() -> Compose:
    noise = OneOf([RandGaussianNoised("image", prob=1.0, std=s) for s in (1.0, 2.0)])
    return Compose([CountedLoad(), Identityd("image"), noise, RandRotate90d("image", prob=0.5), NestedChoice()])


def _images(items: list[dict[str, Any]]) -> list[np.ndarray]:
    return [np.asarray(item["image"]) for item in items]


def _dataset(**options: Any) -> SeededDataset:
    return SeededDataset(ITEMS, _transform(), progress=False, **options)


def test_items_do_not_depend_on_the_order() -> None:
    forward, backward = _dataset(seed=3), _dataset(seed=3)
    a = _images([forward[i] for i in range(6)])
    b = _images([backward[i] for i in reversed(range(6))])[::-1]
    np.testing.assert_array_equal(a, b)
    np.testing.assert_array_equal(a[2], np.asarray(forward[2]["image"]))
    np.testing.assert_array_equal(a[-1], np.asarray(forward[-1]["image"]))


def test_stock_dataset_does_depend_on_the_order() -> None:
    """The reason for this class: MONAI's data set gives another item the second time."""
    stock = Dataset(ITEMS, _transform().set_random_state(0))
    assert not np.array_equal(np.asarray(stock[2]["image"]), np.asarray(stock[2]["image"]))


def test_epochs_seeds_and_items_differ() -> None:
    dataset = _dataset(seed=3)
    draws = {(0, i): dataset[i]["draw"] for i in range(6)}
    dataset.set_epoch(1)
    assert dataset.epoch == 1
    draws |= {(1, i): dataset[i]["draw"] for i in range(6)}
    other = _dataset(seed=4)
    draws |= {(2, i): other[i]["draw"] for i in range(6)}
    assert len(set(draws.values())) == 18
    dataset.set_epoch(0)
    assert dataset[4]["draw"] == draws[0, 4]


def test_cache_changes_nothing_but_the_work() -> None:
    plain = _dataset(seed=1)
    expected = _images([plain[i] for i in range(6)])
    CountedLoad.calls = 0
    cached = _dataset(seed=1, cache=True)
    assert CountedLoad.calls == 6
    for _ in range(2):
        np.testing.assert_array_equal(_images([cached[i] for i in range(6)]), expected)
    assert CountedLoad.calls == 6
    assert cached[0]["loaded"]


def test_cached_items_are_protected_from_transforms_in_place() -> None:
    def spoil(item: dict[str, Any]) -> dict[str, Any]:
        item["image"] += 1
        return item

    items = [{"image": torch.zeros(1, 2, 2)}]
    dataset = SeededDataset(items, Compose([Identityd("image"), spoil]), cache=True, progress=False)
    assert dataset[0]["image"].sum() == dataset[0]["image"].sum() == 4


def test_fully_deterministic_transform_and_no_transform() -> None:
    assert SeededDataset(ITEMS, Compose([CountedLoad()]), cache=True, progress=False)[1]["loaded"]
    assert SeededDataset(ITEMS)[1]["case"] == "c1"


def test_slices_work_as_in_monai() -> None:
    assert [item["case"] for item in _dataset()[1:3]] == ["c1", "c2"]


def test_index_past_the_end_raises() -> None:
    with pytest.raises(IndexError):
        _dataset()[6]


@pytest.mark.parametrize(("seed", "error"), [(-1, ValueError), (1.5, TypeError), (None, TypeError), (True, TypeError)])
def test_wrong_seed(seed: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match="'seed' must be"):
        _dataset(seed=seed)


def test_negative_epoch() -> None:
    with pytest.raises(ValueError, match="'epoch' must be >= 0"):
        _dataset().set_epoch(-1)


@pytest.mark.slow
@pytest.mark.parametrize("cache", [False, True], ids=["plain", "cached"])
def test_workers_and_persistent_workers_give_the_same_items(cache: bool) -> None:
    epochs = (1, 2, 3)

    def run(**options: Any) -> list[np.ndarray]:
        dataset = _dataset(seed=5, cache=cache)
        loader = DataLoader(dataset, batch_size=2, **options)
        batches = []
        for epoch in epochs:
            dataset.set_epoch(epoch)
            batches += [np.asarray(batch["image"]) for batch in loader]
        return batches

    expected = run(num_workers=0)
    assert not np.array_equal(expected[0], expected[3])
    np.testing.assert_array_equal(run(num_workers=2), expected)
    np.testing.assert_array_equal(run(num_workers=2, persistent_workers=True), expected)
