# SPDX-License-Identifier: Apache-2.0
"""What a folder of fused cases remembers: how it was made, and one record per finished case."""

from __future__ import annotations

import hashlib
import json
import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from monai_multirater.data.writers import TEMPORARY, write_atomically

__all__ = ["FusingFolder", "file_name", "stats", "write_json"]

_logger = logging.getLogger(__name__)
_UNSAFE = re.compile(r'[\x00-\x1f\x7f/\\:*?"<>|%]|^\.|[. ]$')


def file_name(case: str) -> str:
    """Return the name of a case as it can stand in a file name: other characters become ``%`` and their code."""
    return _UNSAFE.sub(lambda match: f"%{ord(match.group()):02X}", case)


def write_json(path: Path, content: Any) -> Path:
    """Write JSON; it appears under its name complete or not at all."""
    text = json.dumps(content, indent=1, ensure_ascii=False) + "\n"
    return write_atomically(path, lambda name: Path(name).write_text(text, encoding="utf-8"))


@dataclass(frozen=True)
class FusingFolder:
    """A folder of fused cases.

    Attributes:
        path: the folder.
        request: everything that decides the results, as JSON holds it; in ``fusing.json``.
    """

    path: Path
    request: Mapping[str, Any] = field(default_factory=dict)

    @property
    def digest(self) -> str:
        """Short name of the request."""
        text = json.dumps(self.request, sort_keys=True)
        return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()

    def record_path(self, case: str) -> Path:
        """Return the file that exists when a case is finished."""
        return self.path / ".cases" / f"{file_name(case)}.json"

    def check(self, *, overwrite: bool) -> dict[str, str]:
        """Return what differs between the request and that of the results in the folder; empty if nothing does.

        Raises:
            ValueError: if something differs and ``overwrite`` is False, or the folder's own file cannot be read.
        """
        path = self.path / "fusing.json"
        if not path.is_file():
            return {}
        try:
            then = dict(json.loads(path.read_text(encoding="utf-8")))
        except ValueError as error:
            raise ValueError(f"{path} cannot be read: {error}") from None
        changes = {
            key: f"{key} was {then.get(key)}, is {self.request.get(key)}"
            for key in sorted({*then, *self.request})
            if then.get(key) != self.request.get(key)
        }
        if changes and not overwrite:
            raise ValueError(
                f"{self.path} holds cases that were fused in another way ({'; '.join(changes.values())}). Give another "
                "folder, or --overwrite."
            )
        return changes

    def open(self, *, overwrite: bool) -> None:
        """Make the folder ready: remove what was made in another way and files that were never finished.

        Raises:
            ValueError: as :meth:`check`.
        """
        if self.check(overwrite=overwrite):
            records = sorted((self.path / ".cases").glob("[!.]*.json"))
            _logger.info("%s: removing %d cases that were fused in another way.", self.path, len(records))
            for path in records:
                self._remove(path)
        for path in [*self.path.glob(f"*/.*{TEMPORARY}*"), *self.path.glob(f".*{TEMPORARY}*")]:
            path.unlink(missing_ok=True)
        write_json(self.path / "fusing.json", dict(self.request))

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


def stats(paths: Sequence[str | Path]) -> list[list[Any]]:
    """Name, size and time of change (ns) of files; enough to see that one was replaced."""
    return [[Path(path).name, (state := Path(path).stat()).st_size, state.st_mtime_ns] for path in paths]
