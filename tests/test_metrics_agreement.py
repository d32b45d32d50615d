# SPDX-License-Identifier: Apache-2.0
"""Metrics of agreement. References: scikit-learn, medpy, statsmodels, float64 loops, one process for two."""

import itertools
import math
import os
import socket
from pathlib import Path

import monai
import numpy as np
import pandas as pd
import pytest
import torch
import torch.distributed as dist
from ignite.engine import Engine, Events
from medpy.metric.binary import assd, hd
from monai.bundle.config_item import ComponentLocator
from monai.data import MetaTensor
from monai.handlers import IgniteMetricHandler, from_engine
from sklearn.metrics import cohen_kappa_score, f1_score, jaccard_score
from statsmodels.stats.inter_rater import aggregate_raters, fleiss_kappa
from torch.multiprocessing import spawn

from monai_multirater.metrics import (
    FleissKappaMetric,
    PairwiseDiceMetric,
    PairwiseHausdorffDistanceMetric,
    PairwiseIoUMetric,
    PairwiseKappaMetric,
    PairwiseSurfaceDiceMetric,
    PairwiseSurfaceDistanceMetric,
    agreement,
)

METRICS = {
    "dice": (PairwiseDiceMetric, {}, lambda a, b: f1_score(a.ravel(), b.ravel())),
    "iou": (PairwiseIoUMetric, {}, lambda a, b: jaccard_score(a.ravel(), b.ravel())),
    "kappa": (PairwiseKappaMetric, {}, lambda a, b: cohen_kappa_score(a.ravel(), b.ravel())),
    "hausdorff": (PairwiseHausdorffDistanceMetric, {"spacing": (2.0, 0.5)}, lambda a, b: hd(a, b, (2.0, 0.5))),
}


