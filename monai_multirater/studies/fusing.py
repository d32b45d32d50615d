# SPDX-License-Identifier: Apache-2.0
"""Fuse the raters of a whole data set: maps and tables; parallel, resumable."""

from __future__ import annotations

import json
import logging
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from tqdm.auto import tqdm

from monai_multirater._version import __version__
from monai_multirater.data import Manifest, read_header, read_manifest
from monai_multirater.studies.fusing_case import FusingTask, fuse_case
from monai_multirater.studies.fusing_check import check_files, check_method, tie_rule
from monai_multirater.studies.fusing_pictures import draw_cases
from monai_multirater.studies.fusing_records import FusingFolder
from monai_multirater.studies.fusing_request import FusingRequest
from monai_multirater.studies.fusing_tables import FusingSummary, seconds_of, write_fusing_tables
from monai_multirater.studies.pool import check_workers, run_tasks
from monai_multirater.studies.records import select_splits

__all__ = ["FusingSummary", "fuse_manifest", "read_options"]

_logger = logging.getLogger(__name__)


def fuse_manifest(
    manifest: str | Path,
    *,
    method: str,
    out: str | Path,
    options: Mapping[str, Any] | None = None,
    splits: Sequence[str] = (),
    form: str = "same",
    rater_view: bool = False,
    seed: int = 0,
    jobs: int = 1,
    dask: str | None = None,
    overwrite: bool = False,
    pictures: int = 0,
    progress: bool = False,
) -> FusingSummary:
    """Fuse every case of a data set and write consensus, probability and tables.

    ``out`` gets ``consensus/<case>.*`` (uint8) and ``probability/<case>.*`` (float32, in PNG 16-bit gray) in the format
    and geometry of the case's first mask, ``cases.csv``, ``raters.csv`` and ``summary.json``; see
    :func:`~monai_multirater.data.writers.write_map`. The tables cover all cases of the data set that are
    finished there.

    A case is finished when its record in ``out/.cases``, written last, is there and neither its masks nor the request
    have changed since; it is not fused again. All files appear complete or not at all, so that a run may be killed and
    started again. Results do not depend on the number of processes or on what was done before.

    Args:
        manifest: the data set. Its headers are checked before work starts; a damaged or non-binary mask that is found
            later fails its case.
        method: key of :data:`~monai_multirater.fusion.FUSIONS`.
        out: the folder.
        options: of the method.
        splits: which splits; all by default.
        form: ``"same"``; ``"nrrd"``: consensus as ``.seg.nrrd`` for 3D Slicer; ``"dicom-seg"``: DICOM segmentations,
            BINARY and FRACTIONAL, where the image is a folder with a DICOM series or the case names one as ``dicom``.
        rater_view: also compare the raters with each other: size and boundary bias, outliers.
        seed: of methods that draw; every case has its own stream of random numbers.
        jobs: processes; 1 works in this one.
        dask: instead, a number of local Dask workers or the address (or scheduler file) of a Dask cluster.
        overwrite: remove what another request left in the folder, instead of refusing it.
        pictures: draw so many of the most disputed cases to ``out/pictures``, see
            :func:`~monai_multirater.studies.fusing_pictures.draw_cases`.
        progress: show a bar.

    Returns:
        What was done; its ``timing`` and remarks are also logged.

    Raises:
        ManifestError: everything wrong with the data set.
        ValueError: an unknown method, option, split or format, ``jobs`` together with ``dask``, or a folder that holds
            cases fused in another way.
        RuntimeError: naming the cases that failed, after all others are done and the tables are written; or a package
            that is not installed.
    """
    start = time.perf_counter()
    data = read_manifest(manifest)
    request = FusingRequest.of(data, Path(manifest), method, options or {}, seed, form, rater_view)
    chosen = select_splits(data, splits, function="fuse")
    check_workers(jobs, dask, function="fuse")
    folder = FusingFolder(Path(out).resolve(), request.content)
    folder.check(overwrite=overwrite)
    check_files(chosen, form, progress=progress)
    first = data.path(next(iter(chosen.cases[0].ratings.values())))
    check_method(request.method, request.options, len(data.raters), read_header(first))
    _log_raters(chosen, request)
    folder.open(overwrite=overwrite)
    tasks = {record.case: request.task(folder, data, record) for record in data.cases}
    records = {case: record for case, task in tasks.items() if (record := _finished(task))}
    waiting = [tasks[record.case] for record in chosen.cases if record.case not in records]
    kept = len(chosen.cases) - len(waiting)
    checking = time.perf_counter() - start
    failures: dict[str, str] = {}
    try:
        outcomes = run_tasks(fuse_case, waiting, jobs, dask)
        bar = tqdm(outcomes, desc="Fusing", unit="case", total=len(chosen.cases), initial=kept, disable=not progress)
        for outcome in bar:
            case = waiting[outcome.index].case
            if outcome.error:
                failures[case] = outcome.error
            else:
                records[case] = outcome.value
    finally:
        fused = [records[task.case] for task in waiting if task.case in records]
        ordered = {case: records[case] for case in tasks if case in records}
        summary = FusingSummary(
            folder.path,
            len(chosen.cases),
            len(fused),
            kept,
            failures,
            {"checking": checking, **seconds_of(fused)},
            time.perf_counter() - start,
        )
        summary = _report(summary, request, ordered)
    if pictures:
        files = draw_cases(data, ordered, folder.path, pictures)
        summary = replace(summary, files=(*summary.files, *files))
    if failures:
        lines = [f"  - case {case}: {reason}" for case, reason in failures.items()]
        raise RuntimeError("\n".join([f"fuse: {len(failures)} of {len(chosen.cases)} cases failed:", *lines]))
    return summary


