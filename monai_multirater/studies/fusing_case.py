# SPDX-License-Identifier: Apache-2.0
"""Fuse one case: read its masks, fuse, measure the raters, write the maps, then its record."""

from __future__ import annotations

import hashlib
import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from monai_multirater.agreement import detect_flips, rater_performance
from monai_multirater.data import ImageData, Problem, ReadError, read_mask
from monai_multirater.data.dicom import Segment, read_series, write_dicom_segmentation
from monai_multirater.data.writers import map_suffix, write_map, write_nrrd, write_slicer_segmentation
from monai_multirater.fusion import FusionResult, fuse
from monai_multirater.studies.fusing_records import FusingFolder
from monai_multirater.studies.records import file_name, plain, stats
from monai_multirater.studies.stacks import MaskStack, Mismatch, Stopwatch, stack_masks

__all__ = ["FORMATS", "STEPS", "FusingTask", "fuse_case"]

FORMATS = ("same", "nrrd", "dicom-seg")
STEPS = ("reading", "fusing", "measuring", "writing")
_FLIP_DICE = 0.7  # detect_flips looks at raters below this Dice only


@dataclass(frozen=True)
class FusingTask:
    """All that a process needs to fuse one case.

    Attributes:
        folder: where results go.
        case: name of the case.
        raters: of the data set, in its order.
        paths: of the masks, by rater; absent raters are left out.
        names: what error messages call these paths.
        method: in ``FUSIONS``.
        options: of the method.
        seed: of methods that draw; every case has its own stream.
        form: one of :data:`FORMATS`.
        series: folder of the DICOM series, for ``dicom-seg``.
        segment: what the DICOM segmentation shows.
        rater_view: measure the raters against each other.
        millimeters: whether lengths of the rater view are in mm.
    """

    folder: FusingFolder
    case: str
    raters: tuple[str, ...]
    paths: Mapping[str, Path]
    names: Mapping[str, str]
    method: str
    options: Mapping[str, Any] = field(default_factory=dict)
    seed: int = 0
    form: str = "same"
    series: Path | None = None
    segment: Segment | None = None
    rater_view: bool = False
    millimeters: bool = False

    def finished(self) -> dict[str, Any] | None:
        """Return the record of this case if nothing is to be done."""
        return self.folder.finished(self.case, list(self.paths.values()))


def fuse_case(task: FusingTask) -> dict[str, Any]:
    """Fuse one case and return its record; a case that is finished is not fused again.

    Raises:
        ValueError: naming case, rater, path and reason; also what the method cannot do with this case.
        OSError: if results cannot be written.
    """
    record = task.finished()
    if record is not None:
        return record
    watch = Stopwatch()
    inputs = stats(list(task.paths.values()))
    stack = _read_stack(task)
    watch.lap("reading")
    with warnings.catch_warnings(record=True) as remarks:
        warnings.simplefilter("always")
        result = _fuse(task, stack)
    consensus = result.consensus
    watch.lap("fusing")
    content: dict[str, Any] = _measure(task, stack, consensus, result)
    if task.rater_view:
        spacing = stack.spacing if task.millimeters else None
        seen = rater_performance(stack.turn(stack.planes), stack.present, spacing=spacing)
        content["view"] = plain(seen.as_dict())
    content["flips"] = _flips(task, stack, content["raters"])
    watch.lap("measuring")
    maps = [stack.turn(values)[0].numpy() for values in (consensus, result.probability)]
    outputs = _write(task, maps[0], maps[1], stack.affine)
    watch.lap("writing")
    content["case"] |= {f"seconds_{step}": seconds for step, seconds in watch.seconds.items()}
    content["case"]["remarks"] = "; ".join(dict.fromkeys(str(remark.message) for remark in remarks))
    record = task.folder.finish(task.case, inputs, outputs, content)
    watch.lap("recording")
    return {**record, "recording": watch.seconds["recording"]}


def _read_stack(task: FusingTask) -> MaskStack:
    masks = ((task.raters.index(rater), _read(task, rater)) for rater in task.paths)
    try:
        stack = stack_masks(masks, len(task.raters))
    except Mismatch as error:
        raise _problem(task, task.raters[error.rater], str(error)) from None
    assert stack is not None
    return stack


