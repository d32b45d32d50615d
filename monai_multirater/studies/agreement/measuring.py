# SPDX-License-Identifier: Apache-2.0
"""Measure a chunk of cases: read the masks, count, measure distances, write one file of records.

Records hold whole numbers (what two raters share, what a rater shares with the others' majority) and distances in full
precision; every table is computed from them, whoever measured them.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from monai_multirater.data import ImageData, ReadError, read_mask
from monai_multirater.studies.agreement.counting import count_case
from monai_multirater.studies.agreement.distances import measure_details
from monai_multirater.studies.agreement.request import AgreementFolder, AgreementRequest, Record
from monai_multirater.studies.pool import one_thread
from monai_multirater.studies.records import stats
from monai_multirater.studies.stacks import MaskStack, Mismatch, Stopwatch, stack_masks

__all__ = ["STEPS", "CaseTask", "ChunkTask", "finished", "measure_chunk"]

STEPS = ("reading", "overlap", "surfaces", "raters", "writing")
_AFFINE_TOLERANCE = 1e-3  # as in check_manifest


@dataclass(frozen=True)
class CaseTask:
    """A case to measure.

    Attributes:
        case: its name.
        paths: of its masks, by index of the rater; absent raters are left out.
        names: what error messages call these paths.
    """

    case: str
    paths: Mapping[int, str]
    names: Mapping[int, str]


@dataclass(frozen=True)
class ChunkTask:
    """All that a process needs to measure some cases."""

    folder: AgreementFolder
    request: AgreementRequest
    cases: tuple[CaseTask, ...]


def finished(record: Mapping[str, Any], task: CaseTask) -> bool:
    """Whether a record tells all about a case: nothing was unreadable and no file has changed since."""
    if record["unreadable"] or record["failed"]:
        return False
    return bool(record["inputs"] == _stats(task))


def measure_chunk(task: ChunkTask) -> tuple[list[Record], dict[str, float]]:
    """Measure some cases, write their records and return them with the seconds of each step.

    A mask that cannot be read counts as missing; masks that do not fit together fail their case. Both are in the
    record.

    Raises:
        OSError: if results cannot be written.
    """
    watch = Stopwatch()
    with one_thread():
        records = [_measure(case, task.request, watch) for case in task.cases]
    task.folder.write(records)
    watch.lap("writing")
    return records, watch.seconds


def _measure(case: CaseTask, request: AgreementRequest, watch: Stopwatch) -> Record:
    record, stack, spacing = _read_case(case, request)
    watch.lap("reading")
    if stack is not None:
        record |= count_case(stack.planes, request)
        watch.lap("overlap")
        record |= measure_details(record, stack, spacing, request, watch)
    return record


Read = tuple[Record, MaskStack | None, tuple[float, ...] | None]


def _read_case(task: CaseTask, request: AgreementRequest) -> Read:
    """Begin the record of a case; its stack without absent raters, None where it failed or nothing could be read."""
    record: Record = {
        "case": task.case,
        "inputs": _stats(task),
        "unreadable": {},
        "failed": "",
        "raters": [],
    }
    unread: dict[int, str] = {}
    shapes: list[tuple[int, ...]] = []
    try:
        masks = [(index, mask) for index, mask in _masks(task, request, unread, shapes)]
        readable = [index for index, _ in masks]
        positions = {index: position for position, index in enumerate(readable)}
        compact = ((positions[index], mask) for index, mask in masks)
        stack = stack_masks(compact, len(masks), affine_atol=_AFFINE_TOLERANCE)
    except Mismatch as error:
        record["failed"] = str(error)
        record["failed_rater"] = readable[error.rater]
        return record, None, None
    except _WrongGrid as error:
        record["failed"] = str(error)
        return record, None, None
    record["unreadable"] = {str(index): f"{task.names[index]}: {reason}" for index, reason in unread.items()}
    if stack is None:
        return record, None, None
    record["raters"] = readable
    spacing = _spacing(stack, shapes[0], request)
    record["voxel_volume"] = 1.0 if spacing is None else math.prod(spacing)
    return record, stack, spacing


class _WrongGrid(ValueError):
    """A mask cannot be resampled as asked."""


def _masks(
    task: CaseTask, request: AgreementRequest, unread: dict[int, str], shapes: list[tuple[int, ...]]
) -> Iterator[tuple[int, ImageData]]:
    for index, path in task.paths.items():
        try:
            mask = read_mask(path)
        except ReadError as error:
            unread[index] = str(error)
            continue
        shapes.append(mask.array.shape)
        if request.size is not None:
            mask = ImageData(_resample(mask.array, request.size), mask.header)
        yield index, mask


def _resample(array: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    """Nearest neighbor: every new pixel takes the value at its center."""
    if array.ndim != len(size):
        raise _WrongGrid(f"a mask of shape {array.shape} cannot be resampled to {size}: --size is for 2D masks")
    rows, columns = (((2 * np.arange(new) + 1) * old) // (2 * new) for old, new in zip(array.shape, size, strict=True))
    return np.ascontiguousarray(array[rows[:, None], columns])


def _spacing(stack: MaskStack, shape: tuple[int, ...], request: AgreementRequest) -> tuple[float, ...] | None:
    """Voxel size in mm as the axes lie in the stack; None where lengths are in voxels."""
    if request.unit != "mm" or stack.spacing is None:
        return None
    spacing = stack.spacing
    if request.size is not None:
        spacing = tuple(s * old / new for s, old, new in zip(spacing, shape, request.size, strict=True))
    return spacing[::-1] if stack.turned else spacing


def _stats(task: CaseTask) -> list[list[Any]]:
    """As :func:`~monai_multirater.studies.records.stats`; only the name of a file that is not there."""
    found: list[list[Any]] = []
    for path in task.paths.values():
        try:
            found += stats([path])
        except OSError:
            found.append([path.rpartition("/")[2]])
    return found
