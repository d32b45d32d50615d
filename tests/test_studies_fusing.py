# SPDX-License-Identifier: Apache-2.0
"""Fusing a data set. References: vote counts in NumPy, STAPLE of SimpleITK, nibabel and SimpleITK for geometry."""

import csv
import json
import logging
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
import torch
from fusing_data import RATERS, SPACING, ellipsoid, make_dataset, planes, save_mask
from PIL import Image
from scipy.ndimage import gaussian_filter

from monai_multirater.agreement import rater_performance
from monai_multirater.data import ManifestError, read_mask
from monai_multirater.data.readers import read_image
from monai_multirater.studies import fuse_manifest, read_options
from monai_multirater.studies.fusing_pictures import disputed_cases
from monai_multirater.studies.records import file_name

FORMATS = {
    ".nii.gz": (14, 12, 8),
    ".nii": (14, 12, 8),
    ".nrrd": (14, 12, 8),
    ".mha": (14, 12, 8),
    ".npy": (14, 12, 8),
    ".png": (20, 17),
}


def _table(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def _times(folder: Path) -> dict[str, int]:
    """Time of change of every file of every case."""
    files = [p for part in ("consensus", "probability", ".cases") for p in (folder / part).iterdir()]
    return {f"{p.parent.name}/{p.name}": p.stat().st_mtime_ns for p in files}


def _probability(path: Path) -> np.ndarray:
    array = read_image(path).array
    return array / np.float32(65535) if array.dtype == np.uint16 else array


@pytest.mark.parametrize(("suffix", "shape"), FORMATS.items(), ids=FORMATS)
def test_every_format_comes_back_with_the_votes_of_numpy(tmp_path: Path, suffix: str, shape: tuple[int, ...]) -> None:
    manifest = make_dataset(tmp_path, suffix=suffix, shape=shape, missing=((1, "ben"),))
    fuse_manifest(manifest, method="soft", out=tmp_path / "out")
    for case in ("c0", "c1", "c2", "c3"):
        masks = np.stack(list(planes(manifest, case).values()))
        consensus = read_mask(tmp_path / "out" / "consensus" / f"{case}{suffix}")
        np.testing.assert_array_equal(consensus.array, 2 * masks.sum(0) > len(masks))
        found = _probability(tmp_path / "out" / "probability" / f"{case}{suffix}")
        np.testing.assert_allclose(found, masks.mean(0), atol=0.5 / 65535 if suffix == ".png" else 1e-7)
        source = read_mask(tmp_path / "anna" / f"{case}{suffix}")
        if source.affine is not None:
            np.testing.assert_array_equal(consensus.affine, source.affine)


def test_nifti_keeps_header_codes_and_picture_is_visible(tmp_path: Path) -> None:
    manifest = make_dataset(tmp_path / "nifti")
    fuse_manifest(manifest, method="majority", out=tmp_path / "out")
    for kind, dtype in (("consensus", np.uint8), ("probability", np.float32)):
        found = nib.load(tmp_path / "out" / kind / "c0.nii.gz")
        source = nib.load(tmp_path / "nifti" / "anna" / "c0.nii.gz")
        assert found.get_data_dtype() == dtype
        for field in ("sform_code", "qform_code", "xyzt_units", "pixdim", "srow_x", "srow_y", "srow_z", "quatern_b"):
            np.testing.assert_array_equal(found.header[field], source.header[field])
    manifest = make_dataset(tmp_path / "png", suffix=".png", shape=(20, 17))
    fuse_manifest(manifest, method="majority", out=tmp_path / "flat")
    assert set(np.unique(np.asarray(Image.open(tmp_path / "flat" / "consensus" / "c0.png")))) == {0, 255}


@pytest.mark.parametrize(("suffix", "shape"), [(".nii.gz", (14, 12, 8)), (".png", (20, 17))], ids=["3d", "2d"])
def test_staple_and_its_raters_are_those_of_simpleitk(tmp_path: Path, suffix: str, shape: tuple[int, ...]) -> None:
    manifest = make_dataset(tmp_path, suffix=suffix, shape=shape, missing=((1, "ben"),))
    fuse_manifest(manifest, method="staple", out=tmp_path / "out")
    rows = {(row["case"], row["rater"]): row for row in _table(tmp_path / "out" / "raters.csv")}
    cases = {row["case"]: row for row in _table(tmp_path / "out" / "cases.csv")}
    for case in ("c0", "c1", "c3"):
        masks = planes(manifest, case)
        reference = sitk.STAPLEImageFilter()
        images = [sitk.GetImageFromArray(np.ascontiguousarray(mask.T)) for mask in masks.values()]
        expected = sitk.GetArrayFromImage(reference.Execute(images)).T
        found = _probability(tmp_path / "out" / "probability" / f"{case}{suffix}")
        np.testing.assert_allclose(found, expected, atol=1e-6 if suffix != ".png" else 1e-5)
        assert int(cases[case]["iterations"]) == reference.GetElapsedIterations()
        for rater, p, q in zip(masks, reference.GetSensitivity(), reference.GetSpecificity(), strict=True):
            assert float(rows[case, rater]["sensitivity"]) == pytest.approx(p, abs=1e-6)
            assert float(rows[case, rater]["specificity"]) == pytest.approx(q, abs=1e-6)


def test_tables_give_sizes_dice_and_absent_raters(tmp_path: Path) -> None:
    manifest = make_dataset(tmp_path, missing=((1, "ben"),))
    summary = fuse_manifest(manifest, method="majority", out=tmp_path / "out")
    rows = _table(tmp_path / "out" / "raters.csv")
    assert [(row["case"], row["rater"]) for row in rows] == [(f"c{k}", r) for k in range(4) for r in RATERS]
    for row in rows:
        masks = planes(manifest, row["case"])
        if row["rater"] not in masks:
            assert (row["case"], row["rater"], row["present"], row["weight"]) == ("c1", "ben", "False", "0.0")
            assert row["size_voxels"] == row["dice"] == row["sensitivity"] == ""
            continue
        mask = masks[row["rater"]]
        consensus = 2 * np.stack(list(masks.values())).sum(0) > len(masks)
        assert int(row["size_voxels"]) == mask.sum()
        assert float(row["size_ml"]) == pytest.approx(mask.sum() * np.prod(SPACING) / 1000)
        assert row["size_mm2"] == ""
        both = (mask & consensus).sum()
        assert float(row["dice"]) == pytest.approx(2 * both / (mask.sum() + consensus.sum()))
        assert float(row["sensitivity"]) == pytest.approx(both / consensus.sum())
        assert float(row["weight"]) == pytest.approx(1 / len(masks))
    cases = _table(tmp_path / "out" / "cases.csv")
    assert [row["raters"] for row in cases] == ["3", "2", "3", "3"]
    assert all(float(row["seconds_reading"]) > 0 for row in cases)
    stored = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert stored["raters"]["ben"]["cases"] == 3
    assert stored["raters"]["anna"]["mean_dice"] == pytest.approx(
        np.mean([float(row["dice"]) for row in rows if row["rater"] == "anna"])
    )
    assert summary.files == tuple(tmp_path / "out" / name for name in ("cases.csv", "raters.csv", "summary.json"))


def test_areas_of_flat_images_with_geometry(tmp_path: Path) -> None:
    manifest = make_dataset(tmp_path, suffix=".nrrd", shape=(20, 17))
    fuse_manifest(manifest, method="majority", out=tmp_path / "out")
    row = _table(tmp_path / "out" / "raters.csv")[0]
    assert float(row["size_mm2"]) == pytest.approx(planes(manifest, "c0")["anna"].sum() * 0.5 * 0.75)
    assert row["size_ml"] == ""


def test_simple_tells_who_was_dropped(tmp_path: Path) -> None:
    raters = ("a", "b", "c", "d", "e")
    manifest = make_dataset(tmp_path, raters=raters, cases=2)
    save_mask(tmp_path / "e" / "c0.nii.gz", ellipsoid((14, 12, 8), 0, 0)[::-1].copy())
    fuse_manifest(manifest, method="simple", out=tmp_path / "out")
    dropped = {row["rater"]: row["dropped"] for row in _table(tmp_path / "out" / "raters.csv") if row["case"] == "c0"}
    assert dropped["e"] == "True"


def test_ties_and_single_raters_are_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    manifest = make_dataset(tmp_path, missing=((0, "ben"), (2, "ben"), (2, "cleo")))
    with caplog.at_level(logging.INFO, "monai_multirater"):
        fuse_manifest(manifest, method="majority", out=tmp_path / "out", options={"ties": "foreground"})
    rule = "where exactly half of the raters say foreground, it is foreground"
    assert f"1 of 4 cases have an even number of raters: {rule}." in caplog.text
    assert "1 of 4 cases have one rater only: there is nothing to fuse." in caplog.text
    assert json.loads((tmp_path / "out" / "summary.json").read_text())["ties"] == rule
    union = np.maximum(*planes(manifest, "c0").values())
    np.testing.assert_array_equal(read_mask(tmp_path / "out" / "consensus" / "c0.nii.gz").array, union)
    single = planes(manifest, "c2")["anna"]
    np.testing.assert_array_equal(read_mask(tmp_path / "out" / "consensus" / "c2.nii.gz").array, single)


def test_a_case_that_all_left_empty_is_remarked(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    manifest = make_dataset(tmp_path)
    for rater in RATERS:
        save_mask(tmp_path / rater / "c1.nii.gz", np.zeros((14, 12, 8), np.uint8))
    fuse_manifest(manifest, method="staple", out=tmp_path / "out")
    assert "Case c1: staple: all raters left empty" in caplog.text
    row = _table(tmp_path / "out" / "cases.csv")[1]
    assert (row["size_voxels"], row["size_ml"]) == ("0", "0.0")
    assert "all raters left empty" in row["remarks"]
    assert _table(tmp_path / "out" / "raters.csv")[3]["dice"] == "1.0"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"method": "stapel"}, r"method must be one of random, majority.*Got 'stapel'"),
        ({"method": "staple", "options": {"sigma": 2}}, r"staple does not have the option sigma. It has confidence_w"),
        ({"method": "soft-gaussian", "options": {"sigma": -1}}, "sigma"),
        ({"method": "soft-gaussian", "options": {"sigma": "wide"}}, r"soft_gaussian cannot take \{'sigma': 'wide'\}"),
        ({"method": "weighted", "options": {"weights": [1, 2]}}, "weights"),
        ({"method": "staple", "splits": ["dev"]}, "the splits are training, test. Got dev"),
        ({"method": "staple", "form": "jpeg"}, "format must be one of same, nrrd, dicom-seg. Got 'jpeg'"),
        ({"method": "staple", "jobs": 2, "dask": "2"}, "jobs must be at least 1, and 1 with Dask"),
        ({"method": "staple", "form": "dicom-seg"}, "case c0, images/c0.nii.gz: is not DICOM, which dicom-seg needs"),
    ],
    ids=["method", "option", "value", "type", "weights", "split", "format", "jobs-and-dask", "not-dicom"],
)
def test_a_bad_request_is_refused_before_work(tmp_path: Path, arguments: dict[str, Any], message: str) -> None:
    manifest = make_dataset(tmp_path)
    with pytest.raises(ValueError, match=message):
        fuse_manifest(manifest, out=tmp_path / "out", **arguments)
    assert not (tmp_path / "out").exists()