def read_options(texts: Sequence[str]) -> dict[str, Any]:
    """Read ``NAME=VALUE`` options; values are JSON, or else text.

    Raises:
        ValueError: for a text of another form, or an option given twice.
    """
    options: dict[str, Any] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or not name.strip() or not value.strip() or name.strip() in options:
            raise ValueError(f"An option must be given once as NAME=VALUE, for example sigma=2. Got {text!r}.")
        try:
            options[name.strip()] = json.loads(value)
        except json.JSONDecodeError:
            options[name.strip()] = value.strip()
    return options


def _finished(task: FusingTask) -> dict[str, Any] | None:
    try:
        return task.finished()
    except OSError:
        return None


def _log_raters(data: Manifest, request: FusingRequest) -> None:
    """Say what even numbers of raters and single raters mean for the consensus."""
    counts = Counter(len(record.ratings) for record in data.cases)
    even, single = sum(n for raters, n in counts.items() if raters % 2 == 0), counts[1]
    rule = tie_rule(request.method, request.options)
    if even and rule:
        _logger.info("%d of %d cases have an even number of raters: %s.", even, len(data.cases), rule)
    if single:
        _logger.info("%d of %d cases have one rater only: there is nothing to fuse.", single, len(data.cases))


def _report(summary: FusingSummary, request: FusingRequest, records: Mapping[str, Mapping[str, Any]]) -> FusingSummary:
    """Write the tables of all finished cases of the data set and log what a person should know."""
    facts = {
        **request.content,
        "version": __version__,
        "ties": tie_rule(request.method, request.options),
        "fused_now": summary.fused,
        "finished_before": summary.kept,
        "seconds": {"wall": summary.wall, **summary.seconds},
    }
    raters = tuple(request.content["raters"])
    files, remarks = write_fusing_tables(summary.out, records, summary.failures, raters, facts)
    for remark in remarks:
        _logger.warning("%s", remark)
    _logger.info("%s", summary.timing)
    return replace(summary, remarks=remarks, files=files)
