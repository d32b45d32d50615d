# SPDX-License-Identifier: Apache-2.0
"""The bundle's calibrators from fit to use. References: the same model without them, the calibrators called by hand."""

import json
import shutil
from pathlib import Path
from typing import Any

import bundle_runs as bundle
import numpy as np
import pytest
import SimpleITK as sitk
import torch
from PIL import Image

from monai_multirater.bundles import read_calibrator
from monai_multirater.calibration import CALIBRATORS, CalibrationRecord

RESOLUTION = 2e-5  # half a fine bin moves the loss by 6e-6 times the slope of the calibrator, at most


def calibrate(manifest: Path, root: Path, *overlays: str, **overrides: Any) -> CalibrationRecord:
    """Fit to the validation split of `manifest`."""
    files = bundle.configs("evaluate", *overlays, "calibrate")
    bundle.run(files, root, "infer", datalist=str(manifest), **overrides)
    models = Path(overrides.get("model_dir", root / "models"))
    return CalibrationRecord.load(overrides.get("calibration_file", models / "calibration.json"))


def scores(manifest: Path, root: Path, *overlays: str, **overrides: Any) -> dict[str, float]:
    output = root / "scores"
    bundle.evaluate(manifest, root, *overlays, output_dir=str(output), **overrides)
    found = json.loads((output / "summary.json").read_text())["scores"]["model"]
    return {name: found[name]["value"] for name in ("mr_ece", "brier", "nll", "auc")}


