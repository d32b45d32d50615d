# SPDX-License-Identifier: Apache-2.0
"""What a bundle asks of its data before work starts: do they fit the job, channels, frequencies of vote counts."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from monai_multirater.data.check import check_manifest
from monai_multirater.data.datalist import Manifest, ManifestError, Problem, read_manifest
from monai_multirater.data.phantoms import make_phantoms
from monai_multirater.data.readers import (
    ITK_SUFFIXES,
    NIFTI_SUFFIXES,
    PILLOW_SUFFIXES,
    ReadError,
    file_stem,
    file_suffix,
    read_header,
    read_image,
    read_mask,
)
from monai_multirater.votes import count_votes

logger = logging.getLogger(__name__)

IMAGE_SUFFIXES = (*PILLOW_SUFFIXES, *NIFTI_SUFFIXES, *ITK_SUFFIXES)


def open_manifest(
    path: str | Path,
    *,
    phantoms: Mapping[str, Any] | None = None,
    splits: tuple[str, ...] = ("training", "validation"),
    level: str = "full",
    rank: int = 0,
) -> Manifest:
    """Open a data set for a job: make it when it is the built-in phantom set, then check it whole.

    Args:
        path: the manifest.
        phantoms: arguments of :func:`make_phantoms` when ``path`` is to be made if missing; None for a user's data.
        splits: splits that the job needs.
        level: how deep files are checked, see :func:`check_manifest`.
        rank: only rank 0 makes phantoms and checks files; the others wait for the manifest and trust the check.

    Raises:
        ManifestError: everything wrong with the data set, in one error.
        TimeoutError: a rank other than 0 waited ten minutes for the manifest.
    """
    path = Path(path)
    if phantoms is not None and rank == 0:
        if not path.is_file():
            logger.info("No data set was given: making phantoms with known truth in %s (once).", path.parent)
        make_phantoms(path.parent, **phantoms)
    if rank != 0:
        _wait_for(path)
    manifest = read_manifest(path)
    missing = [split for split in splits if split not in manifest.splits]
    if missing:
        found = ", ".join(manifest.splits)
        raise ManifestError(
            path, [Problem(f"split '{split}' is needed and missing (found: {found})") for split in missing]
        )
    if rank == 0 and phantoms is None:
        check_manifest(manifest, level=level, progress=True)
    return manifest


def _wait_for(path: Path, seconds: float = 600.0) -> None:
    end = time.monotonic() + seconds
    while not path.is_file():
        if time.monotonic() > end:
            raise TimeoutError(f"open_manifest: waited {seconds:.0f} s for rank 0 to make {path}.")
        time.sleep(0.2)


def image_channels(manifest: Manifest) -> int:
    """Return the number of channels of the images, from the first one (1 for gray and most volumes, 3 for color)."""
    return int(read_header(manifest.path(manifest.cases[0].image)).channels)


def check_fit(
    manifest: Manifest, *, raters: int | None = None, channels: int | None = None, spatial_dims: int | None = None
) -> Manifest:
    """Return a checked manifest when a model or a configuration of the given kind can work on it.

    Args:
        manifest: the data set; its images are of one kind, as :func:`check_manifest` made sure. Within a split all
            cases have a truth or none has.
        raters: number of raters a trained model knows; the data set may have fewer, not more.
        channels: image channels of a trained model.
        spatial_dims: 2 or 3, what the configuration is for.

    Raises:
        ManifestError: naming what does not fit.
    """
    problems = _partial_truth(manifest)
    if raters is not None and len(manifest.raters) > raters:
        problems.append(Problem(f"has {len(manifest.raters)} raters; the model was trained for {raters}"))
    first = manifest.cases[0]
    reason = _kind_problem(manifest.path(first.image), channels, spatial_dims)
    if reason:
        problems.append(Problem(reason, case=first.case, path=first.image))
    if problems:
        raise ManifestError(manifest.root, problems)
    return manifest


def _partial_truth(manifest: Manifest) -> list[Problem]:
    """Splits of which only some cases have a truth: batches could not hold it."""
    known = {split: sum(r.truth is not None for r in records) for split, records in manifest.splits.items()}
    return [
        Problem(f"split '{split}' has a truth for {count} of {len(manifest.splits[split])} cases; give all or none")
        for split, count in known.items()
        if 0 < count < len(manifest.splits[split])
    ]


def _kind_problem(path: Path, channels: int | None, spatial_dims: int | None) -> str:
    header = read_header(path)
    picture = path.name.lower().endswith(PILLOW_SUFFIXES)
    if spatial_dims == 2 and not picture:
        return f"is not a picture ({', '.join(PILLOW_SUFFIXES)}); for volumes add the 3D configuration"
    if spatial_dims == 3 and (picture or len(header.spatial_shape) != 3):
        return f"is not a volume (shape {header.spatial_shape}); the configuration is for 3D"
    if channels is not None and header.channels != channels:
        return f"has {header.channels} channels; the model was trained for {channels}"
    return ""


def level_frequencies(manifest: Manifest, split: str = "training") -> list[float]:
    """Return how often each vote count 0..R occurs in a split, as fractions that sum to 1.

    Cases with r < R raters present count at the nearest level ``round(v R / r)``; this is a starting point for an
    output bias, not an estimate to report.
    """
    raters = len(manifest.raters)
    totals = np.zeros(raters + 1, dtype=np.int64)
    for record in manifest.splits[split]:
        masks = np.stack([read_mask(manifest.path(path)).array for path in record.ratings.values()])
        counts = np.bincount(count_votes(torch.from_numpy(masks)).numpy().ravel(), minlength=len(masks) + 1)
        levels = np.rint(np.arange(len(masks) + 1) * raters / len(masks)).astype(np.int64)
        np.add.at(totals, levels, counts)
    return [float(value) for value in totals / totals.sum()]


def list_images(
    folder: str | Path, *, channels: int | None = None, spatial_dims: int | None = None
) -> list[dict[str, str]]:
    """Return the images of a folder as sample dictionaries, sorted by name.

    Args:
        folder: where the images are; subfolders are not searched.
        channels: image channels of the model; with ``spatial_dims`` given too, every image is opened and checked.
        spatial_dims: 2 (pictures) or 3 (volumes).

    Raises:
        ManifestError: the folder does not exist or holds no image of a known format; or, naming all of them, images
            that cannot be read, hold NaN, do not fit the model, or differ only in their extension (their maps would
            get the same name).
    """
    root = Path(folder)
    if not root.is_dir():
        raise ManifestError(root, [Problem("there is no such folder")])
    files = sorted(p for p in root.iterdir() if p.is_file() and p.name.lower().endswith(IMAGE_SUFFIXES))
    if not files:
        raise ManifestError(root, [Problem(f"holds no image ({', '.join(IMAGE_SUFFIXES)})")])
    problems = _same_names(files)
    if channels is not None and spatial_dims is not None:
        reasons = [(path, _image_problem(path, channels, spatial_dims)) for path in files]
        problems += [Problem(reason, path=path.name) for path, reason in reasons if reason]
    if problems:
        raise ManifestError(root, problems)
    return [{"image": str(path), "case": path.name} for path in files]


def _same_names(files: Sequence[Path]) -> list[Problem]:
    kind = {suffix: ".tif" if suffix in (".tif", ".tiff") else ".png" for suffix in PILLOW_SUFFIXES}
    names = [(file_stem(path), kind.get(file_suffix(path), file_suffix(path))) for path in files]
    seen = Counter(names)
    reason = "has the name of another image; the maps of both would be the same files"
    return [Problem(reason, path=path.name) for path, name in zip(files, names, strict=True) if seen[name] > 1]


def _image_problem(path: Path, channels: int, spatial_dims: int) -> str:
    try:
        reason = _kind_problem(path, channels, spatial_dims)
        if reason:
            return reason
        array = read_image(path).array
    except ReadError as error:
        return str(error)
    finite = array.dtype.kind != "f" or bool(np.isfinite(array).all())
    return "" if finite else "has NaN or infinite values"
