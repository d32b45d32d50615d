# SPDX-License-Identifier: Apache-2.0
"""Calibration as a transform. References: closed forms of the logistic function, the calibrators called by hand."""

import math
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import Compose

from monai_multirater.calibration import (
    CalibrationRecord,
    CaseHistogram,
    IsotonicCalibrator,
    PlattCalibrator,
    TemperatureCalibrator,
)
from monai_multirater.transforms import CalibrateProbability, CalibrateProbabilityd, LevelMapsd, OrdinalToForegroundd

SPATIAL = {"2d": (1, 6, 5), "3d": (1, 4, 6, 5)}


def probabilities(shape: tuple[int, ...]) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A record of calibrators fitted to probabilities that are too high; Platt scaling with intercept -log 2."""
    rng = np.random.default_rng(0)
    p = rng.random(4000)
    votes = rng.binomial(3, p / (2 - p)).astype(np.uint8)
    evidence = CaseHistogram.from_case(p, votes, 3)
    where = {"checkpoint": "ab", "rule": "expected", "ties": "background", "split": "validation"}
    CalibrationRecord.fit(evidence, cases=1, **where).save(tmp_path / "calibration.json")
    return tmp_path / "calibration.json"


@pytest.mark.parametrize("shape", SPATIAL.values(), ids=SPATIAL)
def test_a_calibrator_is_applied(shape: tuple[int, ...]) -> None:
    p = probabilities(shape)
    expected = 1 / (1 + torch.sqrt((1 - p) / p))  # half the logit
    torch.testing.assert_close(CalibrateProbability(TemperatureCalibrator(2.0))(p), expected)
    sample = CalibrateProbabilityd("pred", PlattCalibrator(1.0, math.log(2)))({"pred": p, "case": "a"})
    torch.testing.assert_close(sample["pred"], 2 * p / (1 + p))
    assert sample["case"] == "a"


@pytest.mark.parametrize("shape", SPATIAL.values(), ids=SPATIAL)
def test_none_passes_the_probability_through(shape: tuple[int, ...]) -> None:
    p = probabilities(shape)
    assert CalibrateProbability()(p) is p
    assert CalibrateProbabilityd("pred", "none", file="/nowhere/calibration.json")({"pred": p})["pred"] is p


@pytest.mark.parametrize("method", ["temperature", "platt", "isotonic"])
def test_a_calibrator_of_a_file_by_name(method: str, file: Path) -> None:
    p = probabilities((1, 6, 5))
    expected = CalibrationRecord.load(file).calibrator(method)(p)
    assert torch.equal(CalibrateProbability(method, file=file)(p), expected)
    assert torch.equal(CalibrateProbabilityd("pred", method, file=str(file))({"pred": p})["pred"], expected)
    if method != "temperature":  # the votes are those of p / (2 - p)
        torch.testing.assert_close(expected, p / (2 - p), atol=0.1, rtol=0)


@pytest.mark.parametrize("method", ["temperature", "platt", "isotonic"])
def test_meta_data_stay(method: str, file: Path) -> None:
    p = MetaTensor(probabilities((1, 6, 5)).float(), affine=torch.diag(torch.tensor([2.0, 3.0, 4.0, 1.0])))
    q = CalibrateProbability(method, file=file)(p)
    assert isinstance(q, MetaTensor)
    torch.testing.assert_close(q.affine, p.affine)
    assert q.dtype == torch.float32


def test_half_precision_becomes_float32() -> None:
    p = probabilities((1, 6, 5)).half()
    assert CalibrateProbability(IsotonicCalibrator((0.0, 1.0), (0.2, 0.4)))(p).dtype == torch.float32


def test_it_follows_the_foreground_in_evaluation_and_inference() -> None:
    outputs = torch.randn(4, 6, 5, generator=torch.Generator().manual_seed(0))
    calibrate = PlattCalibrator(0.5, 0.25)
    evaluated = Compose(
        [
            OrdinalToForegroundd("pred", family="softmax", raters=3, rule="expected"),
            CalibrateProbabilityd("pred", calibrate),
        ]
    )({"pred": outputs})["pred"]
    inferred = Compose([LevelMapsd("pred"), CalibrateProbabilityd("probability", calibrate)])(
        {"pred": outputs.softmax(0)}
    )["probability"]
    torch.testing.assert_close(evaluated, inferred)
    expected = (outputs.softmax(0) * torch.arange(4).view(4, 1, 1) / 3).sum(0, keepdim=True)
    torch.testing.assert_close(evaluated, torch.sigmoid(0.5 * torch.logit(expected) + 0.25))


def test_it_reaches_other_processes(file: Path) -> None:
    p = probabilities((1, 6, 5))
    transform = CalibrateProbability("isotonic", file=file)
    assert torch.equal(pickle.loads(pickle.dumps(transform))(p), transform(p))


def test_a_missing_key_is_an_error_unless_allowed() -> None:
    assert CalibrateProbabilityd("pred", TemperatureCalibrator(2.0), allow_missing_keys=True)({"a": 1}) == {"a": 1}
    with pytest.raises(KeyError, match="pred"):
        CalibrateProbabilityd("pred", TemperatureCalibrator(2.0))({"a": 1})


def test_impossible_calibrators_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="must be one of none, temperature, platt, isotonic, got 'beta'"):
        CalibrateProbability("beta", file=tmp_path / "calibration.json")
    with pytest.raises(ValueError, match="'file' must say where platt is written"):
        CalibrateProbability("platt")
    with pytest.raises(FileNotFoundError):
        CalibrateProbabilityd("pred", "platt", file=tmp_path / "calibration.json")