@pytest.fixture(scope="module")
def calibrated_2d(trained_2d: Path, phantoms_2d: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a trained 2D model with its calibrators."""
    root = tmp_path_factory.mktemp("calibrated_2d")
    shutil.copytree(trained_2d / "models", root / "models")
    calibrate(phantoms_2d, root)
    return root


@pytest.mark.slow
def test_each_method_evaluates_as_the_file_says(calibrated_2d: Path, phantoms_2d: Path) -> None:
    record = CalibrationRecord.load(calibrated_2d / "models" / "calibration.json")
    assert (record.split, record.cases, record.rule) == ("validation", 2, "expected")
    plain = scores(phantoms_2d, calibrated_2d, split="validation")
    assert plain["nll"] == pytest.approx(record.before.nll, abs=RESOLUTION)
    for method in CALIBRATORS:
        found = scores(phantoms_2d, calibrated_2d, split="validation", calibration=method)
        told = record.fits[method].scores
        assert told is not None
        assert found["nll"] == pytest.approx(told.nll, abs=RESOLUTION)
        assert found["brier"] == pytest.approx(told.brier, abs=RESOLUTION)
        assert found["nll"] <= plain["nll"] + 1e-7  # the identity is among the maps that were tried
        if method == "isotonic":
            assert found["mr_ece"] < 1e-5  # these are the cases it was fitted to
        else:
            assert found["auc"] == pytest.approx(plain["auc"], abs=1e-5)  # float32 rounds some voxels to ties
    untouched = scores(phantoms_2d, calibrated_2d, split="test", calibration="platt")
    assert 0 < untouched["nll"] != scores(phantoms_2d, calibrated_2d, split="test")["nll"]


@pytest.mark.slow
@pytest.mark.parametrize("method", CALIBRATORS)
def test_inference_writes_the_calibrated_probability(
    method: str, calibrated_2d: Path, phantoms_2d: Path, tmp_path: Path
) -> None:
    images = bundle.pick_images(phantoms_2d, tmp_path / "images", 1)
    maps = {}
    for name in ("none", method):
        bundle.infer(images, calibrated_2d, output_dir=str(tmp_path / name), calibration=name)
        maps[name] = {p.stem: np.asarray(Image.open(p)) for p in (tmp_path / name).iterdir()}
    plain, found = (maps[name].pop("p000_probability") / 65535 for name in ("none", method))
    record = CalibrationRecord.load(calibrated_2d / "models" / "calibration.json")
    expected = record.calibrator(method)(torch.from_numpy(plain)).numpy()
    difference = np.abs(found - expected)
    assert np.quantile(difference, 0.95) < 1e-4  # what 16 bits of the map without calibration tell
    assert np.abs(found - plain).max() > 1e-3
    for name, values in maps["none"].items():  # votes and uncertainty are those of the network
        np.testing.assert_array_equal(maps[method][name], values)


@pytest.mark.slow
def test_volumes_are_calibrated(trained_3d: Path, phantoms_3d: Path, tmp_path: Path) -> None:
    shutil.copytree(trained_3d / "models", tmp_path / "models")
    models = {"model_dir": str(tmp_path / "models")}
    record = calibrate(phantoms_3d, tmp_path, "evaluate_3d", **models)
    found = scores(phantoms_3d, tmp_path, "evaluate_3d", split="validation", calibration="platt", **models)
    told = record.fits["platt"].scores
    assert told is not None
    assert found["nll"] == pytest.approx(told.nll, abs=RESOLUTION)
    assert found["nll"] <= record.before.nll + 1e-7
    images = bundle.pick_images(phantoms_3d, tmp_path / "images", 1)
    maps = []
    for name in ("none", "platt"):
        output = tmp_path / name
        bundle.infer(images, tmp_path, "inference_3d", output_dir=str(output), calibration=name, **models)
        maps.append(torch.from_numpy(sitk.GetArrayFromImage(sitk.ReadImage(str(output / "p000_probability.nii.gz")))))
    torch.testing.assert_close(maps[1], record.calibrator("platt")(maps[0]), atol=1e-5, rtol=0)


@pytest.mark.slow
def test_missing_raters_and_the_majority_rule(phantoms_missing: Path, tmp_path: Path) -> None:
    bundle.train(phantoms_missing, tmp_path, max_epochs=1)
    path = tmp_path / "majority.json"
    record = calibrate(phantoms_missing, tmp_path, foreground_rule="majority", calibration_file=str(path))
    manifest = json.loads(phantoms_missing.read_text())
    assert record.rule == "majority"
    assert record.pairs == sum(len(case["ratings"]) for case in manifest["validation"]) * 32 * 32
    options = {"foreground_rule": "majority", "calibration_file": str(path), "split": "validation"}
    plain = scores(phantoms_missing, tmp_path, **options)
    assert scores(phantoms_missing, tmp_path, calibration="platt", **options)["nll"] <= plain["nll"]
    assert not (tmp_path / "models" / "calibration.json").exists()


@pytest.mark.slow
def test_calibrating_ignores_an_earlier_calibration(calibrated_2d: Path, phantoms_2d: Path, tmp_path: Path) -> None:
    path = calibrated_2d / "models" / "calibration.json"
    options = {"model_dir": str(calibrated_2d / "models"), "calibration_file": str(tmp_path / "again.json")}
    files = bundle.configs("evaluate", "calibrate")
    bundle.run(files, tmp_path, "infer", datalist=str(phantoms_2d), calibration="none", **options)
    assert (tmp_path / "again.json").read_bytes() == path.read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["evaluate", "inference"])
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"calibration": "beta"}, "calibration must be one of none, temperature, platt, isotonic. Got 'beta' instead"),
        ({"calibration_file": "/nowhere/calibration.json"}, "there is no calibration at /nowhere/calibration.json"),
        ({"foreground_rule": "majority"}, "it was fitted to the foreground rule expected, this job uses majority"),
        ({"checkpoint": None}, "it was fitted to other weights"),
    ],
    ids=["unknown", "missing", "other-rule", "other-weights"],
)
def test_what_does_not_belong_together_ends_the_run_with_one_line(
    name: str, change: dict[str, Any], message: str, calibrated_2d: Path, phantoms_2d: Path, tmp_path: Path
) -> None:
    if "checkpoint" in change:
        state = torch.load(calibrated_2d / "models" / "model.pt", weights_only=True)
        torch.save({key: value + 1 for key, value in state.items()}, tmp_path / "m.pt")
        change = {"checkpoint": str(tmp_path / "m.pt")}
    data = {"datalist": str(phantoms_2d)} if name == "evaluate" else {"input_dir": str(phantoms_2d.parent / "images")}
    output = tmp_path / "out"
    options = {"calibration": "platt", "output_dir": str(output), **data, **change}
    with pytest.raises(SystemExit, match=message) as caught:
        bundle.run(bundle.configs(name), calibrated_2d, "infer", **options)
    assert "\n" not in str(caught.value)
    assert not output.exists()


def test_damaged_files_are_told_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "calibration.json").write_text('{"methods": ')
    (tmp_path / "model.pt").write_bytes(b"weights")
    where = {"checkpoint": str(tmp_path / "model.pt"), "rule": "expected"}
    with pytest.raises(SystemExit, match=r"calibration\.json cannot be used: Expecting value"):
        read_calibrator(str(tmp_path / "calibration.json"), "platt", **where)
    assert read_calibrator("/nowhere", "none", **where) == "none"
    assert read_calibrator("/nowhere", None, **where) == "none"
