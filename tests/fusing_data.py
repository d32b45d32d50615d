# SPDX-License-Identifier: Apache-2.0
"""Small made data sets for fusing, in any format, and tasks that die; worker processes import them too."""

import json
import os
import signal
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import SimpleITK as sitk
from PIL import Image

from monai_multirater.studies.fusing_case import FusingTask, fuse_case

SPACING = (0.5, 0.75, 2.0)
RATERS = ("anna", "ben", "cleo")


def ellipsoid(shape: tuple[int, ...], seed: int, rater: int) -> np.ndarray:
    """A blob that raters draw a little differently, off the center of the grid and not symmetric."""
    rng = np.random.default_rng([seed, 7])
    center = np.array(shape) * rng.uniform(0.3, 0.45, len(shape))
    radius = np.array(shape) * rng.uniform(0.18, 0.25, len(shape))
    own = np.random.default_rng([seed, rater])
    grid = np.indices(shape).reshape(len(shape), -1).T
    distance = (((grid - center - own.uniform(-0.7, 0.7, len(shape))) / radius) ** 2).sum(1)
    return (distance < own.uniform(0.85, 1.15)).reshape(shape).astype(np.uint8)


def save_mask(path: Path, mask: np.ndarray) -> None:
    """Write a mask in the format of its suffix; volumes get :data:`SPACING` and a shifted origin."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".png":
        Image.fromarray(mask * np.uint8(255)).save(path)
    elif path.suffix == ".npy":
        np.save(path, mask)
    elif ".nii" in path.name:
        affine = np.diag([*SPACING, 1.0])
        affine[:3, 3] = [4, -5, 6]
        image = nib.Nifti1Image(mask, affine)
        image.header.set_xyzt_units("mm")
        nib.save(image, path)
    else:
        image = sitk.GetImageFromArray(np.ascontiguousarray(mask.T))
        image.SetSpacing(SPACING[: mask.ndim])
        sitk.WriteImage(image, str(path))


def make_dataset(
    root: Path,
    *,
    suffix: str = ".nii.gz",
    shape: tuple[int, ...] = (14, 12, 8),
    cases: int = 4,
    raters: tuple[str, ...] = RATERS,
    missing: tuple[tuple[int, str], ...] = (),
    **meta: Any,
) -> Path:
    """Write masks, vote counts as images, and the manifest with all cases but the last in `training`."""
    records = []
    for k in range(cases):
        name = f"c{k}"
        here = [rater for rater in raters if (k, rater) not in missing]
        masks = {rater: ellipsoid(shape, k, raters.index(rater)) for rater in here}
        for rater, mask in masks.items():
            save_mask(root / rater / f"{name}{suffix}", mask)
        save_mask(root / "images" / f"{name}{suffix}", masks[here[0]])
        ratings = {rater: f"{rater}/{name}{suffix}" for rater in here}
        records.append({"case": name, "image": f"images/{name}{suffix}", "ratings": ratings})
    content = {"name": "made", "raters": list(raters), **meta, "training": records[:-1], "test": records[-1:]}
    (root / "manifest.json").write_text(json.dumps(content))
    return root / "manifest.json"


def planes(manifest: Path, case: str) -> dict[str, np.ndarray]:
    """The masks of a case, made anew."""
    content = json.loads(manifest.read_text())
    record = next(r for r in content["training"] + content["test"] if r["case"] == case)
    first = next(iter(record["ratings"].values()))
    path = manifest.parent / first
    if path.suffix == ".png":
        shape = np.asarray(Image.open(path)).shape
    elif path.suffix == ".npy":
        shape = np.load(path).shape
    else:
        shape = sitk.ReadImage(str(path)).GetSize()
    return {rater: ellipsoid(shape, int(case[1:]), content["raters"].index(rater)) for rater in record["ratings"]}


def number(task: Any) -> Any:
    """Double a number; ``"die"`` kills the process, ``"once:FILE"`` only when there is no such file yet."""
    if task == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    if isinstance(task, str) and task.startswith("once:"):
        flag = Path(task.removeprefix("once:"))
        if not flag.exists():
            flag.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return "second"
    if task == "raise":
        raise KeyError("gone")
    return 2 * task


def dying_case(task: FusingTask) -> dict[str, Any]:
    """Fuse, but case c1 kills its process, and case c2 does so the first time."""
    flag = task.folder.path / "c2-died"
    if task.case == "c2" and not flag.exists():
        flag.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    if task.case == "c1":
        os.kill(os.getpid(), signal.SIGKILL)
    return fuse_case(task)