def _ratings(raters: int, shape: tuple[int, ...], seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    share = torch.rand(shape, generator=generator)
    return (torch.rand(raters, *shape, generator=generator) < share).to(torch.uint8)


def _cases(count: int = 5) -> list[dict]:
    """Cases of other sizes and numbers of raters, some of them missing."""
    cases = []
    for index in range(count):
        ratings = _ratings(2 + index % 3, (9 + index, 8), index)
        mask = torch.ones(len(ratings), dtype=torch.bool)
        mask[1] = index % 3 != 2
        cases.append({"ratings": ratings, "rater_mask": mask, "case": f"größe {index}"})
    return cases


def _pairs(case: dict, measure) -> dict[tuple[int, int], float]:
    here = case["rater_mask"].nonzero().flatten().tolist()
    planes = case["ratings"].numpy()
    return {(a, b): measure(planes[a], planes[b]) for a, b in itertools.combinations(here, 2)}


@pytest.mark.parametrize("name", METRICS)
def test_cases_and_pairs_equal_a_loop(name: str) -> None:
    """scikit-learn's and medpy's value of every pair, and plain means of them."""
    kind, options, measure = METRICS[name]
    metric, cases = kind(**options), _cases()
    values = metric([case["ratings"] for case in cases], [case["rater_mask"] for case in cases])
    loops = [_pairs(case, measure) for case in cases]
    expected = [np.mean(list(loop.values())) for loop in loops]
    assert values.dtype == torch.float64
    assert values.tolist() == pytest.approx(expected, rel=1e-9)
    assert metric.aggregate().item() == pytest.approx(np.mean(expected), rel=1e-9)
    assert metric.get_buffer().tolist() == [[value] for value in values.tolist()]
    assert len(metric) == 5
    frame = pd.DataFrame(metric.table().columns())
    assert list(frame.columns) == ["case", "rater_a", "rater_b", metric.score]
    found = {(int(row.case), row.rater_a, row.rater_b): getattr(row, metric.score) for row in frame.itertuples()}
    assert found == pytest.approx({(k, *pair): v for k, loop in enumerate(loops) for pair, v in loop.items()}, rel=1e-9)
    by_case = metric.table().case_columns()
    assert by_case["raters"].tolist() == [int(case["rater_mask"].sum()) for case in cases]


@pytest.mark.parametrize("how", ["masks", "batched-label", "listed-labels", "floats", "meta", "one-by-one"])
def test_every_way_to_hand_over_the_ratings_gives_the_same(how: str) -> None:
    ratings = torch.stack([_ratings(4, (6, 5, 4), seed) for seed in range(3)])
    masks = torch.tensor([[1, 1, 1, 1], [1, 0, 1, 1], [0, 1, 1, 0]]).bool()
    expected = [
        np.mean(list(_pairs({"ratings": r, "rater_mask": m}, METRICS["dice"][2]).values()))
        for r, m in zip(ratings, masks, strict=True)
    ]
    metric, pred, names = PairwiseDiceMetric(), torch.rand(3, 1, 6, 5, 4), ["c", "a", "b"]
    labels = [{"ratings": r, "rater_mask": m, "case": n} for r, m, n in zip(ratings, masks, names, strict=True)]
    calls = {
        "masks": [(ratings, masks)],
        "batched-label": [(pred, {"ratings": ratings, "rater_mask": masks, "case": names})],
        "listed-labels": [(pred, labels)],
        "floats": [(ratings.float(), masks)],
        "meta": [([MetaTensor(case) for case in ratings], list(masks))],
        "one-by-one": [(pred[:1], [label]) for label in labels],
    }[how]
    values = torch.cat([metric(*call) for call in calls])
    assert values.tolist() == pytest.approx(expected, rel=1e-12)
    assert metric.aggregate().item() == pytest.approx(np.mean(expected), rel=1e-12)
    named = how in ("batched-label", "listed-labels", "one-by-one")
    assert metric.table().cases == (("a", "b", "c") if named else ("0", "1", "2"))
    metric.reset()
    assert len(metric) == 0


def test_fleiss_kappa_equals_statsmodels() -> None:
    metric, cases = FleissKappaMetric(), _cases()
    values = metric(None, cases)
    votes = [case["ratings"][case["rater_mask"]].flatten(1).T.numpy() for case in cases]
    expected = [fleiss_kappa(aggregate_raters(v, n_cat=2)[0]) if v.shape[1] > 1 else math.nan for v in votes]
    assert values.tolist() == pytest.approx(expected, rel=1e-12, nan_ok=True)
    assert metric.aggregate().item() == pytest.approx(np.nanmean(expected), rel=1e-12)
    assert metric.table().columns()["fleiss_kappa"].tolist() == []


def test_surface_measures() -> None:
    """medpy's symmetric surface distance; shifted lines by hand."""
    cases = _cases()
    metric = PairwiseSurfaceDistanceMetric()
    found = metric(None, cases, spacing=[(2.0, 0.5)] * 5)
    loops = [_pairs(case, lambda a, b: assd(a, b, (2.0, 0.5))) for case in cases]
    assert found.tolist() == pytest.approx([np.mean(list(loop.values())) for loop in loops], rel=1e-9)
    lines = torch.zeros(2, 8, 8, dtype=torch.uint8)
    lines[0, 2, 1:7] = lines[1, 4, 1:7] = 1
    for tolerance, spacing, expected in ((1.0, None, 0.0), (2.0, None, 1.0), (1.0, (0.5, 1.0), 1.0)):
        metric = PairwiseSurfaceDiceMetric(tolerance=tolerance)
        assert metric([lines], spacing=spacing).item() == expected
        assert PairwiseSurfaceDiceMetric(tolerance=tolerance, spacing=spacing)([lines]).item() == expected
    assert PairwiseHausdorffDistanceMetric(percentile=95).score == "hausdorff95"
    assert PairwiseHausdorffDistanceMetric(percentile=95)([lines]).item() == 2


def test_undefined_is_nan_and_does_not_enter_means() -> None:
    """A rater alone has no pair; one empty mask has no distance; two empty masks agree."""
    empty, box = torch.zeros(4, 4, dtype=torch.uint8), torch.zeros(4, 4, dtype=torch.uint8)
    box[1:3, 1:3] = 1
    metric = PairwiseHausdorffDistanceMetric()
    values = metric([box[None], torch.stack([box, empty, box]), torch.stack([box, empty])])
    assert values.tolist() == pytest.approx([math.nan, 0, math.nan], nan_ok=True)
    assert metric.aggregate() == 0
    assert np.isnan(metric.table().columns()["hausdorff"]).sum() == 3
    dice = PairwiseDiceMetric()
    assert dice([box[None]]).isnan().all()
    assert dice.aggregate().isnan()
    assert dice([torch.stack([empty, empty]), torch.stack([empty, box])]).tolist() == [1, 0]
    assert PairwiseDiceMetric().aggregate().isnan()


def test_a_case_that_came_twice_counts_once() -> None:
    metric, case = PairwiseDiceMetric(), _cases(1)[0]
    for _ in range(2):
        metric(None, [case])
    assert metric.table().cases == (case["case"],)
    assert len(metric.table().pair_values) == 1
    metric(None, [case | {"ratings": case["ratings"].flip(1) ^ 1, "rater_mask": None}])
    other = PairwiseDiceMetric()
    other(None, [case])
    other(None, [{"ratings": 1 - case["ratings"], "case": case["case"]}])
    with pytest.raises(ValueError, match="came twice with different ratings"):
        other.aggregate()


def test_names_of_raters_are_in_the_table() -> None:
    metric = PairwiseIoUMetric(raters=("A", "B", "C"))
    metric(_ratings(3, (4, 4), 0)[None], torch.tensor([[True, False, True]]))
    columns = metric.table().columns()
    assert (columns["rater_a"].tolist(), columns["rater_b"].tolist()) == (["A"], ["C"])
    with pytest.raises(ValueError, match=r"PairwiseIoUMetric: ratings must have 3 raters\. Got 2"):
        metric(_ratings(2, (4, 4), 0)[None])


def test_in_an_engine_of_ignite() -> None:
    engine = Engine(lambda _engine, batch: batch)
    engine.state.metrics = {}
    handler = IgniteMetricHandler(PairwiseDiceMetric(), output_transform=from_engine(["ratings", "rater_mask"]))
    handler.attach(engine, "agreement")
    cases = _cases()
    batches = [
        [{"ratings": c["ratings"], "rater_mask": c["rater_mask"]} for c in part] for part in (cases[:2], cases[2:])
    ]
    engine.run(batches, max_epochs=1)
    loop = PairwiseDiceMetric()
    loop(None, cases)
    assert engine.state.metrics["agreement"] == loop.aggregate().item()
    assert engine.has_event_handler(handler.completed, Events.EPOCH_COMPLETED)


def test_no_name_hides_one_of_monai() -> None:
    """In a bundle a bare name is MONAI's."""
    locator = ComponentLocator()
    for name in agreement.__all__:
        found = locator.get_component_module_name(name) or []
        modules = [found] if isinstance(found, str) else found
        assert all(module.startswith("monai_multirater.") for module in modules), name
        assert not hasattr(monai.metrics, name)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        ((torch.full((1, 2, 3, 3), 0.5),), r"ratings must be 0 or 1\. Got 0.5 to 0.5 of dtype torch.float32"),
        ((torch.full((1, 2, 3, 3), 2),), r"ratings must be 0 or 1\. Got 2 to 2"),
        (
            (torch.zeros(2, 2, 3, 3), torch.ones(1, 2)),
            r"ratings, rater masks and names must .*\. Got 2, 1 and 2",
        ),
        ((torch.zeros(1, 2, 3, 3), torch.ones(1, 3)), r"rater_mask must be \[2\]\. Got shape \(3,\)"),
        ((torch.zeros(1, 2, 3, 3), torch.zeros(1, 2)), "at least one rater must be present"),
        ((torch.zeros(2, 3),), r"ratings must be \[R, \*spatial\]\. Got shape \(3,\)"),
        ((torch.zeros(1, 1, 3, 3), {"votes": 1}), r"the label must hold 'ratings'\. Got keys \['votes'\]"),
        ((torch.zeros(1, 1, 3, 3), [{"votes": 1}]), r"every label must hold 'ratings'"),
    ],
    ids=["soft", "labels", "cases", "mask", "nobody", "shape", "label", "labels-listed"],
)
def test_what_does_not_fit_is_refused(call, message: str) -> None:
    with pytest.raises(ValueError, match=f"PairwiseDiceMetric: {message}"):
        PairwiseDiceMetric()(*call)


