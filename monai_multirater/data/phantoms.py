# SPDX-License-Identifier: Apache-2.0
"""Phantom data sets: images, masks of simulated raters and the true vote probability beside them."""

from __future__ import annotations

import json
import logging
import os
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from numpy.typing import NDArray
from PIL import Image
from tqdm.auto import tqdm

from monai_multirater.data.datalist import CaseRecord, Manifest, read_manifest, write_manifest
from monai_multirater.data.phantom_images import render_ct, render_dermoscopy
from monai_multirater.data.phantom_shapes import (
    DEFAULT_RATERS,
    Lesion,
    RaterStyle,
    draw_mask,
    make_lesion,
    true_vote_probability,
)
from monai_multirater.data.problems import ManifestError

VERSION = 1
MANIFEST_NAME = "manifest.json"
_CT_SPACING = (0.75, 0.75, 1.0)
_FUZZINESS = {2: (0.03, 0.22), 3: (0.02, 0.10)}
_IRREGULARITY = {2: 0.22, 3: 0.14}
_logger = logging.getLogger(__name__)


def make_phantoms(
    directory: str | Path,
    *,
    dimensions: int = 2,
    cases: int | None = None,
    size: int | None = None,
    raters: int | Sequence[RaterStyle] = 5,
    missing_rate: float = 0.0,
    splits: Sequence[float] = (0.6, 0.13, 0.27),
    seed: int = 0,
    overwrite: bool = False,
    progress: bool = True,
) -> Path:
    """Make a phantom data set with a manifest; the same arguments give byte-identical files.

    2D cases are RGB PNG images with PNG masks (0 / 255) and a float32 ``.npy`` truth; 3D cases are int16
    NIfTI images in Hounsfield units with uint8 masks and a float32 truth. The truth is the mean over all
    raters of the probability that the rater votes foreground (see ``phantom_shapes``).

    A set that exists with the same parameters is reused. A new one is written to a temporary folder beside
    ``directory`` and renamed when it is complete, so an interrupted call leaves nothing under the final name.

    Args:
        directory: folder of the set; its parent is created.
        dimensions: 2 (dermoscopy-like lesions) or 3 (CT-like nodules).
        cases: number of cases; default 120 in 2D, 40 in 3D.
        size: voxels per side; default 128 in 2D, 48 in 3D.
        raters: number of default raters (1 to 8) or explicit styles.
        missing_rate: probability that a rater did not mark a case at all (no mask in the manifest); at least
            one rater always did.
        splits: fractions for training, validation and test.
        seed: non-negative integer.
        overwrite: replace a phantom set that has other parameters; other folders are never replaced.
        progress: show a progress bar.

    Returns:
        Path of ``manifest.json``.

    Raises:
        ValueError: if an argument is out of range.
        FileExistsError: if ``directory`` holds something else.
    """
    parameters = _parameters(dimensions, cases, size, raters, missing_rate, splits, seed)
    directory = Path(directory)
    if _is_complete(directory, parameters):
        _logger.info("Phantoms in %s are complete and are used again.", directory)
        return directory / MANIFEST_NAME
    _refuse_foreign(directory, overwrite)
    directory.parent.mkdir(parents=True, exist_ok=True)
    _logger.info("Making %d phantom cases in %s.", parameters["cases"], directory)
    temporary = Path(tempfile.mkdtemp(prefix=f".{directory.name}.", dir=directory.parent))
    try:
        temporary.chmod(0o755)
        _write_set(temporary, parameters, directory.name, progress)
        _move_into_place(temporary, directory, parameters)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return directory / MANIFEST_NAME


def default_raters(count: int) -> tuple[RaterStyle, ...]:
    """The first ``count`` simulated raters of :data:`DEFAULT_RATERS`."""
    if not 1 <= count <= len(DEFAULT_RATERS):
        raise ValueError(f"default_raters: 'count' must be in [1, {len(DEFAULT_RATERS)}], got {count}.")
    return DEFAULT_RATERS[:count]


def make_case(
    dimensions: int, size: int, raters: Sequence[RaterStyle], *, seed: int, index: int
) -> tuple[Lesion, NDArray[Any], list[NDArray[np.uint8]], NDArray[np.float32]]:
    """Make case ``index`` of the set with ``seed``: lesion, image, one mask per rater, true vote probability.

    The image depends on neither the number nor the style of the raters.
    """
    streams = np.random.SeedSequence([seed, index, dimensions, size]).spawn(2 + len(raters))
    generators = [np.random.default_rng(stream) for stream in streams]
    spacing = _CT_SPACING if dimensions == 3 else (1.0, 1.0)
    lesion = make_lesion(
        (size,) * dimensions,
        spacing,
        generators[0],
        fuzziness=_FUZZINESS[dimensions],
        irregularity=_IRREGULARITY[dimensions],
    )
    image = (render_ct if dimensions == 3 else render_dermoscopy)(lesion, generators[1])
    masks = [draw_mask(lesion, style, rng) for style, rng in zip(raters, generators[2:], strict=True)]
    return lesion, image, masks, true_vote_probability(lesion, raters)


