# SPDX-License-Identifier: Apache-2.0
"""The calibrators of a model as one JSON file beside its weights: what they are, what they were fitted to."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from monai_multirater.calibration.fitting import CalibrationScores, Evidence, calibration_scores, fit_calibrator
from monai_multirater.calibration.posthoc import CALIBRATORS, Calibrator, calibrator_from_dict

__all__ = ["CalibrationRecord", "Fit", "file_digest"]


@dataclass(frozen=True)
class Fit:
    """Result of one method: a calibrator with the scores of its own evidence, or the reason why there is none."""

    calibrator: Calibrator | None = None
    scores: CalibrationScores | None = None
    reason: str | None = None


@dataclass(frozen=True)
class CalibrationRecord:
    """Calibrators of one model, and what they belong to.

    Attributes:
        checkpoint: SHA-256 of the file of weights.
        rule: foreground rule of the probability that was calibrated, `majority` or `expected`.
        ties: tie rule of `majority`.
        split: split of the evidence.
        cases: number of its cases.
        pairs: number of its (voxel, rater) pairs.
        before: scores of the evidence without calibration.
        fits: result of each method.
    """

    checkpoint: str
    rule: str
    ties: str
    split: str
    cases: int
    pairs: int
    before: CalibrationScores
    fits: Mapping[str, Fit]

    @classmethod
    def fit(
        cls, evidence: Evidence, *, cases: int, checkpoint: str, rule: str, ties: str, split: str
    ) -> CalibrationRecord:
        """Fit every method to the evidence; a method that cannot be fitted keeps its reason."""
        plus, minus = evidence.pooled()
        fits = {method: _try(method, evidence) for method in CALIBRATORS}
        pairs = int(plus.sum() + minus.sum())
        return cls(checkpoint, rule, ties, split, cases, pairs, calibration_scores(evidence), fits)

    def calibrator(self, method: str) -> Calibrator:
        """Return the calibrator of a method.

        Raises:
            ValueError: unknown method (names those in the record), or one that could not be fitted (gives the reason).
        """
        if method not in self.fits:
            known = ", ".join(self.fits) or "none at all"
            raise ValueError(f"CalibrationRecord.calibrator: 'method' must be one of {known}, got {method!r}.")
        fit = self.fits[method]
        if fit.calibrator is None:
            raise ValueError(f"CalibrationRecord.calibrator: {method} could not be fitted: {fit.reason}")
        return fit.calibrator

    def check(self, *, checkpoint: str, rule: str, ties: str) -> None:
        """Raise `ValueError` unless the record was made for these weights and this foreground rule."""
        if checkpoint != self.checkpoint:
            raise ValueError(
                f"it was fitted to other weights (SHA-256 {self.checkpoint[:12]}..., these have {checkpoint[:12]}...)"
            )
        if rule != self.rule:
            raise ValueError(f"it was fitted to the foreground rule {self.rule}, this job uses {rule}")
        if rule == "majority" and ties != self.ties:
            raise ValueError(f"it was fitted with ties as {self.ties}, this job takes them as {ties}")

    def to_dict(self) -> dict[str, Any]:
        """Return plain numbers, texts and lists; JSON holds them exactly."""
        content = {key: value for key, value in vars(self).items() if key not in ("before", "fits")}
        methods: dict[str, Any] = {}
        for method, fit in self.fits.items():
            if fit.calibrator is None or fit.scores is None:
                methods[method] = {"reason": fit.reason}
            else:
                methods[method] = {"calibrator": fit.calibrator.to_dict(), "after": asdict(fit.scores)}
        return {**content, "before": asdict(self.before), "methods": methods}

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> CalibrationRecord:
        """Read what `to_dict` returned.

        Raises:
            ValueError: an entry is missing or impossible.
        """
        found = dict(content)
        try:
            fits = {method: _read_fit(each) for method, each in found.pop("methods").items()}
            before = CalibrationScores(**found.pop("before"))
            return cls(**found, before=before, fits=fits)
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"CalibrationRecord.from_dict: this is no calibration record: {error}") from error

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write as JSON; the file appears under its name only when complete."""
        target = Path(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = target.with_name(target.name + ".tmp")
        temporary.write_text(json.dumps(self.to_dict(), indent=2) + "\n", encoding="utf-8")
        temporary.replace(target)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> CalibrationRecord:
        """Read what `save` wrote.

        Raises:
            FileNotFoundError: there is no such file.
            ValueError: the file holds something else.
        """
        content = json.loads(Path(path).read_text(encoding="utf-8"))
        if not isinstance(content, dict):
            raise ValueError(f"CalibrationRecord.load: {path} must hold a JSON object, got {type(content).__name__}.")
        return cls.from_dict(content)


def file_digest(path: str | os.PathLike[str]) -> str:
    """SHA-256 of a file, hexadecimal."""
    digest = hashlib.sha256()
    with Path(path).open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _try(method: str, evidence: Evidence) -> Fit:
    try:
        calibrator = fit_calibrator(method, evidence)
    except ValueError as error:
        return Fit(reason=str(error).removeprefix("fit_calibrator: "))
    return Fit(calibrator, calibration_scores(evidence, calibrator))


def _read_fit(content: Mapping[str, Any]) -> Fit:
    if "calibrator" not in content:
        return Fit(reason=str(content["reason"]))
    return Fit(calibrator_from_dict(content["calibrator"]), CalibrationScores(**content["after"]))