def test_bad_files_are_refused_before_work_all_in_one_error(tmp_path: Path) -> None:
    manifest = make_dataset(tmp_path)
    (tmp_path / "ben" / "c0.nii.gz").unlink()
    save_mask(tmp_path / "cleo" / "c1.nii.gz", np.zeros((14, 12, 9), np.uint8))
    moved = nib.Nifti1Image(ellipsoid((14, 12, 8), 2, 0), np.diag([0.5, 0.75, 2.1, 1]))
    nib.save(moved, tmp_path / "anna" / "c2.nii.gz")
    with pytest.raises(ManifestError) as caught:
        fuse_manifest(manifest, method="staple", out=tmp_path / "out")
    text = str(caught.value)
    assert "3 problems" in text
    assert "case c0, rater ben, ben/c0.nii.gz: is missing" in text
    assert "case c1, rater cleo, cleo/c1.nii.gz: has shape (14, 12, 9), its image has (14, 12, 8)" in text
    assert "case c2, rater anna, anna/c2.nii.gz: has an affine that differs" in text
    assert not (tmp_path / "out").exists()


def test_only_the_chosen_split_is_checked_and_fused_and_tables_add_up(tmp_path: Path) -> None:
    manifest = make_dataset(tmp_path)
    (tmp_path / "ben" / "c0.nii.gz").unlink()
    assert fuse_manifest(manifest, method="soft", out=tmp_path / "out", splits=["test"]).fused == 1
    assert [row["case"] for row in _table(tmp_path / "out" / "cases.csv")] == ["c3"]
    save_mask(tmp_path / "ben" / "c0.nii.gz", ellipsoid((14, 12, 8), 0, 1))
    summary = fuse_manifest(manifest, method="soft", out=tmp_path / "out", splits=["training"])
    assert (summary.fused, summary.kept) == (3, 0)
    assert [row["case"] for row in _table(tmp_path / "out" / "cases.csv")] == ["c0", "c1", "c2", "c3"]


