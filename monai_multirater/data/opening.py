# SPDX-License-Identifier: Apache-2.0
"""What a bundle asks of a data set before work starts: open it, its channels, how often each vote count occurs."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from monai_multirater.data.check import check_manifest
from monai_multirater.data.datalist import Manifest, ManifestError, Problem, read_manifest
from monai_multirater.data.phantoms import make_phantoms
from monai_multirater.data.readers import ITK_SUFFIXES, NIFTI_SUFFIXES, PILLOW_SUFFIXES, read_image, read_mask
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
        check_manifest(manifest, level=level)
    return manifest


def _wait_for(path: Path, seconds: float = 600.0) -> None:
    end = time.monotonic() + seconds
    while not path.is_file():
        if time.monotonic() > end:
            raise TimeoutError(f"open_manifest: waited {seconds:.0f} s for rank 0 to make {path}.")
        time.sleep(0.2)


def image_channels(manifest: Manifest) -> int:
    """Return the number of channels of the first training image (1 for gray, 3 for color, 1 for volumes)."""
    record = manifest.cases[0]
    return int(read_image(manifest.path(record.image)).channels)


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


def list_images(folder: str | Path) -> list[dict[str, str]]:
    """Return the images of a folder as sample dictionaries, sorted by name.

    Raises:
        FileNotFoundError: the folder does not exist or holds no image of a known format.
    """
    root = Path(folder)
    if not root.is_dir():
        raise FileNotFoundError(f"list_images: there is no folder {root}.")
    files = sorted(p for p in root.iterdir() if p.is_file() and p.name.lower().endswith(IMAGE_SUFFIXES))
    if not files:
        raise FileNotFoundError(f"list_images: {root} holds no image ({', '.join(IMAGE_SUFFIXES)}).")
    return [{"image": str(path), "case": path.name} for path in files]
