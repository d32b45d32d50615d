# SPDX-License-Identifier: Apache-2.0
"""Build a manifest from one folder of images and one folder of masks per rater."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray
from PIL import Image
from tqdm.auto import tqdm

from monai_multirater.data.check import CaseReport, inspect_cases, raise_or_remark
from monai_multirater.data.datalist import CaseRecord, Manifest, write_manifest
from monai_multirater.data.problems import ManifestError, Problem
from monai_multirater.data.readers import (
    ITK_SUFFIXES,
    NIFTI_SUFFIXES,
    PILLOW_SUFFIXES,
    ReadError,
    file_stem,
    file_suffix,
    read_mask,
)
from monai_multirater.data.scan import NameRule, group_by_regex, join_table, rater_folders, scan_folders
from monai_multirater.data.splits import split_cases, terciles

SPLIT_NAMES = ("training", "validation", "test")
TRANSFERS = (None, "copy", "link")


def build_manifest(
    root: str | Path,
    *,
    images: str = "images",
    raters: Sequence[str] | None = None,
    truth: str | None = None,
    strip: Sequence[str] = (),
    match: str | None = None,
    skip_unmatched: bool = False,
    split: Sequence[float] = (0.7, 0.1, 0.2),
    seed: int = 0,
    group_regex: str | None = None,
    table: str | Path | None = None,
    name: str | None = None,
    out: str | Path | None = None,
    transfer: str | None = None,
    threshold: float | None = None,
    overwrite: bool = False,
    progress: bool = False,
) -> Path:
    """Build, check and write the manifest of ``ROOT/images``, ``ROOT/raterA``, ``ROOT/raterB``, ...

    Every file is opened first; all problems are reported in one error and nothing is written then. Cases are
    split by group, stratified by diagnosis (if a table gives one), number of raters and mean foreground area
    (terciles).

    Args:
        root: folder of the data set.
        images: its folder of images.
        raters: folders of masks in rater order; default every other folder that holds images, by name.
        truth: folder of true vote probabilities, if any.
        strip: endings to remove from file names before matching, for example ``["_mask", "_seg"]``.
        match: regular expression whose first group is the case.
        skip_unmatched: leave out images without mask and masks without image instead of reporting them.
        split: shares of training, validation and test.
        seed: of the split.
        group_regex: its first group in the case name is the patient; cases of one patient stay together.
        table: CSV file with a column ``case`` and optionally ``group``, ``diagnosis`` and others.
        name: of the data set; default the name of ``root``.
        out: the manifest; default ``root/manifest.json``. Paths are relative to its folder and may not leave
            it, so the folder must contain ``root``, or files must be brought there by ``transfer``.
        transfer: None, ``"copy"`` (files are copied) or ``"link"`` (symbolic links to the originals) into the
            folder of ``out``, which must be new or empty.
        threshold: binarize masks, foreground where ``value > threshold``; needs ``transfer="copy"``.
        overwrite: replace a manifest that exists.
        progress: show progress bars.

    Returns:
        Path of the manifest.

    Raises:
        ManifestError: lists everything wrong with the data.
        ValueError: if arguments contradict each other.
        FileExistsError: if the output exists.
    """
    root = Path(os.path.abspath(root))  # noqa: PTH100 - keeps symlinks
    out = root / "manifest.json" if out is None else Path(os.path.abspath(out))  # noqa: PTH100
    _check_arguments(root, out, transfer, threshold, overwrite)
    raters = tuple(raters) if raters else rater_folders(root, images, truth)
    if not raters:
        raise ManifestError(root, [Problem("has no folder of masks beside the images")])
    rule = NameRule(tuple(strip), match)
    records = scan_folders(root, images=images, raters=raters, truth=truth, rule=rule, skip_unmatched=skip_unmatched)
    if table is not None:
        records = join_table(records, Path(table))
    if group_regex is not None:
        records = group_by_regex(records, group_regex)
    draft = Manifest(name or root.name, raters, {"all": tuple(records)}, root)
    fractions = dict(zip(SPLIT_NAMES, split, strict=True))

    def finish(manifest: Manifest, path: Path) -> None:
        reports = inspect_cases(manifest, level="full", progress=progress)
        raise_or_remark(manifest, reports)
        write_manifest(replace(manifest, splits=_split(manifest, reports, fractions, seed)), path)

    if transfer is None:
        prefix = root.relative_to(out.parent).as_posix()
        finish(_moved(draft, prefix, out.parent), out)
    else:
        _transfer(draft, out, transfer, threshold, progress, finish)
    return out


def _check_arguments(root: Path, out: Path, transfer: str | None, threshold: float | None, overwrite: bool) -> None:
    if not root.is_dir():
        raise ManifestError(root, [Problem("the folder does not exist")])
    if transfer not in TRANSFERS:
        raise ValueError(f"build_manifest: 'transfer' must be one of {TRANSFERS}, got {transfer!r}.")
    if threshold is not None and transfer != "copy":
        raise ValueError("build_manifest: 'threshold' rewrites masks and needs transfer='copy' (--copy).")
    if transfer is None:
        if not root.is_relative_to(out.parent):
            raise ValueError(
                f"build_manifest: paths may not leave the manifest's folder, and {out.parent} does not "
                f"contain {root}; use transfer='copy' or 'link' (--copy, --link)."
            )
        if not _is_writable(out.parent):
            raise ValueError(
                f"build_manifest: {out.parent} cannot be written; choose 'out' in a folder of your own and "
                "transfer='copy' or 'link' (--copy, --link)."
            )
        if out.exists() and not overwrite:
            raise FileExistsError(f"build_manifest: {out} exists; pass overwrite to replace it.")
    elif out.parent.exists() and any(out.parent.iterdir()):
        raise FileExistsError(f"build_manifest: {out.parent} is not empty; files are brought to a new folder only.")


def _is_writable(folder: Path) -> bool:
    """Like ``os.access``, but a folder without any write permission is read-only for the superuser too."""
    return folder.is_dir() and bool(folder.stat().st_mode & 0o222) and os.access(folder, os.W_OK)


def _split(
    manifest: Manifest, reports: Sequence[CaseReport], fractions: dict[str, float], seed: int
) -> dict[str, tuple[CaseRecord, ...]]:
    records = manifest.cases
    kinds = [(repr(record.diagnosis), len(record.ratings)) for record in records]
    areas = [float(np.mean(list(report.areas.values()))) for report in reports]
    strata = [(*kind, third) for kind, third in zip(kinds, terciles(areas, kinds), strict=True)]
    groups = [("case", r.case) if r.group is None else ("group", r.group) for r in records]
    parts = split_cases(len(records), fractions=fractions, seed=seed, groups=groups, strata=strata)
    return {name: tuple(records[i] for i in indices) for name, indices in parts.items()}


def _moved(manifest: Manifest, prefix: str, root: Path) -> Manifest:
    def move(path: str) -> str:
        return path if prefix == "." else f"{prefix}/{path}"

    records = tuple(
        replace(
            record,
            image=move(record.image),
            ratings={rater: move(path) for rater, path in record.ratings.items()},
            truth=None if record.truth is None else move(record.truth),
        )
        for record in manifest.cases
    )
    return replace(manifest, splits={"all": records}, root=root)


def _transfer(
    draft: Manifest,
    out: Path,
    transfer: str,
    threshold: float | None,
    progress: bool,
    finish: Callable[[Manifest, Path], None],
) -> None:
    """Bring the files into a temporary folder, check them there, rename it when all is well."""
    out.parent.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{out.parent.name}.", dir=out.parent.parent))
    try:
        temporary.chmod(0o755)
        problems: list[Problem] = []
        bar = tqdm(draft.cases, desc=transfer.capitalize(), unit="case", disable=not progress, leave=False)
        records = [_bring(draft, record, temporary, transfer, threshold, problems) for record in bar]
        if problems:
            raise ManifestError(draft.root, problems)
        finish(replace(draft, splits={"all": tuple(records)}, root=temporary), temporary / out.name)
        os.rename(temporary, out.parent)  # noqa: PTH104 - replaces an empty folder
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _bring(
    draft: Manifest,
    record: CaseRecord,
    target: Path,
    transfer: str,
    threshold: float | None,
    problems: list[Problem],
) -> CaseRecord:
    ratings = dict(record.ratings)
    for path in (record.image, *([record.truth] if record.truth else [])):
        _bring_file(draft.path(path), target / path, transfer)
    for rater, path in record.ratings.items():
        if threshold is None:
            _bring_file(draft.path(path), target / path, transfer)
            continue
        try:
            ratings[rater] = _binarized(draft.path(path), target, path, threshold)
        except ReadError as error:
            problems.append(Problem(str(error), case=record.case, rater=rater, path=path))
    return replace(record, ratings=ratings)


def _bring_file(source: Path, target: Path, transfer: str) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    if transfer == "link":
        target.symlink_to(source.resolve())
    else:
        shutil.copyfile(source, target)


def _binarized(source: Path, folder: Path, relative: str, threshold: float) -> str:
    mask: NDArray[np.uint8] = read_mask(source, threshold=threshold).array
    suffix = file_suffix(source)
    target = folder / relative
    target.parent.mkdir(parents=True, exist_ok=True)
    if suffix in PILLOW_SUFFIXES:
        target = target.with_name(file_stem(source) + ".png")
        Image.fromarray(mask * np.uint8(255)).save(target)
    elif suffix in NIFTI_SUFFIXES:
        nib.save(nib.Nifti1Image(mask, nib.load(source).affine), target)
    elif suffix in ITK_SUFFIXES:
        target = target.with_name(file_stem(source) + (".nrrd" if suffix in (".nrrd", ".nhdr") else ".mha"))
        image = sitk.GetImageFromArray(np.ascontiguousarray(mask.T))
        image.CopyInformation(sitk.ReadImage(str(source)))
        sitk.WriteImage(image, str(target), useCompression=True)
    else:
        np.save(target, mask)
    return target.relative_to(folder).as_posix()
