# SPDX-License-Identifier: Apache-2.0
"""The file of calibrators beside a model. References: hashlib, the fits and scores called one by one."""

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest

from monai_multirater.calibration import (
    CALIBRATORS,
    CalibrationRecord,
    CaseHistogram,
    calibration_scores,
    file_digest,
    fit_calibrator,
)

WHERE = {"checkpoint": "ab" * 32, "rule": "majority", "ties": "half", "split": "validation"}


def make_evidence(*, separated: bool = False) -> CaseHistogram:
    rng = np.random.default_rng(0)
    p = rng.random(500) ** 2
    votes = 3 * (p > 0.5) if separated else rng.binomial(3, 0.8 * p)
    return CaseHistogram.from_case(p, votes.astype(np.uint8), 3)


def test_every_method_is_fitted_and_scored_before_and_after() -> None:
    evidence = make_evidence()
    record = CalibrationRecord.fit(evidence, cases=2, **WHERE)
    assert (record.cases, record.pairs, set(record.fits)) == (2, 1500, set(CALIBRATORS))
    assert record.before == calibration_scores(evidence)
    for method, fit in record.fits.items():
        assert record.calibrator(method) == fit.calibrator == fit_calibrator(method, evidence)
        assert fit.scores == calibration_scores(evidence, fit.calibrator)


@pytest.mark.parametrize("separated", [False, True], ids=["fitted", "not-fitted"])
def test_a_record_is_read_as_it_was_written(separated: bool, tmp_path: Path) -> None:
    record = CalibrationRecord.fit(make_evidence(separated=separated), cases=2, **WHERE)
    path = tmp_path / "models" / "calibration.json"
    record.save(path)
    assert CalibrationRecord.load(path) == record
    assert [each.name for each in path.parent.iterdir()] == ["calibration.json"]
    assert (record.fits["platt"].reason is not None) == separated


def test_a_method_that_was_not_fitted_gives_its_reason() -> None:
    record = CalibrationRecord.fit(make_evidence(separated=True), cases=1, **WHERE)
    with pytest.raises(ValueError, match="platt could not be fitted: no finite Platt map is the best"):
        record.calibrator("platt")
    with pytest.raises(ValueError, match="one of temperature, platt, isotonic, got 'beta'"):
        record.calibrator("beta")
    assert record.calibrator("isotonic").method == "isotonic"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({}, None),
        ({"checkpoint": "cd" * 32}, r"other weights \(SHA-256 abababababab..., these have cdcdcdcdcdcd...\)"),
        ({"rule": "expected"}, "the foreground rule majority, this job uses expected"),
        ({"ties": "foreground"}, "ties as half, this job takes them as foreground"),
    ],
    ids=["same", "weights", "rule", "ties"],
)
def test_a_record_belongs_to_weights_and_a_rule(change: dict[str, str], message: str | None) -> None:
    record = CalibrationRecord.fit(make_evidence(), cases=1, **WHERE)
    asked = {key: WHERE[key] for key in ("checkpoint", "rule", "ties")} | change
    if message is None:
        record.check(**asked)
        return
    with pytest.raises(ValueError, match=message):
        record.check(**asked)


def test_ties_do_not_matter_to_the_expected_fraction() -> None:
    record = CalibrationRecord.fit(make_evidence(), cases=1, **{**WHERE, "rule": "expected"})
    record.check(checkpoint=WHERE["checkpoint"], rule="expected", ties="background")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[]", "must hold a JSON object, got list"),
        ("{", "Expecting property name"),
        ('{"methods": {}}', "this is no calibration record: 'before'"),
        ('{"methods": [], "before": {}}', "this is no calibration record"),
        ('{"methods": {"platt": {"calibrator": {"method": "platt"}}}}', "parameters of platt do not fit"),
    ],
    ids=["list", "broken", "missing", "wrong-kind", "no-parameters"],
)
def test_other_files_are_refused(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "calibration.json").write_text(text)
    with pytest.raises(ValueError, match=message):
        CalibrationRecord.load(tmp_path / "calibration.json")


def test_the_former_file_stays_until_the_new_one_is_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "calibration.json"
    CalibrationRecord.fit(make_evidence(), cases=1, **WHERE).save(path)
    before = path.read_bytes()

    def killed(self: Path, target: Path) -> Path:
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "replace", killed)
    with pytest.raises(KeyboardInterrupt):
        CalibrationRecord.fit(make_evidence(), cases=9, **WHERE).save(path)
    assert path.read_bytes() == before
    assert json.loads(before)["cases"] == 1


def test_the_digest_is_that_of_the_file(tmp_path: Path) -> None:
    content = bytes(range(256)) * 9000  # more than a block
    (tmp_path / "model.pt").write_bytes(content)
    assert file_digest(tmp_path / "model.pt") == hashlib.sha256(content).hexdigest()
