# SPDX-License-Identifier: Apache-2.0
"""The JSON manifest of a multi-rater data set: read, write, list.

``{"name": ..., "raters": ["A", "B"], "training": [{"case": "b01", "image": "images/b01.png",
"ratings": {"A": "A/b01.png"}, "truth": ..., "group": ..., "diagnosis": ...}], "validation": [...]}``

Paths are relative to the manifest's folder, use ``/`` and may not leave it once ``..`` is resolved; symbolic
links inside of the folder may point anywhere. A rater that is absent from ``ratings`` did not mark the case.
Top-level keys that are not lists of cases are kept as ``meta``; unknown keys of a case are kept as ``extra``.
"""

from __future__ import annotations

import json
import os
import posixpath
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from monai_multirater.data.problems import ManifestError, Problem, path_problem

__all__ = [
    "CaseRecord",
    "Manifest",
    "ManifestError",
    "Problem",
    "datalist",
    "read_manifest",
    "structure_problems",
    "write_manifest",
]

_CASE_KEYS = ("case", "image", "ratings", "truth", "group", "diagnosis")


@dataclass(frozen=True)
class CaseRecord:
    """One case of a manifest; paths are relative to the manifest's folder."""

    case: str
    image: str
    ratings: Mapping[str, str]
    truth: str | None = None
    group: str | None = None
    diagnosis: Any = None
    extra: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Manifest:
    """A data set: name, raters in fixed order, named splits, and the folder its paths are relative to."""

    name: str
    raters: tuple[str, ...]
    splits: Mapping[str, tuple[CaseRecord, ...]]
    root: Path
    meta: Mapping[str, Any] = field(default_factory=dict)

    def path(self, relative: str) -> Path:
        """Absolute path of a manifest entry.

        Raises:
            ValueError: if it is absolute or leaves the folder.
        """
        reason = path_problem(relative)
        if reason:
            raise ValueError(f"Manifest.path: {relative!r} {reason}.")
        return self.root / posixpath.normpath(relative)

    @property
    def cases(self) -> tuple[CaseRecord, ...]:
        """All cases of all splits, in order."""
        return tuple(record for records in self.splits.values() for record in records)


def read_manifest(path: str | Path) -> Manifest:
    """Read a manifest and validate its structure; ``check_manifest`` also opens the files.

    Args:
        path: the JSON file.

    Returns:
        The manifest; ``root`` is the absolute folder of ``path``.

    Raises:
        ManifestError: listing everything wrong: not JSON, missing keys, unknown rater, duplicated case, path
            that leaves the folder, case without rater, empty split.
    """
    path = Path(path)
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ManifestError(path, [Problem("the manifest does not exist")]) from None
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ManifestError(path, [Problem(f"cannot be read as JSON: {error}")]) from None
    manifest, problems = _parse(content, Path(os.path.abspath(path)).parent)  # noqa: PTH100 - keeps symlinks
    problems += structure_problems(manifest)
    if problems:
        raise ManifestError(path, problems)
    return manifest


def _parse(content: Any, root: Path) -> tuple[Manifest, list[Problem]]:
    if not isinstance(content, dict):
        return Manifest("", (), {}, root), [Problem(f"must hold a JSON object, got {type(content).__name__}")]
    problems: list[Problem] = []
    raters = content.get("raters", [])
    if not isinstance(raters, list) or not all(isinstance(r, str) and r for r in raters):
        problems.append(Problem(f"'raters' must be a list of names, got {raters!r}"))
        raters = []
    splits: dict[str, tuple[CaseRecord, ...]] = {}
    meta: dict[str, Any] = {}
    for key, value in content.items():
        if key in ("name", "raters"):
            continue
        if isinstance(value, list) and all(isinstance(item, dict) for item in value):
            splits[key] = tuple(_parse_case(item, key, index, problems) for index, item in enumerate(value))
        else:
            meta[key] = value
    return Manifest(str(content.get("name", "")), tuple(raters), splits, root, meta), problems


def _parse_case(item: dict[str, Any], split: str, index: int, problems: list[Problem]) -> CaseRecord:
    name = item.get("case")
    case = str(name) if name is not None else f"{split}[{index}]"
    if name is None:
        problems.append(Problem("'case' is missing", case=case))
    image, ratings, truth = item.get("image"), item.get("ratings", {}), item.get("truth")
    if not isinstance(image, str):
        problems.append(Problem(f"'image' must be a path, got {image!r}", case=case))
        image = ""
    if not isinstance(ratings, dict) or not all(isinstance(p, str) for p in ratings.values()):
        problems.append(Problem("'ratings' must map rater to path; leave out raters that did not mark", case=case))
        ratings = {str(r): p for r, p in ratings.items() if isinstance(p, str)} if isinstance(ratings, dict) else {}
    if truth is not None and not isinstance(truth, str):
        problems.append(Problem(f"'truth' must be a path, got {truth!r}", case=case))
        truth = None
    group = item.get("group")
    extra = {key: value for key, value in item.items() if key not in _CASE_KEYS}
    return CaseRecord(case, image, ratings, truth, None if group is None else str(group), item.get("diagnosis"), extra)