def _read(task: FusingTask, rater: str) -> ImageData:
    try:
        return read_mask(task.paths[rater])
    except ReadError as error:
        raise _problem(task, rater, str(error)) from error


def _problem(task: FusingTask, rater: str, reason: str) -> ValueError:
    return ValueError(str(Problem(reason, rater=rater, path=task.names[rater])))


def _fuse(task: FusingTask, stack: MaskStack) -> FusionResult:
    digest = hashlib.blake2b(f"{task.seed}/{task.case}".encode(), digest_size=8).digest()
    generator = torch.Generator().manual_seed(int.from_bytes(digest, "little") >> 1)
    spacing, options = stack.spacing, dict(task.options)
    if stack.turned:
        spacing = spacing[::-1] if spacing else None
        if isinstance(options.get("sigma"), list | tuple):
            options["sigma"] = options["sigma"][::-1]  # one per axis of the file
    return fuse(stack.planes, task.method, stack.present, spacing=spacing, generator=generator, **options)


def _measure(task: FusingTask, stack: MaskStack, consensus: Tensor, result: FusionResult) -> dict[str, Any]:
    """Rows of the tables of cases and raters."""
    mask = consensus[0].numpy().view(np.bool_)
    volume = int(np.count_nonzero(mask))
    rows = []
    for r, rater in enumerate(task.raters):
        row: dict[str, Any] = {"case": task.case, "rater": rater, "present": bool(stack.present[r])}
        for name in ("sensitivity", "specificity", "weight", "dropped"):
            row[name] = plain(getattr(result, "weights" if name == "weight" else name)[r].item())
        plane = stack.planes[r].numpy().view(np.bool_)
        size = int(np.count_nonzero(plane)) if row["present"] else None
        row |= _sizes(size, stack.spacing)
        if size is not None:
            both = int(np.count_nonzero(plane & mask))
            row["dice"] = 2 * both / (size + volume) if size + volume else 1.0
        else:
            row["dice"] = None
        rows.append(row)
    case = {
        "case": task.case,
        "raters": int(stack.present.sum()),
        "method": task.method,
        "iterations": int(result.iterations),
        "converged": bool(result.converged),
        **_sizes(volume, stack.spacing),
    }
    return {"case": case, "raters": rows}


def _sizes(voxels: int | None, spacing: tuple[float, ...] | None) -> dict[str, float | int | None]:
    known = voxels is not None and spacing is not None
    size = voxels * math.prod(spacing) if known else None  # type: ignore[operator,arg-type]
    three = spacing is not None and len(spacing) == 3
    return {
        "size_voxels": voxels,
        "size_ml": size / 1000 if size is not None and three else None,
        "size_mm2": size if size is not None and not three else None,
    }


def _flips(task: FusingTask, stack: MaskStack, rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Raters whose mask agrees far better after a flip; only looked for where one agrees badly."""
    if int(stack.present.sum()) < 2 or all(row["dice"] is None or row["dice"] >= _FLIP_DICE for row in rows):
        return []
    return [
        {
            "rater": task.raters[found.rater],
            "transform": found.transform,
            "dice_before": found.dice_before,
            "dice_after": found.dice_after,
            "ambiguous": found.ambiguous,
        }
        for found in detect_flips(stack.turn(stack.planes), stack.present)
    ]


def _write(
    task: FusingTask, consensus: NDArray[Any], probability: NDArray[Any], affine: NDArray[np.float64] | None
) -> list[Path]:
    name, out = file_name(task.case), task.folder.path
    if task.form == "dicom-seg":
        assert task.series is not None
        series = read_series(task.series)
        return [
            write_dicom_segmentation(
                series.place(values, affine), out / kind / f"{name}.dcm", series, segment=task.segment, kind=kind
            )
            for kind, values in (("consensus", consensus), ("probability", probability))
        ]
    if task.form == "nrrd":
        assert affine is not None
        return [
            write_slicer_segmentation(consensus, out / "consensus" / f"{name}.seg.nrrd", affine),
            write_nrrd(probability, out / "probability" / f"{name}.nrrd", affine),
        ]
    like = next(iter(task.paths.values()))
    return [
        write_map(values, out / kind / f"{name}{map_suffix(like)}", like=like)
        for kind, values in (("consensus", consensus), ("probability", probability))
    ]
