# SPDX-License-Identifier: Apache-2.0
"""What is asked of an agreement study, and the folder that remembers what was measured."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from monai_multirater.agreement.measures import GROUP_MEASURES, MEASURES, OVERLAP_MEASURES, SURFACE_MEASURES
from monai_multirater.data import Manifest
from monai_multirater.data.readers import NUMPY_SUFFIXES, PILLOW_SUFFIXES
from monai_multirater.data.writers import write_atomically
from monai_multirater.studies.records import RequestFolder

__all__ = ["HD95_DEFINITIONS", "AgreementFolder", "AgreementRequest", "Record", "nearest"]

HD95_DEFINITIONS = ("larger", "pooled", "area")
Record = dict[str, Any]
RECORDS = 2
"""Changes when records hold something else, so that cases of an older version are measured again."""
_FUNCTION = "agreement_study"


def nearest(name: str, known: Iterable[str]) -> str:
    """Say which of the known names are closest to an unknown one, or all of them."""
    import difflib

    names = list(dict.fromkeys(known))
    close = difflib.get_close_matches(name, names, n=3, cutoff=0.5)
    if close:
        return f"closest: {', '.join(close)}"
    return f"there are: {', '.join(names)}" if names else "there are none"


@dataclass(frozen=True)
class AgreementRequest:
    """What decides the measured values.

    Attributes:
        measures: names in ``MEASURES``, in its order; Dice is always among them.
        tolerance: of the surface Dice, in ``unit``.
        hd95: definition of the 95th percentile Hausdorff distance.
        size: grid that 2D masks are resampled to, nearest neighbor; None leaves them.
        unit: ``"mm"`` or ``"voxels"``.
        content: what the folder remembers of the request.
    """

    measures: tuple[str, ...]
    tolerance: float
    hd95: str
    size: tuple[int, int] | None
    unit: str
    content: Mapping[str, Any]

    @classmethod
    def of(
        cls,
        data: Manifest,
        path: Path,
        *,
        measures: str | Sequence[str],
        tolerance: float,
        hd95: str,
        size: int | Sequence[int] | None,
        voxels: bool,
    ) -> AgreementRequest:
        """Make the request of a data set.

        Raises:
            ValueError: for an unknown measure or definition, a negative tolerance or a size that is no grid.
        """
        if hd95 not in HD95_DEFINITIONS:
            raise ValueError(f"{_FUNCTION}: hd95 must be one of {', '.join(HD95_DEFINITIONS)}. Got {hd95!r}.")
        if not tolerance >= 0 or not math.isfinite(tolerance):
            raise ValueError(f"{_FUNCTION}: tolerance must be a length of at least 0. Got {tolerance}.")
        names, grid = _measures(measures), _grid(size)
        masks = (mask for record in data.cases for mask in record.ratings.values())
        flat = voxels or any(mask.lower().endswith((*PILLOW_SUFFIXES, *NUMPY_SUFFIXES)) for mask in masks)
        unit = "voxels" if flat else "mm"
        content = {
            "records": RECORDS,
            "manifest": str(path.resolve()),
            "raters": list(data.raters),
            "measures": list(names),
            "tolerance": tolerance,
            "hd95": hd95,
            "size": None if grid is None else list(grid),
            "unit": unit,
        }
        return cls(names, float(tolerance), hd95, grid, unit, content)

    def chosen(self, table: Mapping[str, Any]) -> tuple[str, ...]:
        """Names of the measures that are in this table of definitions."""
        return tuple(name for name in self.measures if name in table)

    @property
    def surfaces(self) -> bool:
        """Whether distances are measured."""
        return bool(self.chosen(SURFACE_MEASURES))


def _measures(measures: str | Sequence[str]) -> tuple[str, ...]:
    groups: dict[str, Mapping[str, Any]] = {
        "all": MEASURES,
        "overlap": OVERLAP_MEASURES,
        "surface": SURFACE_MEASURES,
        "group": GROUP_MEASURES,
    }
    asked = [measures] if isinstance(measures, str) else list(measures)
    chosen = {"dice"}
    for name in asked:
        if name not in groups and name not in MEASURES:
            raise ValueError(f"{_FUNCTION}: unknown measure {name!r}; {nearest(name, [*groups, *MEASURES])}.")
        chosen |= set(groups.get(name, (name,)))
    return tuple(name for name in MEASURES if name in chosen)


def _grid(size: int | Sequence[int] | None) -> tuple[int, int] | None:
    if size is None:
        return None
    grid = (size, size) if isinstance(size, int) else tuple(size)
    if len(grid) != 2 or not all(isinstance(n, int) and n > 0 for n in grid):
        raise ValueError(f"{_FUNCTION}: size must be one or two positive whole numbers. Got {size!r}.")
    return (grid[0], grid[1])


@dataclass(frozen=True)
class AgreementFolder(RequestFolder):
    """Folder of an agreement study; its request is in ``request.json``, measured cases in ``.cases/*.jsonl``."""

    request_file: ClassVar[str] = "request.json"
    content: ClassVar[str] = "cases that were measured"

    def check(self, *, overwrite: bool) -> dict[str, str]:
        """As :meth:`RequestFolder.check`.

        Raises:
            ValueError: also if there is a file of this name.
        """
        if self.path.exists() and not self.path.is_dir():
            raise ValueError(f"{_FUNCTION}: out must be a folder. Got the file {self.path}.")
        return super().check(overwrite=overwrite)

    def clear(self) -> None:
        """Remove what was measured in another way."""
        for path in self.record_files():
            path.unlink()

    def record_files(self) -> list[Path]:
        """Return the files of finished chunks of cases."""
        return sorted((self.path / ".cases").glob("[!.]*.jsonl"))

    def write(self, records: Sequence[Record]) -> Path:
        """Write the records of a chunk; they appear complete or not at all."""
        names = "\n".join(record["case"] for record in records)
        name = hashlib.blake2b(names.encode(), digest_size=10).hexdigest()
        lines = [json.dumps({"request": self.digest}), *(json.dumps(record) for record in records)]
        text = "\n".join(lines) + "\n"
        path = self.path / ".cases" / f"{name}.jsonl"
        return write_atomically(path, lambda target: Path(target).write_text(text, encoding="utf-8"))

    def load(self) -> dict[str, list[Record]]:
        """Return what was measured in this way, by case; several records where a case was measured again."""
        found: dict[str, list[Record]] = {}
        for path in self.record_files():
            for record in self._read(path):
                found.setdefault(record["case"], []).append(record)
        return found

    def _read(self, path: Path) -> list[Record]:
        try:
            first, *records = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
            return records if first["request"] == self.digest else []
        except (OSError, ValueError, KeyError, TypeError):
            return []
