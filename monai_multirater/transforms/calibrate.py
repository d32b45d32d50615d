# SPDX-License-Identifier: Apache-2.0
"""Post-hoc calibration of a foreground probability as a transform."""

from __future__ import annotations

import os
from collections.abc import Hashable, Mapping
from typing import Any

from monai.config import KeysCollection
from monai.transforms import MapTransform, Transform
from monai.utils import TransformBackends, convert_to_dst_type
from torch import Tensor

from monai_multirater.calibration import CALIBRATORS, CalibrationRecord, Calibrator

__all__ = ["CalibrateProbability", "CalibrateProbabilityd"]


class CalibrateProbability(Transform):
    """Apply a post-hoc calibrator to a foreground probability ``[1, *spatial]`` (or any other shape).

    Apply it last, to the probability that is used: after ``OrdinalToForeground`` or ``LevelMapsd``, and after maps were
    brought back to the image's grid.

    Args:
        calibrator: a calibrator of ``monai_multirater.calibration``, or the name of one in ``file`` (``temperature``,
            ``platt``, ``isotonic``), or ``none``, which passes the probability through unchanged.
        file: what ``FitCalibrators`` wrote (``calibration.json``); only read, at once, for a name other than ``none``.

    Raises:
        ValueError: unknown name, a name without a file, or a method that could not be fitted.
        FileNotFoundError: there is no such file.
    """

    backend = [TransformBackends.TORCH]  # noqa: RUF012

    def __init__(self, calibrator: Calibrator | str = "none", *, file: str | os.PathLike[str] | None = None) -> None:
        self.calibrator: Calibrator | None = None
        if not isinstance(calibrator, str):
            self.calibrator = calibrator
        elif calibrator != "none":
            if calibrator not in CALIBRATORS:
                known = ", ".join(("none", *CALIBRATORS))
                raise ValueError(f"CalibrateProbability: 'calibrator' must be one of {known}, got {calibrator!r}.")
            if file is None:
                raise ValueError(f"CalibrateProbability: 'file' must say where {calibrator} is written, got None.")
            self.calibrator = CalibrationRecord.load(file).calibrator(calibrator)

    def __call__(self, probability: Tensor) -> Tensor:
        """Return the calibrated probability, float32 or float64, meta data kept; NaN stays NaN."""
        if self.calibrator is None:
            return probability
        calibrated = self.calibrator(probability)
        result: Tensor = convert_to_dst_type(calibrated, probability, dtype=calibrated.dtype)[0]
        return result


class CalibrateProbabilityd(MapTransform):
    """Dictionary form of ``CalibrateProbability``.

    Args:
        keys: keys of the probabilities.
        calibrator: as in ``CalibrateProbability``.
        file: as in ``CalibrateProbability``.
        allow_missing_keys: pass on samples without a key unchanged.
    """

    backend = CalibrateProbability.backend

    def __init__(
        self,
        keys: KeysCollection,
        calibrator: Calibrator | str = "none",
        *,
        file: str | os.PathLike[str] | None = None,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.calibrate = CalibrateProbability(calibrator, file=file)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return the sample with calibrated probabilities."""
        sample = dict(data)
        for key in self.key_iterator(sample):
            sample[key] = self.calibrate(sample[key])
        return sample
