# SPDX-License-Identifier: Apache-2.0
"""Whole agreement studies over files: how much of the time is reading; run with `--benchmark-only -s`.

Ellipses whose boundary wobbles, drawn by each rater with an offset and a size of their own, as PNG images and NIfTI
volumes. The peer is what a user of MONAI writes: ``LoadImage`` for every mask and ``compute_dice`` for every pair. It
does a share of the cases, whose time is taken as many times; both give the same mean Dice, which is asserted first.
Times are of the wall clock, one thread on both sides, medians of three runs.
"""

import itertools
import json
import time
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.metrics import compute_dice
from monai.transforms import LoadImage
from PIL import Image
from threadpoolctl import threadpool_limits

from monai_multirater.data import read_mask
from monai_multirater.studies.agreement import agreement_study

IMAGES, VOLUMES, PEER_CASES = 2394, 60, 40
QUICK = {"factors": (), "report": False, "pictures": 0, "overwrite": True}


def _mask(spatial, rng):
    """An ellipse with a wobbling boundary, within the middle of the image."""
    axes = np.meshgrid(*(np.linspace(-1, 1, n, dtype=np.float32) for n in spatial), indexing="ij", sparse=True)
    distance, wave = np.float32(0), np.float32(1)
    for axis in axes:
        shifted = axis - np.float32(0.05 * rng.standard_normal())
        distance = distance + shifted**2
        wave = wave * np.cos(np.float32(rng.uniform(4, 12)) * shifted)
    size = 0.45 * (1 + 0.06 * rng.standard_normal())
    return (np.sqrt(distance) < size * (1 + 0.08 * wave)).astype(np.uint8)


def _save(path, mask):
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".png":
        Image.fromarray(255 * mask).save(path)
    else:
        nib.save(nib.Nifti1Image(mask, np.diag([0.8, 0.8, 2.0, 1.0])), path)


def _dataset(folder, cases, raters, spatial, suffix):
    """Write a data set; its manifest."""
    rng, records = np.random.default_rng(0), []
    for k in range(cases):
        names = {f"r{r}": f"r{r}/c{k:04d}{suffix}" for r in range(raters)}
        for name in names.values():
            _save(folder / name, _mask(spatial, rng))
        records.append({"case": f"c{k:04d}", "image": names["r0"], "ratings": names})
    content = {"name": "masks", "raters": list(names), "training": records}
    (folder / "manifest.json").write_text(json.dumps(content))
    return folder / "manifest.json"


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with threadpool_limits(1):
        yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    return _dataset(tmp_path_factory.mktemp("images"), IMAGES, 4, (256, 256), ".png")


@pytest.fixture(scope="module")
def volumes(tmp_path_factory):
    return _dataset(tmp_path_factory.mktemp("volumes"), VOLUMES, 3, (128, 128, 64), ".nii.gz")


def _files(manifest, cases=None):
    records = json.loads(manifest.read_text())["training"][:cases]
    return [[manifest.parent / name for name in record["ratings"].values()] for record in records]


def _seconds(call):
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def _median_seconds(call):
    return float(np.median([_seconds(call) for _ in range(3)]))


def _measure(benchmark, manifest, out, *, jobs=1, **options):
    """Median seconds of a whole study and of its steps, over three runs; the share of reading; the study."""
    call = lambda: agreement_study(manifest, out=out, jobs=jobs, **QUICK, **options)  # noqa: E731
    call()
    runs = []
    for _ in range(3):
        for old in Path(out).glob(".cases/*"):
            old.unlink()
        wall = _seconds(call)
        runs.append(json.loads((out / "run.json").read_text())["seconds"] | {"wall": wall})
    seconds = {name: float(np.median([run[name] for run in runs])) for name in runs[0]}
    share = float(np.median([run["reading"] / jobs / run["wall"] for run in runs]))
    benchmark.extra_info |= {f"{name}_s": value for name, value in seconds.items()} | {"share_of_reading": share}
    benchmark.pedantic(lambda: None)
    return seconds, share, call()


def _peer(files):
    """Mean Dice of each case."""
    load, found = LoadImage(image_only=True), []
    for case in files:
        masks = [load(path)[None, None] > 0 for path in case]
        found.append(np.mean([float(compute_dice(a, b)) for a, b in itertools.combinations(masks, 2)]))
    return np.asarray(found)


def test_overlap_over_images_is_mostly_reading(benchmark, images, tmp_path):
    seconds, share, study = _measure(benchmark, images, tmp_path / "out", measures="overlap")
    some = _files(images, PEER_CASES)
    np.testing.assert_allclose(study.cases["mean_dice"][:PEER_CASES], _peer(some), atol=1e-6)
    peer = IMAGES / PEER_CASES * _median_seconds(lambda: _peer(some))
    benchmark.extra_info |= {"monai_s": peer, "times_monai": peer / seconds["wall"]}
    assert share >= 0.7


@pytest.mark.parametrize("measures", ["overlap", "all"])
def test_images_in_two_processes(benchmark, images, tmp_path, measures):
    _measure(benchmark, images, tmp_path / "out", measures=measures, jobs=2)


def test_all_measures_over_images(benchmark, images, tmp_path):
    _measure(benchmark, images, tmp_path / "out", measures="all")


def test_volumes(benchmark, volumes, tmp_path):
    _measure(benchmark, volumes, tmp_path / "out", measures="all")
    some = [path for case in _files(volumes, PEER_CASES) for path in case]
    load = LoadImage(image_only=True)
    for path in some[:3]:
        np.testing.assert_array_equal(read_mask(path).array, load(path).numpy())
    ours, peer = _median_seconds(lambda: list(map(read_mask, some))), _median_seconds(lambda: list(map(load, some)))
    benchmark.extra_info |= {"reading_ratio_to_monai": peer / ours, "ms_per_mask": 1000 * ours / len(some)}