def structure_problems(manifest: Manifest) -> list[Problem]:
    """What is wrong with a manifest without opening any file."""
    problems = [Problem("lists no rater")] if not manifest.raters else []
    for rater in sorted({r for r in manifest.raters if manifest.raters.count(r) > 1}):
        problems.append(Problem("is listed twice in 'raters'", rater=rater))
    if not manifest.splits:
        problems.append(Problem("has no split; expected lists such as 'training', 'validation', 'test'"))
    seen: dict[str, str] = {}
    for split, records in manifest.splits.items():
        if not records:
            problems.append(Problem(f"split '{split}' is empty"))
        for record in records:
            if record.case in seen:
                problems.append(Problem(f"is listed twice, in '{seen[record.case]}' and '{split}'", case=record.case))
            seen.setdefault(record.case, split)
            problems += _record_problems(record, manifest.raters)
    return problems


def _record_problems(record: CaseRecord, raters: tuple[str, ...]) -> list[Problem]:
    problems = [] if record.ratings else [Problem("no rater marked it", case=record.case)]
    entries = [("", record.image), *record.ratings.items(), *([("", record.truth)] if record.truth else [])]
    for rater, path in entries:
        if rater and rater not in raters:
            problems.append(Problem("is not listed in 'raters'", case=record.case, rater=rater, path=path))
        reason = path_problem(path) if path else ""
        if reason:
            problems.append(Problem(reason, case=record.case, rater=rater, path=path))
    return problems


def write_manifest(manifest: Manifest, path: str | Path) -> Path:
    """Write a manifest as JSON; it appears under its name complete or not at all.

    Args:
        manifest: its paths must be relative to the folder of ``path``.
        path: the file to write.

    Returns:
        ``path``.

    Raises:
        ManifestError: if the structure is wrong.
    """
    path = Path(path)
    problems = structure_problems(manifest)
    if problems:
        raise ManifestError(path, problems)
    content: dict[str, Any] = {"name": manifest.name, "raters": list(manifest.raters), **manifest.meta}
    for split, records in manifest.splits.items():
        content[split] = [_case_content(record, manifest.raters) for record in records]
    handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(handle, "w", encoding="utf-8", newline="\n") as file:
            file.write(json.dumps(content, indent=1, ensure_ascii=False) + "\n")
        Path(temporary).chmod(0o644)
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    return path


def _case_content(record: CaseRecord, raters: tuple[str, ...]) -> dict[str, Any]:
    content: dict[str, Any] = {"case": record.case, "image": record.image}
    content["ratings"] = {rater: record.ratings[rater] for rater in raters if rater in record.ratings}
    for key in ("truth", "group", "diagnosis"):
        if getattr(record, key) is not None:
            content[key] = getattr(record, key)
    return {**content, **record.extra}


def datalist(manifest: Manifest | str | Path, split: str, *, check: str | None = None) -> list[dict[str, Any]]:
    """List the cases of a split as MONAI sample dictionaries.

    Args:
        manifest: a manifest, or the path of one.
        split: name of the split.

    Returns:
        Dictionaries with absolute paths: ``case``, ``image``, ``ratings`` (tuple in the order of the
        manifest's raters, ``None`` where a rater did not mark the case), and where known ``truth``,
        ``group``, ``diagnosis`` and further keys of the case.

    Raises:
        ManifestError: see :func:`read_manifest`.
        ValueError: if the split does not exist.
    """
    if not isinstance(manifest, Manifest):
        manifest = read_manifest(manifest)
    if split not in manifest.splits:
        raise ValueError(f"datalist: 'split' must be one of {sorted(manifest.splits)}, got {split!r}.")
    items = []
    for record in manifest.splits[split]:
        ratings = tuple(
            str(manifest.path(record.ratings[rater])) if rater in record.ratings else None for rater in manifest.raters
        )
        item: dict[str, Any] = {
            "case": record.case,
            "image": str(manifest.path(record.image)),
            "ratings": ratings,
        }
        if record.truth is not None:
            item["truth"] = str(manifest.path(record.truth))
        for key in ("group", "diagnosis"):
            if getattr(record, key) is not None:
                item[key] = getattr(record, key)
        items.append({**record.extra, **item})
    return items
