# SPDX-License-Identifier: Apache-2.0
"""Agreement of the raters of a whole data set: measured, compared, written; parallel, resumable."""

from __future__ import annotations

import itertools
import logging
import posixpath
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
from threadpoolctl import threadpool_limits

from monai_multirater._version import __version__
from monai_multirater.data import Manifest, read_manifest
from monai_multirater.studies.agreement.evaluate import Question, evaluate
from monai_multirater.studies.agreement.factors import Factors, manifest_factors, read_factors
from monai_multirater.studies.agreement.galleries import draw_galleries
from monai_multirater.studies.agreement.measured import Measured, measure_cases
from monai_multirater.studies.agreement.output import finish_study
from monai_multirater.studies.agreement.problems import FAILURES, problem_table, remarks_of
from monai_multirater.studies.agreement.raters import ceiling_table, human_ceiling, rater_rows
from monai_multirater.studies.agreement.request import AgreementFolder, AgreementRequest
from monai_multirater.studies.agreement.result import AgreementStudy
from monai_multirater.studies.agreement.tables import case_table, mask_table, pair_table
from monai_multirater.studies.pool import check_workers, one_thread
from monai_multirater.studies.records import select_splits, write_json

__all__ = ["agreement_study", "incomplete"]

_logger = logging.getLogger(__name__)
_FUNCTION = "agreement_study"


def agreement_study(
    manifest: str | Path,
    *,
    out: str | Path,
    title: str = "",
    splits: Sequence[str] = (),
    factor_tables: Sequence[str | Path] = (),
    factor_key: str | None = None,
    factors: Sequence[str] | None = None,
    group: str | None = None,
    measures: str | Sequence[str] = "all",
    tested: Sequence[str] = ("dice",),
    tolerance: float = 1.0,
    hd95: str = "larger",
    size: int | Sequence[int] | None = None,
    voxels: bool = False,
    seed: int = 0,
    resamples: int = 1000,
    permutations: int = 9999,
    jobs: int = 1,
    dask: str | None = None,
    pictures: int = 12,
    overwrite: bool = False,
    report: bool = True,
    progress: bool = False,
) -> AgreementStudy:
    """Measure how the raters of a data set agree, on every case and pair, and what goes with it.

    ``out`` gets ``pairs.csv``, ``cases.csv``, ``raters.csv``, ``ceiling.csv`` (each rater against the strict majority
    of the others, to set beside a model's scores), ``tests.csv``, ``omnibus.csv``, ``dominance.csv``, ``mixed.csv``,
    ``plan.csv``, ``problems.csv``, all of it again in ``agreement.json``, ``report.html`` and ``pictures/``. The
    columns are those of :class:`AgreementStudy`.

    Measured cases are remembered in ``out/.cases``; a case is not measured again while neither its masks nor what is
    measured has changed. The study may be killed and started again. Tables do not depend on the number of processes
    or on what was done before, bit by bit.

    A mask that cannot be read or is not binary counts as missing; masks of one case that differ in shape or affine
    fail the case; a case with fewer than two raters is left out. All three are in ``problems`` and in the log; see
    :func:`incomplete`.

    Args:
        manifest: the data set. Only its structure is checked before work starts.
        out: the folder.
        title: name of the data set in the report; by default that of the manifest, else of its folder.
        splits: which splits; all by default.
        factor_tables: CSV files with factors: a column ``case``, ``rater``, or both says what a row is about. The
            manifest's own keys of cases (``diagnosis``, ``group``, others) are factors too.
        factor_key: column of these files that names the case, where it is not recognized.
        factors: names of those to analyse, each with up to 20 levels; None for all factors of masks and raters with 2
            to 10 levels and all of cases with 2 to 4.
        group: factor of cases by which all comparisons are divided, or ``COLUMN=VALUE`` for a value against the rest.
        measures: ``"all"``, ``"overlap"``, ``"surface"``, ``"group"`` or names of ``MEASURES``.
        tested: measures of pairs that the comparisons and mixed models look at.
        tolerance: of the surface Dice, in the unit of distances.
        hd95: ``"larger"``, ``"pooled"`` or ``"area"``, see
            :meth:`~monai_multirater.agreement.PairSurfaces.hausdorff_percentile`.
        size: resample 2D masks to a square of so many pixels or to (height, width) first, nearest neighbor. IMA++
            (arXiv:2508.09381) measures at 256.
        voxels: measure in voxels although all masks have a geometry; then the unit is mm.
        seed: of bootstrap and permutations.
        resamples: of the tests of dominance, permutations: of the permutation tests.
        jobs: processes; 1 works in this one.
        dask: instead, a number of local Dask workers or the address (or scheduler file) of a Dask cluster.
        pictures: draw so many of the most disputed cases.
        overwrite: remove what another request left in the folder, instead of refusing it.
        report: write ``report.html``.
        progress: show a bar.

    Returns:
        What was found.

    Raises:
        ManifestError: for a wrong structure of the manifest.
        ValueError: an unknown split, measure, factor, group or value; a data set in which nobody marked the same case;
            ``jobs`` together with ``dask``; a folder that holds cases measured in another way.
        RuntimeError: if no pair of raters could be measured, or a package is not installed.
    """
    start = time.perf_counter()
    data = select_splits(read_manifest(manifest), splits, function=_FUNCTION)
    request = AgreementRequest.of(
        data, Path(manifest), measures=measures, tolerance=tolerance, hd95=hd95, size=size, voxels=voxels
    )
    check_workers(jobs, dask, function=_FUNCTION)
    if max(len(record.ratings) for record in data.cases) < 2:
        raise ValueError(f"{_FUNCTION}: some case must have two raters. Got one in each of {len(data.cases)} cases.")
    known = _factors(data, factor_tables, factor_key)
    question = Question(known, factors, group, tuple(tested), seed, resamples, permutations)
    question.check(request.measures, _possible_pairs(data))
    folder = AgreementFolder(Path(out).resolve(), request.content)
    _check_place(folder.path, data)
    folder.check(overwrite=overwrite)
    folder.open(overwrite=overwrite)
    measured = measure_cases(data, folder, request, jobs=jobs, dask=dask, progress=progress)
    wall = time.perf_counter() - start
    _log_timing(measured, wall)
    with one_thread(), threadpool_limits(1):  # the same numbers whatever the machine has; small products wait otherwise
        study, ceiling = _study(data, request, measured, question, title)
        plan = question.plan(study.pairs)
    galleries = draw_galleries(data, study.cases, measured.records, folder.path, pictures)
    study = replace(study, galleries=galleries)
    study = finish_study(study, folder.path, {"ceiling": ceiling, "plan": plan}, report=report)
    write_json(folder.path / "run.json", _run(measured, wall, time.perf_counter() - start))
    return study


