# SPDX-License-Identifier: Apache-2.0
"""An agreement study that starts from a table of pairs measured elsewhere."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from monai_multirater._version import __version__
from monai_multirater.agreement import find_outliers
from monai_multirater.agreement.measures import MEASURES
from monai_multirater.studies.agreement.evaluate import Question, evaluate
from monai_multirater.studies.agreement.factors import Factors, read_factors
from monai_multirater.studies.agreement.output import finish_study
from monai_multirater.studies.agreement.pairs import ExistingPairs, read_pairs
from monai_multirater.studies.agreement.problems import PROBLEM_COLUMNS, outlier_rows
from monai_multirater.studies.agreement.raters import by_rater, mean_with_others
from monai_multirater.studies.agreement.request import AgreementFolder
from monai_multirater.studies.agreement.result import AgreementStudy
from monai_multirater.studies.agreement.tables import case_means
from monai_multirater.studies.agreement.unordered import has_unordered

__all__ = ["agreement_from_pairs"]

_logger = logging.getLogger(__name__)


def agreement_from_pairs(
    table: str | Path,
    *,
    out: str | Path,
    title: str = "",
    case_column: str | None = None,
    rater_columns: Sequence[str] | None = None,
    measure_columns: Mapping[str, str] | None = None,
    exclude: Sequence[str] | None = None,
    factor_tables: Sequence[str | Path] = (),
    factor_key: str | None = None,
    factors: Sequence[str] | None = None,
    group: str | None = None,
    tested: Sequence[str] = ("dice",),
    unit: str = "voxels",
    seed: int = 0,
    resamples: int = 1000,
    permutations: int = 9999,
    overwrite: bool = False,
    report: bool = True,
) -> AgreementStudy:
    """Compare agreement by factors from an existing CSV table with one row per case and pair of raters.

    Columns with the usual names are recognized: the case (``case``, ``img_id``, ``image``, ...), the raters
    (``rater_a`` and ``rater_b``, ``annotator1`` and ``annotator2``, ...), measures (``dice`` or ``dice_score``,
    ``jaccard_score``, ``hd_score``, ``hd95_score``, ``assd_score``, ...). Two columns of one name with the endings 1
    and 2, _1 and _2 or _a and _b are a factor of masks; a column with one value per case and few values is a factor of
    cases. ``out`` gets the files of :func:`agreement_study` that do not need the masks.

    Two rows of a case may name the same two raters, or one rater twice: somebody may have marked an image twice.

    Args:
        table: the CSV file.
        out: the folder.
        title: name of the data set in the report; by default that of the file.
        case_column: name of the column of cases, where it is not recognized.
        rater_columns: names of the two columns of raters, likewise.
        measure_columns: column by measure of ``MEASURES``, likewise.
        exclude: rows that name one of these raters are left out. By default those whose name is that of a consensus
            (``ST``, ``MV``, ``STAPLE``, ``majority``, ...): such a mask is made from the others' and agrees with them
            for that reason. An empty sequence keeps everybody.
        factor_tables, factor_key, factors, group, tested: as in :func:`agreement_study`.
        unit: of distances, ``"voxels"`` or ``"mm"``.
        seed, resamples, permutations: as in :func:`agreement_study`.
        overwrite: replace what another request left in the folder, instead of refusing it.
        report: write ``report.html``.

    Returns:
        What was found. Columns that only masks can give are absent. A measure whose value depends on the order of the
        raters (sensitivity, specificity, volume difference) stays in the pairs and is not summarized: which order the
        table has is not known. ``sensitivity_reverse`` and ``specificity_reverse``, of the exchanged raters, change
        that.

    Raises:
        ValueError: a missing column, with the nearest ones there are; a value that is no number or out of range; no
            pairs; an unknown rater, factor, group or value; a folder that holds another study.
    """
    if unit not in ("voxels", "mm"):
        raise ValueError(f"agreement_from_pairs: unit must be voxels or mm. Got {unit!r}.")
    existing = read_pairs(
        Path(table),
        case_column=case_column,
        rater_columns=rater_columns,
        measure_columns=measure_columns,
        exclude=exclude,
        asked=[*(factors or ()), *([group.partition("=")[0]] if group else [])],
    )
    pairs, known = _split(existing)
    raters = sorted({*pairs["rater_a"], *pairs["rater_b"]})
    for path in factor_tables:
        known = known.merge(read_factors(Path(path), list(pairs["case"].unique()), raters, key=factor_key))
    question = Question(known, factors, group, tuple(tested), seed, resamples, permutations, existing.mask_factors)
    question.check([name for name in MEASURES if has_unordered(pairs, name)], pairs)
    request = {"pairs": str(Path(table).resolve()), "excluded": sorted(existing.excluded), "unit": unit}
    folder = AgreementFolder(Path(out).resolve(), request)
    folder.open(overwrite=overwrite)
    for remark in existing.remarks:
        _logger.warning("%s", remark)
    facts: dict[str, Any] = {
        "request": {**request, "pairs": Path(table).name},
        "version": __version__,
        "rows_excluded": dict(existing.excluded),
        "remarks": existing.remarks,
    }
    rows, problems = _rater_table(pairs, raters)
    study = evaluate(title or Path(table).stem, unit, pairs, _case_table(pairs), rows, problems, question, facts)
    return finish_study(study, folder.path, {"plan": question.plan(study.pairs)}, report=report)


def _split(existing: ExistingPairs) -> tuple[pd.DataFrame, Factors]:
    """Pairs without the factors of cases, and these as factors."""
    pairs = existing.pairs
    rows = pairs.drop_duplicates("case")
    cases: dict[str, dict[str, Any]] = {}
    for name in existing.case_factors:
        there = rows[rows[name].notna()]
        cases[name] = dict(zip(there["case"], there[name], strict=True))
    return pairs.drop(columns=list(existing.case_factors)), Factors(cases)


def _case_table(pairs: pd.DataFrame) -> pd.DataFrame:
    table = case_means(pairs, [name for name in MEASURES if name in pairs])
    counts = pairs.groupby("case", sort=False).size()
    names = by_rater(pairs)
    distinct = names.groupby("case", sort=False)["rater"].nunique()
    table.insert(1, "raters", [_masks(int(counts[case]), int(distinct[case])) for case in table["case"]])
    return table


def _masks(pairs: int, raters: int) -> int:
    """Masks of a case: as many as have so many pairs, where all are there; a rater may have marked it twice."""
    masks = (1 + math.isqrt(1 + 8 * pairs)) // 2
    return masks if masks * (masks - 1) == 2 * pairs else raters


def _rater_table(pairs: pd.DataFrame, raters: Sequence[str]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Table of raters and of the problems: who is an outlier."""
    both = by_rater(pairs[pairs["rater_a"] != pairs["rater_b"]])
    cases = list(pairs["case"].unique())
    matrix = np.full((len(cases), len(raters)), np.nan)
    places = {name: k for k, name in enumerate(cases)}
    columns = {name: k for k, name in enumerate(raters)}
    median = both.groupby(["case", "rater"], sort=False)["dice"].median().reset_index()
    matrix[median["case"].map(places), median["rater"].map(columns)] = median["dice"]
    found = find_outliers(matrix) if len(raters) > 1 else None
    mean = mean_with_others(pairs)
    marked = by_rater(pairs).groupby("rater")["case"].nunique()
    table = pd.DataFrame(
        [
            {
                "rater": name,
                "cases": int(marked[name]),
                "mean_dice": mean.get(name, np.nan),
                "outlier": found is not None and bool(found.flagged[columns[name]]),
            }
            for name in raters
        ]
    )
    return table, pd.DataFrame(outlier_rows(found, cases, raters) if found else [], columns=list(PROBLEM_COLUMNS))