def test_a_bad_mask_costs_its_case_only_and_is_done_when_repaired(tmp_path: Path) -> None:
    manifest, out = make_dataset(tmp_path), tmp_path / "out"
    save_mask(tmp_path / "ben" / "c1.nii.gz", np.full((14, 12, 8), 7, np.uint8))
    whole = (tmp_path / "cleo" / "c2.nii.gz").read_bytes()
    save_mask(tmp_path / "noise.nii.gz", np.random.default_rng(0).integers(0, 2, (14, 12, 8)).astype(np.uint8))
    (tmp_path / "cleo" / "c2.nii.gz").write_bytes((tmp_path / "noise.nii.gz").read_bytes()[:-60])
    with pytest.raises(RuntimeError) as caught:
        fuse_manifest(manifest, method="staple", out=out)
    text = str(caught.value)
    assert "fuse: 2 of 4 cases failed" in text
    assert "case c1: rater ben, ben/c1.nii.gz: is not binary: expected {0, 1} or {0, 255}, found 1 values (7)" in text
    assert "case c2: rater cleo, cleo/c2.nii.gz: cannot be read (damaged or truncated?)" in text
    status = {row["case"]: row["status"] for row in _table(out / "cases.csv")}
    assert status == {"c0": "finished", "c3": "finished", "c1": "failed", "c2": "failed"}
    assert set(json.loads((out / "summary.json").read_text())["failed"]) == {"c1", "c2"}
    before = _times(out)
    save_mask(tmp_path / "ben" / "c1.nii.gz", ellipsoid((14, 12, 8), 1, 1))
    (tmp_path / "cleo" / "c2.nii.gz").write_bytes(whole)
    summary = fuse_manifest(manifest, method="staple", out=out)
    assert (summary.fused, summary.kept, summary.failures) == (2, 2, {})
    assert {name: time for name, time in _times(out).items() if name in before} == before
    assert [row["status"] for row in _table(out / "cases.csv")] == ["finished"] * 4


