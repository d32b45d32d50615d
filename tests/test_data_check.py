# SPDX-License-Identifier: Apache-2.0
"""The whole-set check: every kind of damage is listed in one error; remarks are not errors."""

import logging
import shutil
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from PIL import Image

from monai_multirater.data import CaseRecord, Manifest, ManifestError, check_manifest, read_manifest


def _copy(manifest_path: Path, target: Path) -> Manifest:
    shutil.copytree(manifest_path.parent, target)
    return read_manifest(target / manifest_path.name)


def test_all_damage_of_a_2d_set_is_listed_at_once(phantoms_2d: Path, tmp_path: Path) -> None:
    manifest = _copy(phantoms_2d, tmp_path / "set")
    a, b, c, d, e, f = (case.case for case in manifest.splits["training"])
    root = manifest.root
    (root / f"careful/{a}.png").unlink()
    image = root / f"images/{b}.png"
    image.write_bytes(image.read_bytes()[:900])
    Image.fromarray(np.full((64, 64), 128, np.uint8)).save(root / f"tight/{c}.png")
    Image.fromarray(np.zeros((64, 60), np.uint8)).save(root / f"generous/{d}.png")
    Image.fromarray(np.zeros((64, 64), np.uint8)).save(root / f"images/{e}.png")
    np.save(root / f"truth/{f}.npy", np.full((64, 64), np.nan, np.float32))
    with pytest.raises(ManifestError) as caught:
        check_manifest(manifest, level="full")
    expected = {
        (a, "careful", f"careful/{a}.png"): "is missing",
        (b, "", f"images/{b}.png"): "cannot be read (damaged or truncated?)",
        (c, "tight", f"tight/{c}.png"): "is not binary: expected {0, 1} or {0, 255}, found 1 values (128)",
        (d, "generous", f"generous/{d}.png"): "has shape (64, 60), its image has (64, 64)",
        (e, "", f"images/{e}.png"): "is 2D with 1 channels, most images are 2D with 3",
        (f, "", f"truth/{f}.npy"): "has values outside of [0, 1]",
    }
    problems = {(p.case, p.rater, p.path): p.reason for p in caught.value.problems}
    assert problems.keys() == expected.keys()
    for key, reason in expected.items():
        assert problems[key].startswith(reason)
        assert all(part in str(caught.value) for part in key)


def test_headers_find_what_headers_show(phantoms_2d: Path, tmp_path: Path) -> None:
    manifest = _copy(phantoms_2d, tmp_path / "set")
    first, second = manifest.cases[:2]
    (manifest.root / first.ratings["careful"]).unlink()
    Image.fromarray(np.full((64, 64), 128, np.uint8)).save(manifest.root / second.ratings["tight"])
    with pytest.raises(ManifestError) as caught:
        check_manifest(manifest)
    assert [p.reason for p in caught.value.problems] == ["is missing"]


def test_affine_and_nan_of_a_volume(phantoms_3d: Path, tmp_path: Path) -> None:
    manifest = _copy(phantoms_3d, tmp_path / "set")
    first, second, third = manifest.splits["training"]
    path = manifest.path(first.ratings["tight"])
    mask = nib.load(path)
    shifted = mask.affine + np.diag([0.002, 0, 0, 0])
    nib.save(nib.Nifti1Image(np.asanyarray(mask.dataobj), shifted), path)
    path = manifest.path(second.image)
    image = nib.load(path)
    voxels = image.get_fdata().astype(np.float32)
    voxels[0, 0, :3] = [np.nan, np.inf, -np.inf]
    nib.save(nib.Nifti1Image(voxels, image.affine), path)
    with pytest.raises(ManifestError) as caught:
        check_manifest(manifest, level="full")
    assert [(p.case, p.rater, p.reason) for p in caught.value.problems] == [
        (first.case, "tight", "has an affine that differs by 0.002 from its image's (tolerance 0.001)"),
        (second.case, "", "has 3 NaN or infinite values"),
    ]
    with pytest.raises(ManifestError) as caught:
        check_manifest(manifest, affine_atol=0.01, level="full")
    assert [p.case for p in caught.value.problems] == [second.case]
    assert third.case not in str(caught.value)


def test_affine_with_nan_is_a_mismatch(phantoms_3d: Path, tmp_path: Path) -> None:
    manifest = _copy(phantoms_3d, tmp_path / "set")
    path = manifest.path(manifest.cases[0].ratings["tight"])
    mask = nib.load(path)
    affine = mask.affine.copy()
    affine[0, 3] = np.nan
    nib.save(nib.Nifti1Image(np.asanyarray(mask.dataobj), affine), path)
    with pytest.raises(ManifestError, match="affine that differs by nan"):
        check_manifest(manifest)


def test_structure_is_checked_too(phantoms_2d: Path) -> None:
    manifest = read_manifest(phantoms_2d)
    case = manifest.cases[0]
    broken = replace(manifest, splits={"training": (case, replace(case, image="../x.png")), "test": ()})
    with pytest.raises(ManifestError) as caught:
        check_manifest(broken)
    reasons = [p.reason for p in caught.value.problems]
    assert reasons == [
        "is listed twice, in 'training' and 'training'",
        "leaves the manifest's folder",
        "split 'test' is empty",
    ]


def test_one_rater_is_allowed_and_said(phantoms_2d: Path, caplog: pytest.LogCaptureFixture) -> None:
    manifest = read_manifest(phantoms_2d)
    records = tuple(replace(c, ratings={"tight": c.ratings["tight"]}) for c in manifest.cases)
    with caplog.at_level(logging.WARNING):
        (remark,) = check_manifest(replace(manifest, raters=("tight",), splits={"training": records}))
    assert remark.startswith("Only one rater (tight): agreement is undefined")
    assert remark in caplog.text


def test_remarks_on_copies_absent_raters_and_empty_masks(tmp_path: Path) -> None:
    for folder in ("images", "A", "B", "C"):
        (tmp_path / folder).mkdir()
        for index in range(2):
            pixels = np.zeros((8, 8), np.uint8)
            pixels[: index + 2] = 255 if folder != "C" else 0
            Image.fromarray(pixels).save(tmp_path / folder / f"{index}.png")
    records = tuple(CaseRecord(str(i), f"images/{i}.png", {r: f"{r}/{i}.png" for r in "ABC"}) for i in range(2))
    manifest = Manifest("m", ("A", "B", "C", "D"), {"training": records}, tmp_path)
    assert check_manifest(manifest, level="full") == (
        "Rater D marked no case.",
        "Raters A and B have identical masks in all 2 shared cases.",
        "All 2 masks of rater C are empty.",
    )


def test_no_case_with_two_raters_is_said(phantoms_2d: Path) -> None:
    manifest = read_manifest(phantoms_2d)
    names = ("careful", "tight")
    records = tuple(replace(c, ratings={names[i % 2]: c.ratings[names[i % 2]]}) for i, c in enumerate(manifest.cases))
    (remark,) = check_manifest(replace(manifest, raters=names, splits={"training": records}))
    assert "more than one rater" in remark


def test_unknown_level(phantoms_2d: Path) -> None:
    with pytest.raises(ValueError, match="'level' must be one of"):
        check_manifest(read_manifest(phantoms_2d), level="deep")
