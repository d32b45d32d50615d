# SPDX-License-Identifier: Apache-2.0
"""What a folder of fused cases remembers: how it was made, and one record per finished case."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from monai_multirater.studies.records import RequestFolder, file_name, stats, write_json

__all__ = ["FusingFolder"]

_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class FusingFolder(RequestFolder):
    """A folder of fused cases; its request is in ``fusing.json``."""

    request_file: ClassVar[str] = "fusing.json"
    content: ClassVar[str] = "cases that were fused"

    def record_path(self, case: str) -> Path:
        """Return the file that exists when a case is finished."""
        return self.path / ".cases" / f"{file_name(case)}.json"

    def clear(self) -> None:
        """Remove what was fused in another way."""
        records = sorted((self.path / ".cases").glob("[!.]*.json"))
        _logger.info("%s: removing %d cases that were fused in another way.", self.path, len(records))
        for path in records:
            self._remove(path)

    def _remove(self, path: Path) -> None:
        record = _load(path) or {}
        for output in record.get("outputs", ()):
            (self.path / output).unlink(missing_ok=True)
        path.unlink()

    def finished(self, case: str, inputs: Sequence[str | Path]) -> dict[str, Any] | None:
        """Return the record of a case if it was fused in this way from the same files and its outputs are there."""
        record = _load(self.record_path(case))
        if record is None or record.get("request") != self.digest:
            return None
        if record.get("inputs") != stats(inputs):
            return None
        return record if all((self.path / output).is_file() for output in record["outputs"]) else None

    def finish(
        self,
        case: str,
        inputs: Sequence[Sequence[Any]],
        outputs: Sequence[Path],
        content: Mapping[str, Any],
    ) -> dict[str, Any]:
        """Write the record of a case, after everything else, and return it.

        Args:
            case: its name.
            inputs: :func:`stats` of its files, taken before they were read.
            outputs: files written.
            content: rows of the tables.
        """
        record = {
            "request": self.digest,
            "inputs": [list(entry) for entry in inputs],
            "outputs": [path.relative_to(self.path).as_posix() for path in outputs],
            **content,
        }
        write_json(self.record_path(case), record)
        return record


def _load(path: Path) -> dict[str, Any] | None:
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError):
        return None
