# SPDX-License-Identifier: Apache-2.0
"""What a job asks of its data before it starts. Reference: loops over the files with Pillow."""

import json
import logging
import shutil
import threading
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from monai_multirater.data import (
    ManifestError,
    check_fit,
    image_channels,
    level_frequencies,
    list_images,
    open_manifest,
    read_manifest,
)
from monai_multirater.data import opening as opening_module

PHANTOMS = {"cases": 4, "size": 16, "raters": 2, "splits": (0.5, 0.25, 0.25), "seed": 1, "progress": False}


def test_missing_phantoms_are_announced_made_once_and_used_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    path = tmp_path / "phantoms" / "manifest.json"
    open_manifest(path, phantoms=PHANTOMS)
    assert "No data set was given: making phantoms with known truth" in caplog.text
    stamp = path.stat().st_mtime_ns
    caplog.clear()
    manifest = open_manifest(path, phantoms=PHANTOMS)
    assert "are used again" in caplog.text
    assert "making phantoms" not in caplog.text
    assert path.stat().st_mtime_ns == stamp
    assert len(manifest.cases) == 4


def test_phantoms_never_replace_another_folder(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("precious")
    with pytest.raises(FileExistsError, match="is not a phantom set"):
        open_manifest(tmp_path / "manifest.json", phantoms=PHANTOMS)
    assert (tmp_path / "mine.txt").read_text() == "precious"


def test_a_missing_split_is_named_with_those_that_exist(phantoms_2d: Path) -> None:
    with pytest.raises(ManifestError, match=r"'holdout' is needed and missing \(found: training, validation, test\)"):
        open_manifest(phantoms_2d, splits=("training", "holdout"))


def test_other_ranks_wait_for_the_manifest_and_do_not_check_files(tmp_path: Path, phantoms_2d: Path) -> None:
    copy = tmp_path / "set" / "manifest.json"
    copy.parent.mkdir()
    timer = threading.Timer(0.3, lambda: shutil.copy(phantoms_2d, copy))
    timer.start()
    manifest = open_manifest(copy, rank=1)  # the images are not there: only rank 0 would notice
    timer.join()
    assert len(manifest.cases) == 10
    with pytest.raises(ManifestError, match="is missing"):
        open_manifest(copy, rank=0)


def test_other_ranks_do_not_wait_for_ever(tmp_path: Path) -> None:
    with pytest.raises(TimeoutError, match="for rank 0 to make"):
        opening_module._wait_for(tmp_path / "manifest.json", seconds=0.01)


@pytest.mark.parametrize(("name", "channels"), [("phantoms_2d", 3), ("phantoms_3d", 1)])
def test_channels_of_the_images(name: str, channels: int, request: pytest.FixtureRequest) -> None:
    assert image_channels(read_manifest(request.getfixturevalue(name))) == channels


@pytest.mark.parametrize("name", ["phantoms_2d", "phantoms_missing"], ids=["all-raters", "missing-raters"])
def test_level_frequencies_equal_a_loop_over_the_masks(name: str, request: pytest.FixtureRequest) -> None:
    path = request.getfixturevalue(name)
    content = json.loads(path.read_text())
    raters = len(content["raters"])
    totals = np.zeros(raters + 1)
    for case in content["training"]:
        masks = [np.asarray(Image.open(path.parent / mask)) > 0 for mask in case["ratings"].values()]
        votes, present = np.sum(masks, 0), len(masks)
        for count in range(present + 1):
            totals[round(count * raters / present)] += (votes == count).sum()
    found = level_frequencies(read_manifest(path))
    np.testing.assert_allclose(found, totals / totals.sum(), rtol=1e-12)
    assert sum(found) == pytest.approx(1.0)


def test_a_data_set_fits_a_model_with_as_many_or_more_raters(phantoms_2d: Path) -> None:
    manifest = read_manifest(phantoms_2d)
    for raters in (4, 7):
        assert check_fit(manifest, raters=raters, channels=3, spatial_dims=2) is manifest


@pytest.mark.parametrize(
    ("name", "model", "message"),
    [
        ("phantoms_2d", {"raters": 3}, "has 4 raters; the model was trained for 3"),
        ("phantoms_2d", {"channels": 1}, r"case p000, images/p000.png: has 3 channels; the model was trained for 1"),
        ("phantoms_2d", {"spatial_dims": 3}, r"p000.png: is not a volume \(shape \(64, 64\)\)"),
        ("phantoms_3d", {"spatial_dims": 2}, r"p000.nii.gz: is not a picture .* add the 3D configuration"),
    ],
    ids=["raters", "channels", "picture-for-3d", "volume-for-2d"],
)
def test_what_does_not_fit_is_named(
    name: str, model: dict[str, int], message: str, request: pytest.FixtureRequest
) -> None:
    with pytest.raises(ManifestError, match=message):
        check_fit(read_manifest(request.getfixturevalue(name)), **model)


def picture(path: Path, shape: tuple[int, ...] = (8, 9, 3)) -> Path:
    Image.fromarray(np.zeros(shape, np.uint8)).save(path)
    return path


def test_images_of_a_folder_come_sorted_and_other_files_are_left_out(tmp_path: Path) -> None:
    for name in ("b.png", "a.JPG", "c.bmp"):
        picture(tmp_path / name)
    (tmp_path / "notes.txt").write_text("")
    (tmp_path / "sub.png").mkdir()
    assert [item["case"] for item in list_images(tmp_path)] == ["a.JPG", "b.png", "c.bmp"]
    assert list_images(tmp_path)[0]["image"] == str(tmp_path / "a.JPG")


@pytest.mark.parametrize("kind", ["absent", "empty"])
def test_a_folder_without_images_is_an_error(tmp_path: Path, kind: str) -> None:
    folder = tmp_path if kind == "empty" else tmp_path / "nowhere"
    with pytest.raises(ManifestError, match="holds no image" if kind == "empty" else "no such folder"):
        list_images(folder)


def test_all_unusable_images_are_named_at_once(tmp_path: Path, phantoms_3d: Path) -> None:
    picture(tmp_path / "good.png")
    picture(tmp_path / "gray.png", (8, 9))
    whole = picture(tmp_path / "whole.png").read_bytes()
    (tmp_path / "whole.png").unlink()
    (tmp_path / "cut.png").write_bytes(whole[:40])
    (tmp_path / "text.png").write_text("no image")
    Image.fromarray(np.full((8, 9), np.nan, np.float32)).save(tmp_path / "nan.tif")
    shutil.copy(phantoms_3d.parent / "images" / "p000.nii.gz", tmp_path / "volume.nii.gz")
    with pytest.raises(ManifestError) as caught:
        list_images(tmp_path, channels=3, spatial_dims=2)
    assert {p.path for p in caught.value.problems} == {"cut.png", "gray.png", "nan.tif", "text.png", "volume.nii.gz"}
    with pytest.raises(ManifestError, match=r"nan\.tif: has NaN or infinite values") as caught:
        list_images(tmp_path, channels=1, spatial_dims=2)
    assert "good.png: has 3 channels; the model was trained for 1" in str(caught.value)


def test_images_whose_maps_would_be_the_same_files_are_refused(tmp_path: Path) -> None:
    for name in ("a.png", "a.jpg", "b.png", "b.tif"):  # maps of TIFF are TIFF, of JPEG are PNG
        picture(tmp_path / name)
    with pytest.raises(ManifestError) as caught:
        list_images(tmp_path)
    assert [p.path for p in caught.value.problems] == ["a.jpg", "a.png"]