def incomplete(study: AgreementStudy) -> str:
    """Say what of a study could not be measured; empty if all could."""
    bad = study.problems[study.problems["kind"].isin(FAILURES)]
    lines = []
    for row in bad.to_dict("records"):
        where = ", ".join(f"{name} {row[name]}" for name in ("case", "rater") if row[name])
        lines.append(f"  - {where}: {row['detail']}")
    count = f"{len(lines)} problem{'s' if len(lines) > 1 else ''}"
    return "\n".join([f"agreement: {count}; all else is measured and written:", *lines]) if lines else ""


def _factors(data: Manifest, tables: Sequence[str | Path], key: str | None) -> Factors:
    found, cases = manifest_factors(data), [record.case for record in data.cases]
    for table in tables:
        found = found.merge(read_factors(Path(table), cases, data.raters, key=key))
    return found


def _possible_pairs(data: Manifest) -> pd.DataFrame:
    """Pairs of raters without measures, as they are when every mask can be read."""
    rows = [(record.case, a, b) for record in data.cases for a, b in itertools.combinations(record.ratings, 2)]
    return pd.DataFrame(rows, columns=["case", "rater_a", "rater_b"])


def _check_place(out: Path, data: Manifest) -> None:
    """Refuse a folder that holds the data: its files would lie among them, or replace some."""
    folders = {posixpath.dirname(mask) for record in data.cases for mask in record.ratings.values()}
    if out in {folder.resolve() for folder in (data.root, *(data.root / name for name in folders))}:
        raise ValueError(f"{_FUNCTION}: out must be a folder of its own. Got {out}, which holds the data set.")


def _study(
    data: Manifest, request: AgreementRequest, measured: Measured, question: Question, title: str
) -> tuple[AgreementStudy, pd.DataFrame]:
    records, raters = measured.records, data.raters
    pairs = pair_table(records, raters, request)
    masks = mask_table(records)
    against = human_ceiling(masks, len(records), len(raters))
    problems = problem_table(records, measured.failures, raters, masks, against)
    for remark in remarks_of(problems, len(data.cases)):
        _logger.warning("%s", remark)
    if not len(pairs):
        reasons = "; ".join(f"case {row.case}: {str(row.detail).rstrip('.')}" for row in problems.head(5).itertuples())
        raise RuntimeError(f"{_FUNCTION}: no pair of raters could be measured. {reasons}.")
    ceiling = ceiling_table(against, masks, raters, question.seed)
    rows = rater_rows(pairs, masks, against, ceiling, raters)
    facts: dict[str, Any] = {
        "request": {**request.content, "manifest": Path(request.content["manifest"]).name},
        "version": __version__,
        "splits": list(data.splits),
        "cases_of_data_set": len(data.cases),
        "cases_with_one_rater": int((problems["kind"] == "one rater").sum()),
        "cases_failed": int(problems["kind"].isin(("mismatch", "failed")).sum()),
        "masks_unreadable": int((problems["kind"] == "unreadable").sum()),
    }
    found = evaluate(
        title or data.name or Path(request.content["manifest"]).parent.name,
        request.unit, pairs, case_table(pairs, records, request), rows, problems, question, facts,
    )  # fmt: skip
    return found, ceiling


def _run(measured: Measured, measuring: float, wall: float) -> dict[str, Any]:
    """What differs from run to run."""
    seconds = {"wall": wall, "measuring": measuring, **measured.seconds}
    return {"measured_now": len(measured.records) - measured.kept, "measured_before": measured.kept, "seconds": seconds}


def _log_timing(measured: Measured, wall: float) -> None:
    total = sum(measured.seconds.values())
    shares = [f"{step} {100 * seconds / total:.0f} %" for step, seconds in measured.seconds.items() if total]
    now = len(measured.records) - measured.kept
    before = f"; {measured.kept} were measured before" if measured.kept else ""
    _logger.info("%d cases in %.1f s%s%s", now, wall, f": {', '.join(shares)}" if shares else "", before)
