# SPDX-License-Identifier: Apache-2.0
"""Measure the cases of a data set that are not measured yet: chunks, here, in processes or on Dask."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tqdm.auto import tqdm

from monai_multirater.data import CaseRecord, Manifest
from monai_multirater.data.readers import PILLOW_SUFFIXES, file_suffix
from monai_multirater.studies.agreement.measuring import STEPS, CaseTask, ChunkTask, finished, measure_chunk
from monai_multirater.studies.agreement.request import AgreementFolder, AgreementRequest, Record
from monai_multirater.studies.pool import run_tasks

__all__ = ["Measured", "measure_cases"]

_logger = logging.getLogger(__name__)
_PICTURES, _VOLUMES = 64, 4  # cases of a chunk
_CHUNKS_PER_PROCESS = 4


@dataclass(frozen=True)
class Measured:
    """What is known of the cases.

    Attributes:
        records: of measured cases, in the order of the data set.
        failures: reason by case: its process died, or its files cannot be written.
        kept: cases that were measured before.
        seconds: of each step, summed over the processes of this run.
    """

    records: tuple[Record, ...]
    failures: Mapping[str, str]
    kept: int
    seconds: Mapping[str, float]


def measure_cases(
    data: Manifest,
    folder: AgreementFolder,
    request: AgreementRequest,
    *,
    jobs: int,
    dask: str | None,
    progress: bool,
) -> Measured:
    """Measure what is not measured yet; a chunk whose process died is measured again case by case."""
    tasks = [_task(data, record) for record in data.cases]
    known = folder.load()
    records = {task.case: record for task in tasks for record in known.get(task.case, ()) if finished(record, task)}
    waiting = [task for task in tasks if task.case not in records]
    kept = len(records)
    seconds = dict.fromkeys(STEPS, 0.0)
    failures: dict[str, str] = {}
    with tqdm(desc="Measuring", unit="case", total=len(tasks), initial=kept, disable=not progress) as bar:
        chunks = _chunks(waiting, folder, request, jobs if dask is None else 2)
        single: list[ChunkTask] = []
        for round_ in (chunks, single):
            for outcome in run_tasks(measure_chunk, list(round_), jobs, dask):
                chunk = round_[outcome.index]
                if outcome.error and len(chunk.cases) > 1:
                    single += [ChunkTask(folder, request, (case,)) for case in chunk.cases]
                    continue
                bar.update(len(chunk.cases))
                if outcome.error:
                    failures[chunk.cases[0].case] = outcome.error
                    continue
                found, laps = outcome.value
                records |= {record["case"]: record for record in found}
                seconds = {step: seconds[step] + laps.get(step, 0.0) for step in seconds}
    ordered = tuple(records[task.case] for task in tasks if task.case in records)
    return Measured(ordered, {task.case: failures[task.case] for task in tasks if task.case in failures}, kept, seconds)


def _task(data: Manifest, record: CaseRecord) -> CaseTask:
    """Paths as text, joined as they are: the manifest was checked, and thousands of path objects take long."""
    names = {index: record.ratings[rater] for index, rater in enumerate(data.raters) if rater in record.ratings}
    return CaseTask(record.case, {index: f"{data.root}/{name}" for index, name in names.items()}, names)


def _chunks(
    tasks: Sequence[CaseTask], folder: AgreementFolder, request: AgreementRequest, processes: int
) -> list[ChunkTask]:
    """Cases of a chunk: fewer of volumes, and few enough that all processes have work to the end."""
    flat = all(file_suffix(path) in PILLOW_SUFFIXES for task in tasks for path in list(task.paths.values())[:1])
    most = _PICTURES if flat else _VOLUMES
    size = max(1, min(most, -(-len(tasks) // (_CHUNKS_PER_PROCESS * processes))))
    return [ChunkTask(folder, request, tuple(tasks[start : start + size])) for start in range(0, len(tasks), size)]
