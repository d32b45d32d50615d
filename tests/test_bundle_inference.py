# SPDX-License-Identifier: Apache-2.0
"""What inference writes. References: the network called by hand on images read by Pillow, nibabel or SimpleITK."""

from pathlib import Path

import bundle_runs as bundle
import nibabel as nib
import numpy as np
import pandas as pd
import pytest
import SimpleITK as sitk
import torch
from PIL import Image
from torch.nn import functional

ROTATION = np.array([[0.0, -1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])


def level_shares(logits: torch.Tensor) -> torch.Tensor:
    """Levels `[B, R + 1, *]` of conditional logits `[B, R, *]`, the default: P(level > k) is the product up to k."""
    above = torch.sigmoid(logits.double()).cumprod(1)
    ends = torch.ones_like(above[:, :1])
    return -torch.cat([ends, above, 0 * ends], 1).diff(dim=1)


def expected(levels: torch.Tensor) -> np.ndarray:
    """Expected fraction of raters of levels `[R + 1, *]`."""
    counts = np.arange(len(levels)) / (len(levels) - 1)
    return np.tensordot(counts, levels.numpy(), 1)


@pytest.mark.parametrize("name", ["a.png", "b.jpg", "c.tif"])
@pytest.mark.parametrize("size", [(45, 70), (32, 32), (20, 24)], ids=["larger", "same", "smaller"])
def test_maps_of_a_picture(trained_2d: Path, tmp_path: Path, name: str, size: tuple[int, int]) -> None:
    source = tmp_path / "images" / name
    source.parent.mkdir()
    rows, columns = size
    rng = np.random.default_rng(0)
    smooth = np.add.outer(np.linspace(0, 90, rows), np.linspace(0, 60, columns))[..., None] + [10, 60, 100]
    Image.fromarray((smooth + rng.integers(0, 5, (rows, columns, 3))).astype(np.uint8)).save(source)
    bundle.infer(source.parent, tmp_path, model_dir=str(trained_2d / "models"))

    pixels = np.asarray(Image.open(source)).transpose(2, 0, 1).astype(np.float32)
    image = (pixels - pixels.mean((1, 2), keepdims=True)) / pixels.std((1, 2), keepdims=True)
    probability, votes, uncertainty = (
        np.asarray(Image.open(tmp_path / "outputs" / f"{name[0]}_{kind}{'.tif' if name == 'c.tif' else '.png'}"))
        for kind in ("probability", "votes", "uncertainty")
    )
    assert probability.shape == votes.shape == uncertainty.shape == size
    scale = 1 if name == "c.tif" else 65535
    assert uncertainty.max() <= scale
    assert votes.max() <= 4
    if size == (45, 70):
        return  # shrinking smooths first: the values are checked where nothing is smoothed
    resized = functional.interpolate(torch.from_numpy(image)[None], (32, 32), mode="bilinear")
    with torch.no_grad():
        shares = level_shares(bundle.load_network(trained_2d)(resized))
        levels = functional.interpolate(shares, size, mode="bilinear")[0]
    np.testing.assert_allclose(probability / scale, expected(levels), atol=2e-5)
    disagree = votes != levels.argmax(0).numpy()
    top = levels.topk(2, dim=0).values
    assert (top[0] - top[1])[torch.from_numpy(disagree)].lt(1e-5).all()


@pytest.mark.parametrize("suffix", [".nii.gz", ".nrrd"])
@pytest.mark.parametrize("shape", [(16, 16, 16), (21, 18, 26)], ids=["one-window", "several-windows"])
def test_maps_of_a_volume(trained_3d: Path, tmp_path: Path, suffix: str, shape: tuple[int, int, int]) -> None:
    source = tmp_path / "images" / f"scan{suffix}"
    source.parent.mkdir()
    ramp = np.add.outer(
        np.add.outer(np.linspace(-900, 0, shape[0]), np.linspace(0, 200, shape[1])), np.arange(shape[2])
    )
    units = (ramp + np.random.default_rng(0).normal(0, 20, shape)).astype(np.int16)
    volume = sitk.GetImageFromArray(units.transpose(2, 1, 0))
    volume.SetSpacing((0.7, 0.8, 2.5))
    volume.SetOrigin((-12.5, 30.0, 7.0))
    volume.SetDirection(ROTATION.ravel())
    sitk.WriteImage(volume, str(source))
    outputs = tmp_path / "outputs"
    bundle.infer(source.parent, tmp_path, "inference_3d", model_dir=str(trained_3d / "models"), output_dir=str(outputs))
    written = {kind: sitk.ReadImage(str(outputs / f"scan_{kind}{suffix}")) for kind in ("probability", "votes")}
    for found in written.values():
        assert found.GetSize() == shape
        for getter in ("GetSpacing", "GetOrigin", "GetDirection"):
            np.testing.assert_allclose(getattr(found, getter)(), getattr(volume, getter)(), atol=1e-4)
    if suffix == ".nii.gz":
        affine = nib.load(outputs / f"scan_probability{suffix}").affine
        np.testing.assert_allclose(affine, nib.load(source).affine, atol=1e-4)
    probability = sitk.GetArrayFromImage(written["probability"]).transpose(2, 1, 0)
    assert 0 <= probability.min() <= probability.max() <= 1
    assert sitk.GetArrayFromImage(written["votes"]).max() <= 3
    if shape == (16, 16, 16):
        image = np.clip((units.astype(np.float32) + 1000) / 1400, 0, 1) * 2 - 1
        with torch.no_grad():
            levels = level_shares(bundle.load_network(trained_3d)(torch.from_numpy(image)[None, None]))[0]
        np.testing.assert_allclose(probability, expected(levels), atol=1e-5)


def test_a_case_is_inferred_as_it_is_evaluated(trained_2d: Path, phantoms_2d: Path, tmp_path: Path) -> None:
    """The error of the written maps against the truth equals that of the evaluation (same size, no resampling)."""
    models = {"model_dir": str(trained_2d / "models"), "spatial_size": [64, 64]}
    bundle.evaluate(phantoms_2d, tmp_path, **models)
    bundle.infer(phantoms_2d.parent / "images", tmp_path, **models)
    table = pd.read_csv(tmp_path / "eval" / "cases.csv").set_index("case")
    for case, row in table.iterrows():
        gray = np.asarray(Image.open(tmp_path / "outputs" / f"{case}_probability.png")) / 65535
        truth = np.load(phantoms_2d.parent / "truth" / f"{case}.npy")
        assert np.abs(gray - truth).mean() == pytest.approx(row["truth_mae"], abs=1e-5)
