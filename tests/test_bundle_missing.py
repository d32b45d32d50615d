# SPDX-License-Identifier: Apache-2.0
"""Cases that different raters marked, of different sizes. Reference: the manifest itself."""

import json
import shutil
from pathlib import Path

import bundle_runs as bundle
import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from PIL import Image

pytestmark = pytest.mark.slow


def raters_by_case(manifest: Path, split: str = "test") -> dict[str, int]:
    return {case["case"]: len(case["ratings"]) for case in json.loads(manifest.read_text())[split]}


def check(manifest: Path, root: Path) -> pd.DataFrame:
    """Every score is finite, and every case was scored against the raters who marked it."""
    history = pd.read_csv(root / "models" / "history.csv")
    assert np.isfinite(history[["loss", "mr_ece", "auc", "brier"]]).all(axis=None)
    table = pd.read_csv(root / "eval" / "cases.csv").set_index("case")
    assert table["raters"].to_dict() == raters_by_case(manifest)
    assert np.isfinite(table[["mr_ece", "brier", "nll"]]).all(axis=None)
    return table


@pytest.mark.parametrize("objective", ["corn", "ranked_log", "rps_bce", "beta_binomial", "soft"])
def test_missing_raters_train_and_evaluate(objective: str, phantoms_missing: Path, tmp_path: Path) -> None:
    assert len(set(raters_by_case(phantoms_missing, "training").values())) > 1
    bundle.train(phantoms_missing, tmp_path, f"objectives/{objective}", batch_size=3)
    bundle.evaluate(phantoms_missing, tmp_path)
    check(phantoms_missing, tmp_path)


def test_pictures_of_different_sizes(phantoms_missing: Path, tmp_path: Path) -> None:
    folder = tmp_path / "data"
    shutil.copytree(phantoms_missing.parent, folder)
    manifest = folder / "manifest.json"
    content = json.loads(manifest.read_text())
    for index, case in enumerate(c for split in ("training", "validation", "test") for c in content[split]):
        width, height = 40 + 7 * index, 90 - 5 * index
        for path in (case["image"], *case["ratings"].values()):
            how = Image.Resampling.BILINEAR if path == case["image"] else Image.Resampling.NEAREST
            picture = Image.open(folder / path).resize((width, height), how)
            picture.save(folder / path)
        np.save(folder / case["truth"], np.full((height, width), 0.25, np.float32))
    for case in content["training"] + content["validation"]:
        del case["truth"]
    manifest.write_text(json.dumps(content))
    bundle.train(manifest, tmp_path)
    bundle.evaluate(manifest, tmp_path)
    table = check(manifest, tmp_path)
    assert table["truth_mae"].notna().all()
    bundle.infer(folder / "images", tmp_path)
    for path in (folder / "images").iterdir():
        with Image.open(path) as image, Image.open(tmp_path / "outputs" / f"{path.stem}_votes.png") as votes:
            assert votes.size == image.size


def test_volumes_of_different_sizes(phantoms_3d: Path, tmp_path: Path) -> None:
    """Also smaller than the window: the training pads, the windows of validation and evaluation do too."""
    folder = tmp_path / "data"
    shutil.copytree(phantoms_3d.parent, folder)
    manifest = folder / "manifest.json"
    content = json.loads(manifest.read_text())
    for index, case in enumerate(c for split in ("training", "validation", "test") for c in content[split]):
        corner = (24 - 2 * index, 12 + index, 24)
        for path in (case["image"], case["truth"], *case["ratings"].values()):
            volume = nib.load(folder / path)
            nib.save(volume.slicer[: corner[0], : corner[1], : corner[2]], folder / path)
    del content["training"][0]["ratings"][content["raters"][1]]
    manifest.write_text(json.dumps(content))
    bundle.train(manifest, tmp_path, "train_3d", **bundle.SMALL_3D)
    bundle.evaluate(manifest, tmp_path, "evaluate_3d", **bundle.here(tmp_path, "eval"))
    check(manifest, tmp_path)