def test_a_finished_folder_is_not_touched(tmp_path: Path) -> None:
    manifest, out = make_dataset(tmp_path), tmp_path / "out"
    fuse_manifest(manifest, method="staple", out=out)
    before, tables = _times(out), (out / "raters.csv").read_bytes()
    summary = fuse_manifest(manifest, method="staple", out=out)
    assert (summary.fused, summary.kept) == (0, 4)
    assert "4 were finished before" in summary.timing
    assert _times(out) == before
    assert (out / "raters.csv").read_bytes() == tables


@pytest.mark.parametrize("change", ["mask", "output", "record"])
def test_what_is_no_longer_valid_is_made_again(tmp_path: Path, change: str) -> None:
    manifest, out = make_dataset(tmp_path), tmp_path / "out"
    fuse_manifest(manifest, method="union", out=out)
    if change == "mask":
        save_mask(tmp_path / "ben" / "c1.nii.gz", np.ones((14, 12, 8), np.uint8))
    elif change == "output":
        (out / "probability" / "c1.nii.gz").unlink()
    else:
        (out / ".cases" / "c1.json").write_text('{"request": ')
    before = _times(out)
    assert fuse_manifest(manifest, method="union", out=out).fused == 1
    after = _times(out)
    assert {name.split("/")[1][:2] for name in after if after[name] != before.get(name)} == {"c1"}
    if change == "mask":
        assert read_mask(out / "consensus" / "c1.nii.gz").array.all()


