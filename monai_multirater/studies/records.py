# SPDX-License-Identifier: Apache-2.0
"""What the folder of a whole job remembers: its request, names and states of files, tables."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar

from monai_multirater.data import Manifest
from monai_multirater.data.writers import TEMPORARY, write_atomically

__all__ = ["RequestFolder", "file_name", "plain", "select_splits", "stats", "write_csv", "write_json"]

_UNSAFE = re.compile(r'[\x00-\x1f\x7f/\\:*?"<>|%]|^\.|[. ]$')


def file_name(case: str) -> str:
    """Return the name of a case as it can stand in a file name: other characters become ``%`` and their code."""
    return _UNSAFE.sub(lambda match: f"%{ord(match.group()):02X}", case)


def plain(value: Any) -> Any:
    """NaN as None, in lists and dictionaries too: JSON has no NaN."""
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [plain(item) for item in value]
    return None if isinstance(value, float) and math.isnan(value) else value


def stats(paths: Sequence[str | Path]) -> list[list[Any]]:
    """Name, size and time of change (ns) of files; enough to see that one was replaced."""
    return [[Path(path).name, (state := Path(path).stat()).st_size, state.st_mtime_ns] for path in paths]


def write_json(path: Path, content: Any) -> Path:
    """Write JSON; it appears under its name complete or not at all."""
    text = json.dumps(content, indent=1, ensure_ascii=False) + "\n"
    return write_atomically(path, lambda name: Path(name).write_text(text, encoding="utf-8"))


def write_csv(path: Path, columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> Path:
    """Write a table; it appears under its name complete or not at all."""
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return write_atomically(path, lambda name: Path(name).write_text(text.getvalue(), encoding="utf-8"))


def select_splits(manifest: Manifest, splits: Sequence[str], *, function: str) -> Manifest:
    """Return the data set with some of its splits, all if none is named.

    Raises:
        ValueError: for a split that does not exist.
    """
    unknown = [split for split in splits if split not in manifest.splits]
    if unknown:
        raise ValueError(f"{function}: the splits are {', '.join(manifest.splits)}. Got {', '.join(unknown)}.")
    chosen = {name: records for name, records in manifest.splits.items() if not splits or name in splits}
    return replace(manifest, splits=chosen)


@dataclass(frozen=True)
class RequestFolder:
    """A folder of results that remembers what was asked.

    Attributes:
        path: the folder.
        request: everything that decides the results, as JSON holds it.
    """

    path: Path
    request: Mapping[str, Any] = field(default_factory=dict)
    request_file: ClassVar[str]
    content: ClassVar[str]

    @property
    def digest(self) -> str:
        """Short name of the request."""
        text = json.dumps(self.request, sort_keys=True)
        return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()

    def check(self, *, overwrite: bool) -> dict[str, str]:
        """Return what differs between the request and that of the results in the folder; empty if nothing does.

        Raises:
            ValueError: if something differs and ``overwrite`` is False, or the folder's own file cannot be read.
        """
        path = self.path / self.request_file
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
                f"{self.path} holds {self.content} in another way ({'; '.join(changes.values())}). Give another "
                "folder, or --overwrite."
            )
        return changes

    def open(self, *, overwrite: bool) -> None:
        """Make the folder ready: remove what was made in another way and files that were never finished.

        Raises:
            ValueError: as :meth:`check`.
        """
        if self.check(overwrite=overwrite):
            self.clear()
        for path in [*self.path.glob(f"*/.*{TEMPORARY}*"), *self.path.glob(f".*{TEMPORARY}*")]:
            path.unlink(missing_ok=True)
        write_json(self.path / self.request_file, dict(self.request))

    def clear(self) -> None:
        """Remove results that were made in another way."""
        raise NotImplementedError
