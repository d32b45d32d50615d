# SPDX-License-Identifier: Apache-2.0
"""The plan of another study, from the pairs of a finished one."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from monai_multirater.agreement.planning import Panel, required_cases

__all__ = ["plan_from_study"]


def plan_from_study(
    folder: str | Path,
    width: float,
    *,
    measure: str = "dice",
    raters: Sequence[int] = (2, 3, 5),
    same_raters: bool = False,
    seed: int = 0,
) -> pd.DataFrame:
    """Return the fewest cases for an interval of the mean agreement that is at most ``width`` wide.

    Args:
        folder: of a finished study; its ``pairs.csv`` is the pilot.
        width: of the 95 % interval, in units of the measure.
        measure: of pairs.
        raters: numbers of raters per case.
        same_raters: whether the same raters mark all cases.
        seed: of the simulation.

    Returns:
        See :func:`~monai_multirater.agreement.planning.required_cases`.

    Raises:
        ValueError: no finished study in the folder, or what ``required_cases`` refuses.
    """
    path = Path(folder) / "pairs.csv"
    if not path.is_file():
        raise ValueError(f"plan_from_study: {folder} must hold a finished agreement study. There is no pairs.csv.")
    pairs = pd.read_csv(path, dtype={"case": str, "rater_a": str, "rater_b": str}, keep_default_na=True)
    panel: Panel = "fixed" if same_raters else "per case"
    return required_cases(width, pairs, measure=measure, raters=raters, panel=panel, seed=seed)