def test_another_request_is_refused_with_what_differs_unless_overwritten(tmp_path: Path) -> None:
    manifest, out = make_dataset(tmp_path), tmp_path / "out"
    fuse_manifest(manifest, method="soft", out=out)
    with pytest.raises(ValueError, match=r"method was soft, is soft_gaussian; options was \{\}, is \{'sigma': 2\}"):
        fuse_manifest(manifest, method="soft-gaussian", out=out, options={"sigma": 2})
    other = make_dataset(tmp_path / "other")
    with pytest.raises(ValueError, match=r"manifest was .*manifest.json, is .*other/manifest.json"):
        fuse_manifest(other, method="soft", out=out)
    fuse_manifest(manifest, method="majority", out=out, form="nrrd", overwrite=True)
    assert sorted(p.name for p in (out / "consensus").iterdir()) == [f"c{k}.seg.nrrd" for k in range(4)]
    again = fuse_manifest(manifest, method="majority", out=out, form="nrrd", overwrite=True)
    assert again.kept == 4  # the same request: nothing to replace


def test_leftovers_of_a_killed_run_are_removed(tmp_path: Path) -> None:
    manifest, out = make_dataset(tmp_path), tmp_path / "out"
    (out / "consensus").mkdir(parents=True)
    (out / "consensus" / ".c0.4711.tmp~.nii.gz").write_bytes(b"half")
    fuse_manifest(manifest, method="soft", out=out)
    assert sorted(p.name for p in (out / "consensus").iterdir()) == [f"c{k}.nii.gz" for k in range(4)]


def test_random_raters_do_not_depend_on_what_was_done_before(tmp_path: Path) -> None:
    manifest = make_dataset(tmp_path, cases=8)
    fuse_manifest(manifest, method="random", out=tmp_path / "whole", seed=3)
    fuse_manifest(manifest, method="random", out=tmp_path / "parts", seed=3, splits=["test"])
    fuse_manifest(manifest, method="random", out=tmp_path / "parts", seed=3)
    fuse_manifest(manifest, method="random", out=tmp_path / "other", seed=4)
    tables = {name: (tmp_path / name / "raters.csv").read_bytes() for name in ("whole", "parts", "other")}
    assert tables["whole"] == tables["parts"] != tables["other"]
    chosen = {row["rater"] for row in _table(tmp_path / "whole" / "raters.csv") if row["weight"] == "1.0"}
    assert len(chosen) > 1


def test_slicer_segmentation_lies_where_the_nifti_mask_lies(tmp_path: Path) -> None:
    manifest = make_dataset(tmp_path)
    fuse_manifest(manifest, method="majority", out=tmp_path / "out", form="nrrd")
    found = sitk.ReadImage(str(tmp_path / "out" / "consensus" / "c0.seg.nrrd"))
    source = sitk.ReadImage(str(tmp_path / "anna" / "c0.nii.gz"))
    for getter in ("GetSize", "GetSpacing", "GetOrigin", "GetDirection"):
        np.testing.assert_allclose(getattr(found, getter)(), getattr(source, getter)(), atol=1e-6)
    votes = np.stack(list(planes(manifest, "c0").values())).sum(0)
    np.testing.assert_array_equal(sitk.GetArrayFromImage(found).T, votes >= 2)
    assert found.GetMetaData("Segment0_Name") == "consensus"
    assert sitk.ReadImage(str(tmp_path / "out" / "probability" / "c0.nrrd")).GetPixelID() == sitk.sitkFloat32


