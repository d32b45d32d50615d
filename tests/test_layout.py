# SPDX-License-Identifier: Apache-2.0
"""The house rules that a reader of the imports can check."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "monai_multirater"
FLOORS = (
    {"votes", "_version"},
    {"fusion", "agreement", "ordinal", "calibration", "distribution", "resampling"},
    {"transforms", "losses", "metrics", "networks", "data"},
    {"handlers"},
    {"visualize"},
    {"studies"},
    {"bundles"},
    {"cli"},
)
MODULES = sorted(p for p in PACKAGE.rglob("*.py") if p.parent != PACKAGE or p.name != "__init__.py")


def _room(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def _floor(room: str) -> int:
    return next(i for i, rooms in enumerate(FLOORS) if room in rooms)


def _imported(path: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path.name}: relative import"
            names.add(str(node.module))
    return names


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_go_one_way(path: Path) -> None:
    room, floor = _room(path), _floor(_room(path))
    for name in _imported(path):
        if name.split(".")[0] == "monai_multirater" and "." in name:
            other = name.split(".")[1]
            assert other == room or _floor(other) < floor, f"{room} (floor {floor}) imports {other}"


@pytest.mark.parametrize(
    "path", [p for p in MODULES if _floor(_room(p)) < 2], ids=lambda p: str(p.relative_to(PACKAGE))
)
def test_the_first_two_floors_do_not_know_monai(path: Path) -> None:
    assert not {name for name in _imported(path) if name.split(".")[0] in {"monai", "ignite"}}


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_modules_stay_readable(path: Path) -> None:
    limit = 500 if _room(path) == "networks" else 300
    assert len(path.read_text(encoding="utf-8").splitlines()) <= limit
