# SPDX-License-Identifier: Apache-2.0
"""Calibrators fitted at the end of an evaluation. References: SciPy on all pairs, hashlib, one process for two."""

import hashlib
import os
import socket
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.distributed as dist
from ignite.engine import Engine
from monai.handlers import IgniteMetricHandler, from_engine
from scipy.optimize import minimize
from scipy.special import expit, logit
from torch.multiprocessing import spawn

from monai_multirater.calibration import (
    CALIBRATORS,
    CalibrationRecord,
    PlattCalibrator,
    brier_score,
    multirater_ece,
    negative_log_likelihood,
)
from monai_multirater.handlers import FitCalibrators
from monai_multirater.metrics import MultiRaterBrierMetric, MultiRaterSummaryMetric

Sample = dict[str, Any]


def make_cases(*, shape: tuple[int, ...] = (20, 18), counts: tuple[int, ...] = (3, 3, 3, 3)) -> list[Sample]:
    """Engine outputs of single cases whose probabilities are too sure and too low."""
    rng = np.random.default_rng(5)
    cases = []
    for index, raters in enumerate(counts):
        z = rng.normal(-2, 2, (1, *shape))
        votes = rng.binomial(raters, expit(0.5 * z + 0.5)).astype(np.uint8)
        label = {"votes": torch.from_numpy(votes), "n_raters": torch.tensor(raters), "case": f"case{index}"}
        cases.append({"pred": torch.from_numpy(expit(z).astype(np.float32)), "label": label})
    return cases


def fit(cases: list[Sample], folder: Path, *, batch: int = 2, **options: Any) -> Path:
    """Run an evaluator that gives out `cases`; returns the file."""
    folder.mkdir(exist_ok=True)
    checkpoint, metric = folder / "model.pt", MultiRaterSummaryMetric()
    checkpoint.write_bytes(b"weights")
    engine = Engine(lambda _, data: data)
    handler = IgniteMetricHandler(metric_fn=metric, output_transform=from_engine(["pred", "label"]), save_details=False)
    handler.attach(engine, "mr_ece")
    path = folder / "calibration.json"
    options = {"rule": "expected", **options}
    FitCalibrators(str(path), metric=metric, checkpoint=str(checkpoint), **options).attach(engine)
    engine.run([cases[i : i + batch] for i in range(0, len(cases), batch)])
    return path


@pytest.mark.parametrize("counts", [(3, 3, 3), (4, 1, 2)], ids=["all-raters", "missing-raters"])
@pytest.mark.parametrize("shape", [(20, 18), (6, 7, 9)], ids=["2d", "3d"])
def test_the_file_holds_the_fits_of_all_pairs(counts: tuple[int, ...], shape: tuple[int, ...], tmp_path: Path) -> None:
    cases = make_cases(shape=shape, counts=counts)
    record = CalibrationRecord.load(fit(cases, tmp_path, split="validation"))
    assert record.checkpoint == hashlib.sha256(b"weights").hexdigest()
    assert (record.rule, record.ties, record.split, record.cases) == ("expected", "background", "validation", 3)
    assert record.pairs == sum(counts) * np.prod(shape)
    z = np.concatenate([logit(case["pred"].double().numpy()).ravel() for case in cases])
    votes = np.concatenate([case["label"]["votes"].numpy().ravel() for case in cases])
    raters = np.repeat(counts, np.prod(shape))

    def loss(at: np.ndarray) -> float:
        t = at[0] * z + at[1]
        return float((raters * np.logaddexp(0, t) - votes * t).sum() / raters.sum())

    best = minimize(loss, [1.0, 0.0], method="Nelder-Mead", options={"xatol": 1e-9, "fatol": 1e-14}).x
    found = record.calibrator("platt")
    assert isinstance(found, PlattCalibrator)
    assert (found.slope, found.intercept) == pytest.approx(tuple(best), rel=1e-5)


def test_the_file_tells_the_scores_before_and_after(tmp_path: Path) -> None:
    cases = make_cases()
    record = CalibrationRecord.load(fit(cases, tmp_path))
    labels = [[c["label"]["votes"] for c in cases], [int(c["label"]["n_raters"]) for c in cases]]
    for method in ("none", *CALIBRATORS):
        scores = record.before if method == "none" else record.fits[method].scores
        assert scores is not None
        maps = [c["pred"] if method == "none" else record.calibrator(method)(c["pred"]) for c in cases]
        assert scores.brier == pytest.approx(brier_score(maps, *labels), abs=1e-6)
        assert scores.nll == pytest.approx(negative_log_likelihood(maps, *labels), abs=1e-6)
        assert scores.mr_ece == pytest.approx(multirater_ece(maps, *labels), abs=1e-3)
        assert method == "none" or scores.nll < record.before.nll


def test_batches_and_the_order_of_cases_change_nothing(tmp_path: Path) -> None:
    cases = make_cases(counts=(4, 1, 2, 3))
    first = fit(cases, tmp_path / "a", batch=1).read_bytes()
    assert fit([*cases[::-1], cases[0]], tmp_path / "b", batch=3).read_bytes() == first  # a case twice counts once


def test_a_table_is_printed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    record = CalibrationRecord.load(fit(make_cases(), tmp_path, split="validation"))
    printed = capsys.readouterr().out
    assert "Calibration on the validation split (4 cases" in printed.replace("\n", " ")
    for line in ("none", *CALIBRATORS):
        assert f" {line} " in printed
    assert f"{record.before.nll:.5f}" in printed


def test_a_fit_that_is_impossible_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cases = make_cases()
    for case in cases:
        case["label"]["votes"][:] = 0
    record = CalibrationRecord.load(fit(cases, tmp_path))
    with pytest.raises(ValueError, match="platt could not be fitted: 'evidence' says background in every pair"):
        record.calibrator("platt")
    assert "not fitted" in capsys.readouterr().out


def test_other_ranks_write_and_print_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert not fit(make_cases(), tmp_path, disable=True).exists()
    assert capsys.readouterr().out == ""


def test_a_metric_without_histograms_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"collects histograms.*Got MultiRaterBrierMetric instead"):
        FitCalibrators(str(tmp_path), metric=MultiRaterBrierMetric(), checkpoint="model.pt", rule="expected")


def _worker(rank: int, port: int, folder: str) -> None:
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "RANK": str(rank)}
    os.environ |= {"WORLD_SIZE": "2", "LOCAL_RANK": str(rank)}
    torch.set_num_threads(1)
    dist.init_process_group("gloo", rank=rank, world_size=2)
    cases = make_cases(counts=(4, 1, 2))
    share = [cases[:2], [cases[2], cases[0]]][rank]  # a sampler repeats the first case to even out the ranks
    fit(share, Path(folder) / str(rank), disable=rank > 0)
    dist.destroy_process_group()


@pytest.mark.slow
def test_two_processes_fit_what_one_does(tmp_path: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    spawn(_worker, args=(port, str(tmp_path)), nprocs=2)
    expected = fit(make_cases(counts=(4, 1, 2)), tmp_path / "one").read_bytes()
    assert (tmp_path / "0" / "calibration.json").read_bytes() == expected
    assert not (tmp_path / "1" / "calibration.json").exists()