def test_pictures_cannot_become_slicer_segmentations(tmp_path: Path) -> None:
    manifest = make_dataset(tmp_path, suffix=".png", shape=(20, 17))
    with pytest.raises(ManifestError, match=r"case c0, rater anna, anna/c0.png: is not a volume with geometry"):
        fuse_manifest(manifest, method="majority", out=tmp_path / "out", form="nrrd")


def test_a_flipped_mask_is_reported_and_used_as_it_is(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    manifest = make_dataset(tmp_path, raters=("a", "b", "c", "d", "e"), cases=3)
    flipped = ellipsoid((14, 12, 8), 1, 2)[:, ::-1].copy()
    save_mask(tmp_path / "c" / "c1.nii.gz", flipped)
    fuse_manifest(manifest, method="majority", out=tmp_path / "out")
    assert "Case c1: the mask of rater c agrees far better after flip axis 1" in caplog.text
    flags = {(row["case"], row["rater"]): row["flip"] for row in _table(tmp_path / "out" / "raters.csv") if row["flip"]}
    assert flags == {("c1", "c"): "flip axis 1"}
    np.testing.assert_array_equal(read_mask(tmp_path / "c" / "c1.nii.gz").array, flipped)
    votes = np.stack([flipped, *(ellipsoid((14, 12, 8), 1, r) for r in (0, 1, 3, 4))]).sum(0)
    np.testing.assert_array_equal(read_mask(tmp_path / "out" / "consensus" / "c1.nii.gz").array, votes > 2)


@pytest.mark.parametrize(("suffix", "shape"), [(".nii.gz", (14, 12, 8)), (".png", (20, 17))], ids=["mm", "voxels"])
def test_rater_view_is_that_of_the_agreement_functions(tmp_path: Path, suffix: str, shape: tuple[int, ...]) -> None:
    manifest = make_dataset(tmp_path, suffix=suffix, shape=shape, missing=((1, "ben"),))
    summary = fuse_manifest(manifest, method="staple", out=tmp_path / "out", rater_view=True)
    rows = _table(tmp_path / "out" / "raters.csv")
    for case in ("c0", "c1"):
        masks = planes(manifest, case)
        stack = torch.from_numpy(np.stack([masks.get(r, np.zeros(shape, np.uint8)) for r in RATERS]))
        present = torch.tensor([r in masks for r in RATERS])
        seen = rater_performance(stack, present, spacing=SPACING if suffix == ".nii.gz" else None)
        for r, row in enumerate(row for row in rows if row["case"] == case):
            for column in ("agreement", "size_bias", "boundary_bias", "boundary_distance"):
                expected = getattr(seen, column)[r].item()
                assert float(row[column] or "nan") == pytest.approx(expected, nan_ok=True)
    assert [row["rater"] for row in _table(tmp_path / "out" / "rater_summary.csv")] == list(RATERS)
    assert summary.files[2].name == "rater_summary.csv"


@pytest.mark.parametrize("suffix", [".nii.gz", ".nrrd"])
def test_a_sigma_per_axis_goes_by_the_axes_of_the_file(tmp_path: Path, suffix: str) -> None:
    """Reference: SciPy's Gaussian filter of the mean vote, axes as the file has them."""
    manifest = make_dataset(tmp_path, cases=2, suffix=suffix)
    options = {"sigma": [0.0, 1.0, 3.0]}
    fuse_manifest(manifest, method="soft-gaussian", options=options, out=tmp_path / "out")
    mean = np.mean([mask.astype(float) for mask in planes(manifest, "c0").values()], axis=0)
    expected = gaussian_filter(mean, options["sigma"], mode="nearest", truncate=4.0)
    written = read_image(next((tmp_path / "out" / "probability").glob("c0.*"))).array
    np.testing.assert_allclose(written, expected, rtol=0, atol=2e-6)


@pytest.mark.parametrize("suffix", [".png", ".nii.gz", ".nrrd"])
def test_the_most_disputed_cases_are_drawn(tmp_path: Path, suffix: str) -> None:
    manifest = make_dataset(tmp_path, suffix=suffix, shape=FORMATS[suffix], cases=4)
    disputed = np.zeros(FORMATS[suffix], np.uint8)
    disputed[-4:, -4:] = 1
    save_mask(tmp_path / "ben" / f"c2{suffix}", disputed)
    summary = fuse_manifest(manifest, method="soft", out=tmp_path / "out", pictures=2)
    drawn = sorted((tmp_path / "out" / "pictures").iterdir())
    assert len(drawn) == 2
    assert tmp_path / "out" / "pictures" / "c2.png" in drawn
    assert set(drawn) <= set(summary.files)
    width, height = Image.open(drawn[0]).size
    assert width > 2 * height > 200  # image, mean vote and consensus side by side
    fuse_manifest(manifest, method="soft", out=tmp_path / "out", pictures=1)
    assert [path.name for path in (tmp_path / "out" / "pictures").iterdir()] == ["c2.png"]


def test_disputed_cases_are_those_with_the_lowest_mean_dice() -> None:
    def record(*dice: float | None) -> dict[str, Any]:
        return {"raters": [{"present": d is not None, "dice": d} for d in dice]}

    records = {"a": record(0.9, 0.7), "b": record(0.1, None), "c": record(0.5, 0.6), "d": record(1.0, None, 0.2)}
    assert disputed_cases(records, 2) == ["c", "d"]
    assert disputed_cases(records, 9) == ["c", "d", "a"]  # one rater alone disputes nothing


def test_an_outlier_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    manifest = make_dataset(tmp_path, raters=("a", "b", "c", "d"), cases=5)
    for k in range(5):
        grid = np.indices((14, 12, 8)).sum(0) % 3 == 0
        save_mask(tmp_path / "d" / f"c{k}.nii.gz", grid.astype(np.uint8))
    fuse_manifest(manifest, method="staple", out=tmp_path / "out", rater_view=True)
    assert "Rater d is an outlier" in caplog.text
    flags = {row["rater"] for row in _table(tmp_path / "out" / "raters.csv") if row["outlier_rater"] == "True"}
    assert flags == {"d"}


# ITK leaves the bits of a last byte that is not full as they were in memory, so the frames fill whole bytes
@pytest.mark.parametrize("shape", [(8, 6, 5), (8, 6, 1)], ids=["series", "one-slice"])
@pytest.mark.parametrize("where", ["image", "dicom"])
def test_dicom_segmentations_of_a_ct_series(tmp_path: Path, shape: tuple[int, int, int], where: str) -> None:
    highdicom = pytest.importorskip("highdicom")
    from dicom_series import make_series, read_with_itk

    image = read_with_itk(make_series(tmp_path / "ct" / "c0", shape=shape))
    masks = [np.random.default_rng(r).integers(0, 2, shape[::-1]).astype(np.uint8) for r in range(3)]
    for rater, mask in zip(RATERS, masks, strict=True):
        written = sitk.GetImageFromArray(mask)
        written.CopyInformation(image)
        (tmp_path / rater).mkdir()
        sitk.WriteImage(written, str(tmp_path / rater / "c0.nii.gz"))
    record: dict[str, Any] = {"case": "c0", "ratings": {rater: f"{rater}/c0.nii.gz" for rater in RATERS}}
    record |= {"image": "ct/c0"} if where == "image" else {"image": "anna/c0.nii.gz", "dicom": "ct/c0"}
    content = {"name": "ct", "raters": RATERS, "segment": {"label": "Nodule"}, "test": [record]}
    (tmp_path / "manifest.json").write_text(json.dumps(content))
    fuse_manifest(tmp_path / "manifest.json", method="soft", out=tmp_path / "out", form="dicom-seg")
    votes = np.stack(masks).sum(0)
    seg = highdicom.seg.segread(tmp_path / "out" / "consensus" / "c0.dcm")
    assert seg.get_segment_description(1).segment_label == "Nodule"
    read = sitk.ReadImage(str(tmp_path / "out" / "consensus" / "c0.dcm"))
    on_series = sitk.Resample(read, image, sitk.Transform(), sitk.sitkNearestNeighbor, 0.0, sitk.sitkUInt8)
    np.testing.assert_array_equal(sitk.GetArrayFromImage(on_series) > 0, votes >= 2)
    fractional = highdicom.seg.segread(tmp_path / "out" / "probability" / "c0.dcm")
    assert fractional.segmentation_type.value == "FRACTIONAL"
    stored = fractional.get_volume(rescale_fractional=True).array.squeeze(-1)
    assert sorted(np.unique(np.rint(stored * 3))) == [0, 1, 2, 3]
    assert stored.sum() == pytest.approx(votes.sum() / 3, rel=0.01)
    fuse_manifest(tmp_path / "manifest.json", method="soft", out=tmp_path / "nifti")
    same = read_mask(tmp_path / "nifti" / "consensus" / "c0.nii.gz").array
    np.testing.assert_array_equal(same.T, votes >= 2)


def test_masks_off_the_dicom_grid_are_refused_before_work(tmp_path: Path) -> None:
    pytest.importorskip("highdicom")
    from dicom_series import make_series

    manifest = make_dataset(tmp_path, shape=(7, 6, 5), cases=1)
    content = json.loads(manifest.read_text())
    make_series(tmp_path / "ct")
    content["test"][0]["dicom"] = "ct"
    manifest.write_text(json.dumps({key: value for key, value in content.items() if key != "training"}))
    with pytest.raises(ManifestError, match=r"rater anna, anna/c0.nii.gz: lies elsewhere than its DICOM series"):
        fuse_manifest(manifest, method="soft", out=tmp_path / "out", form="dicom-seg")
    content["test"][0]["dicom"] = "images"
    manifest.write_text(json.dumps({key: value for key, value in content.items() if key != "training"}))
    with pytest.raises(ManifestError, match="case c0, images: holds no DICOM image"):
        fuse_manifest(manifest, method="soft", out=tmp_path / "out", form="dicom-seg")


@pytest.mark.parametrize("segment", ["Nodule", {"name": "Nodule"}, {"type": ["1", "SCT"]}], ids=str)
def test_a_malformed_segment_is_refused(tmp_path: Path, segment: Any) -> None:
    manifest = make_dataset(tmp_path, segment=segment)
    with pytest.raises(ValueError, match="'segment' of the manifest must be"):
        fuse_manifest(manifest, method="soft", out=tmp_path / "out")


def test_case_names_become_safe_file_names(tmp_path: Path) -> None:
    assert file_name("patient 1/ä: b") == "patient 1%2Fä%3A b"
    assert file_name(".hidden") == "%2Ehidden"
    assert len({file_name(name) for name in ("a/b", "a%2Fb", "a\\b")}) == 3
    manifest = make_dataset(tmp_path, cases=2)
    manifest.write_text(manifest.read_text().replace('"case": "c0"', '"case": "p/c0"'))
    fuse_manifest(manifest, method="soft", out=tmp_path / "out")
    assert (tmp_path / "out" / "consensus" / "p%2Fc0.nii.gz").is_file()


@pytest.mark.parametrize("bad", ["sigma", "sigma=", "=2"])
def test_options_are_json_or_text(bad: str) -> None:
    texts = ["sigma=2", "unit=mm", "weights=[1, 2.5]", "flag=true", "region=union"]
    expected = {"sigma": 2, "unit": "mm", "weights": [1, 2.5], "flag": True, "region": "union"}
    assert read_options(texts) == expected
    with pytest.raises(ValueError, match="once as NAME=VALUE"):
        read_options([bad])
    with pytest.raises(ValueError, match="once as NAME=VALUE"):
        read_options(["sigma=2", "sigma=3"])