def _parameters(
    dimensions: int,
    cases: int | None,
    size: int | None,
    raters: int | Sequence[RaterStyle],
    missing_rate: float,
    splits: Sequence[float],
    seed: int,
) -> dict[str, Any]:
    if dimensions not in (2, 3):
        raise ValueError(f"make_phantoms: 'dimensions' must be 2 or 3, got {dimensions}.")
    cases = (120 if dimensions == 2 else 40) if cases is None else cases
    size = (128 if dimensions == 2 else 48) if size is None else size
    styles = default_raters(raters) if isinstance(raters, int) else tuple(raters)
    names = [style.name for style in styles]
    if not names or len(set(names)) < len(names):
        raise ValueError(f"make_phantoms: 'raters' must be at least one, with distinct names, got {names}.")
    if cases < 1:
        raise ValueError(f"make_phantoms: 'cases' must be >= 1, got {cases}.")
    if size < 16:
        raise ValueError(f"make_phantoms: 'size' must be >= 16, got {size}.")
    if not 0 <= missing_rate < 1:
        raise ValueError(f"make_phantoms: 'missing_rate' must be in [0, 1), got {missing_rate}.")
    if len(splits) != 3 or min(splits) < 0 or abs(sum(splits) - 1) > 1e-6:
        raise ValueError(f"make_phantoms: 'splits' must be three fractions that sum to 1, got {tuple(splits)}.")
    if seed < 0:
        raise ValueError(f"make_phantoms: 'seed' must be >= 0, got {seed}.")
    return {
        "version": VERSION,
        "dimensions": dimensions,
        "cases": int(cases),
        "size": int(size),
        "raters": [asdict(style) for style in styles],
        "missing_rate": float(missing_rate),
        "splits": [round(float(fraction), 9) for fraction in splits],
        "seed": int(seed),
    }


def _is_complete(directory: Path, parameters: dict[str, Any]) -> bool:
    if not (directory / MANIFEST_NAME).is_file():
        return False
    try:
        manifest = read_manifest(directory / MANIFEST_NAME)
    except ManifestError:
        return False
    if manifest.meta.get("phantom") != parameters:
        return False
    paths = [p for c in manifest.cases for p in (c.image, c.truth, *c.ratings.values()) if p is not None]
    return all(manifest.path(path).is_file() for path in paths)


def _refuse_foreign(directory: Path, overwrite: bool) -> None:
    if not directory.exists() or (directory.is_dir() and not any(directory.iterdir())):
        return
    try:
        content = json.loads((directory / MANIFEST_NAME).read_text(encoding="utf-8"))
        ours = isinstance(content, dict) and "phantom" in content
    except (OSError, ValueError):
        ours = False
    if not ours:
        raise FileExistsError(f"make_phantoms: {directory} exists and is not a phantom set; choose another folder.")
    if not overwrite:
        raise FileExistsError(
            f"make_phantoms: {directory} holds phantoms made with other parameters, or not all of them; "
            "choose another folder or pass overwrite=True."
        )


def _write_set(folder: Path, parameters: dict[str, Any], name: str, progress: bool) -> None:
    styles = [RaterStyle(**style) for style in parameters["raters"]]
    for sub in ("images", "truth", *(style.name for style in styles)):
        (folder / sub).mkdir()
    bar = tqdm(range(parameters["cases"]), desc="Making phantoms", unit="case", disable=not progress)
    records = [_write_case(folder, parameters, styles, index) for index in bar]
    training, validation, _ = parameters["splits"]
    first = round(training * len(records))
    second = first + round(validation * len(records))
    parts = {"training": records[:first], "validation": records[first:second], "test": records[second:]}
    manifest = Manifest(
        name=name,
        raters=tuple(style.name for style in styles),
        splits={split: tuple(part) for split, part in parts.items() if part},
        root=folder,
        meta={"phantom": parameters},
    )
    write_manifest(manifest, folder / MANIFEST_NAME)


def _write_case(folder: Path, parameters: dict[str, Any], styles: list[RaterStyle], index: int) -> CaseRecord:
    dimensions, size, seed = parameters["dimensions"], parameters["size"], parameters["seed"]
    lesion, image, masks, truth = make_case(dimensions, size, styles, seed=seed, index=index)
    case = f"p{index:0{max(3, len(str(parameters['cases'] - 1)))}d}"
    suffix, truth_suffix = (".png", ".npy") if dimensions == 2 else (".nii.gz", ".nii.gz")
    absence = np.random.default_rng([seed, index, 1])
    absent = absence.random(len(styles)) < parameters["missing_rate"]
    absent[absence.integers(len(styles))] = False
    paths = {s.name: f"{s.name}/{case}{suffix}" for s, gone in zip(styles, absent, strict=True) if not gone}
    for style, mask in zip(styles, masks, strict=True):
        if style.name in paths:
            _save(folder / paths[style.name], mask * 255 if dimensions == 2 else mask, lesion.spacing)
    _save(folder / f"images/{case}{suffix}", image, lesion.spacing)
    _save(folder / f"truth/{case}{truth_suffix}", truth, lesion.spacing)
    return CaseRecord(case, f"images/{case}{suffix}", paths, f"truth/{case}{truth_suffix}")


def _save(path: Path, array: NDArray[Any], spacing: tuple[float, ...]) -> None:
    if path.suffix == ".png":
        Image.fromarray(array).save(path)
    elif path.suffix == ".npy":
        np.save(path, array)
    else:
        nib.save(nib.Nifti1Image(array, np.diag([*spacing, 1.0])), path)


def _move_into_place(temporary: Path, directory: Path, parameters: dict[str, Any]) -> None:
    """Rename; when another process finished the same set first, keep that one."""
    retired = temporary.with_name(temporary.name + ".old")
    if directory.exists() and any(directory.iterdir()) and not _is_complete(directory, parameters):
        directory.rename(retired)
    try:
        os.rename(temporary, directory)  # noqa: PTH104 - replaces an empty folder
    except OSError:
        if not _is_complete(directory, parameters):
            raise
    finally:
        shutil.rmtree(retired, ignore_errors=True)
