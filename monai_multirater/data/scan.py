# SPDX-License-Identifier: Apache-2.0
"""Match images and the masks of several raters by file name."""

from __future__ import annotations

import csv
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from monai_multirater.data.datalist import CaseRecord
from monai_multirater.data.problems import ManifestError, Problem
from monai_multirater.data.readers import SUFFIXES, file_stem, file_suffix


@dataclass(frozen=True)
class NameRule:
    """How a file name becomes a case name.

    The suffix is removed, then the first of ``strip`` that ends the name, then ``match`` is searched: its
    first group, or the whole match, is the case.

    Args:
        strip: endings to remove, for example ``("_mask", "_seg")``.
        match: regular expression, or None.
    """

    strip: tuple[str, ...] = ()
    match: str | None = None

    def __post_init__(self) -> None:
        _compile(self.match, "match")

    def case(self, name: str) -> str | None:
        """Return the case of a file name; None when ``match`` does not occur in it."""
        stem = file_stem(name)
        ending = next((e for e in sorted(self.strip, key=len, reverse=True) if e and stem.endswith(e)), "")
        stem = stem[: len(stem) - len(ending)]
        return _first_group(self.match, stem)


def _compile(pattern: str | None, name: str) -> None:
    try:
        re.compile(pattern or "")
    except re.error as error:
        raise ValueError(f"build_manifest: '{name}' is not a regular expression, got {pattern!r}: {error}.") from None


def _first_group(pattern: str | None, text: str) -> str | None:
    if pattern is None:
        return text or None
    found = re.search(pattern, text)
    if found is None:
        return None
    return found.group(1) if found.re.groups else found.group(0)


def rater_folders(root: Path, images: str, truth: str | None) -> tuple[str, ...]:
    """Names of all folders of ``root`` that hold image files, without the images and the truth."""
    skip = {images, truth, "truth"}
    folders = [p for p in root.iterdir() if p.is_dir() and p.name not in skip and not p.name.startswith(".")]
    return tuple(sorted(p.name for p in folders if any(file_suffix(f) in SUFFIXES for f in p.iterdir())))


def scan_folders(
    root: Path,
    *,
    images: str,
    raters: Sequence[str],
    truth: str | None,
    rule: NameRule,
    skip_unmatched: bool,
) -> list[CaseRecord]:
    """List the cases below ``root``; see ``build_manifest`` for the arguments.

    Raises:
        ManifestError: missing folders, two files of one case in a folder, files without a counterpart.
    """
    problems: list[Problem] = []
    found = {folder: _scan(root, folder, rule, problems) for folder in (images, *raters, *([truth] if truth else []))}
    if not problems:
        problems += _unmatched(found, images, tuple(raters), skip_unmatched)
    if problems:
        raise ManifestError(root, problems)
    records = []
    for case, image in sorted(found[images].items()):
        ratings = {rater: found[rater][case] for rater in raters if case in found[rater]}
        if ratings:
            records.append(CaseRecord(case, image, ratings, found[truth].get(case) if truth else None))
    return records


def _scan(root: Path, folder: str, rule: NameRule, problems: list[Problem]) -> dict[str, str]:
    path = root / folder
    if not path.is_dir():
        problems.append(Problem("the folder does not exist", path=str(path)))
        return {}
    cases: dict[str, str] = {}
    for file in sorted(path.iterdir()):
        if not file.is_file() or file.name.startswith(".") or file_suffix(file) not in SUFFIXES:
            continue
        case, relative = rule.case(file.name), f"{folder}/{file.name}"
        if case is None:
            continue
        if case in cases:
            problems.append(Problem(f"is also {cases[case]}", case=case, path=relative))
        cases.setdefault(case, relative)
    if not cases:
        problems.append(Problem(f"holds no case; known formats: {', '.join(SUFFIXES)}", path=str(path)))
    return cases


def _unmatched(found: dict[str, dict[str, str]], images: str, raters: tuple[str, ...], skip: bool) -> list[Problem]:
    known = set(found[images])
    if not any(known & set(found[rater]) for rater in raters):
        mine = ", ".join(sorted(known)[:3])
        theirs = ", ".join(sorted(found[raters[0]])[:3])
        reason = f"no mask has the name of an image: images are called {mine}, masks of {raters[0]} {theirs}"
        return [Problem(f"{reason}; see the options strip and match")]
    if skip:
        return []
    problems = [
        Problem("has no image (skip such files with skip-unmatched)", case=case, rater=folder, path=path)
        for folder, cases in found.items()
        for case, path in cases.items()
        if case not in known
    ]
    marked = {case for rater in raters for case in found[rater]}
    problems += [
        Problem("no rater marked it (skip such files with skip-unmatched)", case=case, path=path)
        for case, path in found[images].items()
        if case not in marked
    ]
    return problems


def group_by_regex(records: Sequence[CaseRecord], pattern: str) -> list[CaseRecord]:
    """Set ``group`` to the first group (or the whole match) of ``pattern`` in the case name.

    Raises:
        ManifestError: listing the cases in which the pattern does not occur.
    """
    _compile(pattern, "group_regex")
    groups = [_first_group(pattern, record.case) for record in records]
    problems = [
        Problem(f"the group pattern {pattern!r} does not occur in its name", case=record.case)
        for record, group in zip(records, groups, strict=True)
        if group is None
    ]
    if problems:
        raise ManifestError("groups", problems)
    return [replace(record, group=group) for record, group in zip(records, groups, strict=True)]


def join_table(records: Sequence[CaseRecord], table: Path) -> list[CaseRecord]:
    """Add columns of a CSV file to the cases: ``group``, ``diagnosis``, others as extra keys.

    The file has a column ``case``. Numbers are read as numbers, empty cells are left out.

    Raises:
        ManifestError: if the file cannot be read, has no column ``case``, repeats a case or lacks one.
    """
    try:
        with table.open(newline="", encoding="utf-8-sig") as file:
            rows = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ManifestError(table, [Problem(f"cannot be read as CSV: {error}")]) from None
    if not rows or "case" not in rows[0]:
        raise ManifestError(table, [Problem("must have a column 'case' and at least one row")])
    names = [row["case"] for row in rows]
    problems = [Problem("is listed twice", case=name) for name in sorted({n for n in names if names.count(n) > 1})]
    by_case = dict(zip(names, rows, strict=True))
    problems += [Problem("is not in the table", case=r.case) for r in records if r.case not in by_case]
    reserved = {"image", "ratings", "truth"} & set(rows[0])
    problems += [Problem(f"a column may not be called '{name}'") for name in sorted(reserved)]
    if problems:
        raise ManifestError(table, problems)
    return [_joined(record, by_case[record.case]) for record in records]


def _joined(record: CaseRecord, row: dict[str, str]) -> CaseRecord:
    values = {key: value for key, value in row.items() if key and key != "case" and value not in ("", None)}
    group = values.pop("group", record.group)
    cells = {key: _number(value) for key, value in values.items()}
    diagnosis = cells.pop("diagnosis", record.diagnosis)
    return replace(record, group=group, diagnosis=diagnosis, extra={**record.extra, **cells})


def _number(text: str) -> int | float | str:
    for kind in (int, float):
        try:
            value = kind(text)
        except ValueError:
            continue
        if value == value and abs(value) != float("inf"):
            return value
    return text