def test_spacings_must_be_as_many_as_cases() -> None:
    with pytest.raises(ValueError, match=r"spacing must be one for all or one for each of 1 cases\. Got 2"):
        PairwiseSurfaceDistanceMetric()(_ratings(2, (4, 4), 0)[None], spacing=[(1.0, 1.0), (1.0, 2.0)])


SPLITS = ("padded", "one_rank_empty", "first_empty", "nothing")


def _share(split: str, rank: int) -> list[dict]:
    cases = _cases()
    if split == "padded":  # a sampler that repeats the first case to even out the ranks
        return [[*cases[::2]], [*cases[1::2], cases[0]]][rank]
    return {"one_rank_empty": [cases, []], "first_empty": [[], cases], "nothing": [[], []]}[split][rank]


def _worker(rank: int, port: int, folder: str) -> None:
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "RANK": str(rank)}
    os.environ |= {"WORLD_SIZE": "2", "LOCAL_RANK": str(rank)}
    torch.set_num_threads(1)
    dist.init_process_group("gloo", rank=rank, world_size=2)
    for split in SPLITS:
        metric = PairwiseDiceMetric()
        for case in _share(split, rank):
            metric(None, [case])
        columns = metric.table().columns()
        np.savez(Path(folder) / f"{split}{rank}.npz", mean=metric.aggregate().numpy(), **columns)
    dist.destroy_process_group()


@pytest.mark.slow
def test_two_processes_equal_one(tmp_path: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    spawn(_worker, args=(port, str(tmp_path)), nprocs=2)
    for split, rank in itertools.product(SPLITS, range(2)):
        single = PairwiseDiceMetric()
        for case in [] if split == "nothing" else _cases():
            single(None, [case])
        found = np.load(tmp_path / f"{split}{rank}.npz")
        np.testing.assert_array_equal(found["mean"], single.aggregate().numpy())
        for name, column in single.table().columns().items():
            assert found[name].tolist() == column.tolist()
