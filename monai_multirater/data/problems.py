# SPDX-License-Identifier: Apache-2.0
"""What can be wrong with a data set, collected so that all of it is reported at once."""

from __future__ import annotations

import posixpath
from dataclasses import dataclass
from pathlib import Path, PureWindowsPath


@dataclass(frozen=True)
class Problem:
    """One thing wrong with a data set. Empty strings mean: does not concern one case, rater or path."""

    reason: str
    case: str = ""
    rater: str = ""
    path: str = ""

    def __str__(self) -> str:
        parts = [
            f"case {self.case}" if self.case else "",
            f"rater {self.rater}" if self.rater else "",
            self.path,
        ]
        where = ", ".join(part for part in parts if part)
        return f"{where}: {self.reason}" if where else self.reason


class ManifestError(ValueError):
    """All problems of a data set in one error; ``problems`` holds them one by one."""

    def __init__(self, source: str | Path, problems: list[Problem]) -> None:
        self.problems = tuple(problems)
        plural = "problem" if len(problems) == 1 else "problems"
        lines = [f"{source}: {len(problems)} {plural}", *(f"  - {problem}" for problem in problems)]
        super().__init__("\n".join(lines))


def path_problem(relative: str) -> str:
    """Why a path may not stand in a manifest; an empty string when it may."""
    if not relative or "\0" in relative:
        return "is not a path"
    if relative[0] in "/\\" or (":" in relative and PureWindowsPath(relative).anchor):
        return "is absolute; paths are relative to the manifest's folder"
    if "\\" in relative:
        return "contains a backslash; use '/'"
    if posixpath.normpath(relative).split("/")[0] == "..":
        return "leaves the manifest's folder"
    return ""
