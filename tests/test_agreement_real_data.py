# SPDX-License-Identifier: Apache-2.0
"""Agreement of real raters, voxel by voxel: LIDC and DRIVE against MONAI and SciPy, BU-BIL against NumPy."""

import itertools
import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
import torch
from monai.metrics import compute_average_surface_distance, compute_hausdorff_distance, compute_surface_dice
from PIL import Image
from scipy import ndimage, stats
from statsmodels.stats.inter_rater import fleiss_kappa

from monai_multirater.agreement import compare_same_different
from monai_multirater.studies import agreement_study

pytestmark = pytest.mark.slow
DISTANCES = ["hausdorff", "hausdorff95", "assd", "surface_dice"]


def study(folder: Path, cases: dict, save, **options):
    """Study of ``cases``: by name, masks by rater. ``save(mask, stem)`` writes one file and returns its path."""
    entries, raters = [], list(next(iter(cases.values())))
    for case, masks in cases.items():
        ratings = {}
        for rater, mask in masks.items():
            (folder / rater).mkdir(parents=True, exist_ok=True)
            ratings[rater] = save(mask, folder / rater / case).relative_to(folder).as_posix()
        entries.append({"case": case, "image": ratings[raters[0]], "ratings": ratings})
    manifest = folder / "manifest.json"
    manifest.write_text(json.dumps({"name": "real", "raters": raters, "test": entries}))
    fast = {"pictures": 0, "report": False, "permutations": 99, "resamples": 20}
    return agreement_study(manifest, out=folder / "out", **fast, **options)


def save_png(mask, stem):
    Image.fromarray(mask.astype(np.uint8) * 255).save(path := stem.with_name(stem.name + ".png"))
    return path


def monai_distances(first, second, spacing):
    """Hausdorff, HD95, ASSD and surface Dice at 1, by MONAI in float32."""
    a, b = (torch.from_numpy(mask)[None, None].float() for mask in (first, second))
    options = {"include_background": True, "spacing": [float(side) for side in spacing]}
    return [
        compute_hausdorff_distance(a, b, **options).item(),
        compute_hausdorff_distance(a, b, percentile=95, **options).item(),
        compute_average_surface_distance(a, b, symmetric=True, **options).item(),
        compute_surface_dice(a, b, class_thresholds=[1.0], **options).item(),
    ]


def scipy_distances(first, second, spacing):
    """The same by SciPy in float64: erosion and distance transforms of the whole image."""
    edges = [mask & ~ndimage.binary_erosion(mask) for mask in (first, second)]
    maps = [ndimage.distance_transform_edt(~edge, sampling=spacing) for edge in edges]
    ways = [maps[1][edges[0]], maps[0][edges[1]]]
    both = np.concatenate(ways)
    return [both.max(), max(np.percentile(way, 95) for way in ways), both.mean(), (both <= 1).mean()]


def check_pairs(pairs, cases, spacings, distances, tolerance):
    table = pairs.set_index(["case", "rater_a", "rater_b"])
    for case, masks in cases.items():
        for a, b in itertools.combinations(masks, 2):
            expected = distances(masks[a], masks[b], spacings[case])
            np.testing.assert_allclose(table.loc[(case, a, b), DISTANCES].to_numpy(float), expected, **tolerance)


@pytest.fixture(scope="module")
def nodules(shared_data, tmp_path_factory):
    """Every 40th nodule of LIDC with four readers, in 3D with the voxel size of its scan; and the study of them."""
    data = np.load(shared_data / "lidc" / "lidc_4rater_3d_native.npz")
    packed, cases, spacings = data["packed"], {}, {}
    for k in range(0, len(data["shape"]), 40):
        shape = (4, *data["shape"][k])
        bits = np.unpackbits(packed[data["offset"][k] : data["offset"][k + 1]])[: np.prod(shape)]
        case = f"n{int(data['nodule'][k])}"
        cases[case] = {f"slot{i}": mask for i, mask in enumerate(bits.reshape(shape).astype(bool))}
        spacings[case] = data["spacing"][k].astype(float)

    def save(mask, stem):
        affine = np.diag([*spacings[stem.name], 1.0])
        nib.save(nib.Nifti1Image(mask.astype(np.uint8), affine), path := stem.with_name(stem.name + ".nii.gz"))
        return path

    return cases, spacings, study(tmp_path_factory.mktemp("lidc"), cases, save)


@pytest.mark.parametrize("distances", [monai_distances, scipy_distances])
def test_distances_of_lidc_nodules_in_mm(nodules, distances):
    cases, spacings, found = nodules
    assert found.unit == "mm"
    assert len(found.pairs) == 6 * len(cases)
    assert any(np.ptp(spacing) > 1 for spacing in spacings.values())
    check_pairs(found.pairs, cases, spacings, distances, {"atol": 1e-5, "rtol": 0})


def test_group_measures_and_ceiling_of_lidc_nodules(nodules):
    cases, spacings, found = nodules
    table, dice = found.cases.set_index("case"), {rater: [] for rater in found.raters.rater}
    for case, masks in cases.items():
        stack = np.stack(list(masks.values()))
        votes = stack.sum(0)
        counts = np.stack([4 - votes.ravel(), votes.ravel()], 1)
        assert table.fleiss_kappa[case] == pytest.approx(fleiss_kappa(counts), abs=1e-12)
        volumes = [(votes >= k).sum() * np.prod(spacings[case]) for k in range(1, 5)]
        assert table.loc[case, [f"volume_at_least_{k}" for k in range(1, 5)]].to_list() == pytest.approx(volumes)
        p = votes[votes > 0] / 4
        assert table.entropy[case] == pytest.approx(stats.entropy([p, 1 - p], base=2).mean(), abs=1e-12)
        for rater, mask in masks.items():
            others = 2 * (votes - mask) > 3  # two of the three others
            dice[rater].append(2 * (mask & others).sum() / (mask.sum() + others.sum()))
    for row in found.raters.itertuples():
        assert row.ceiling_dice == pytest.approx(np.mean(dice[row.rater]), abs=1e-12)


def test_vessels_of_drive(shared_data, tmp_path):
    cases = {}
    for path in sorted((shared_data / "drive" / "rater1").iterdir())[::4]:
        other = next((shared_data / "drive" / "rater2").glob(f"{path.name[:2]}*"))
        cases[f"c{path.name[:2]}"] = {
            name: np.asarray(Image.open(file).convert("L")) > 0 for name, file in (("first", path), ("second", other))
        }
    pixels = dict.fromkeys(cases, (1, 1))
    pairs = study(tmp_path, cases, save_png).pairs
    check_pairs(pairs, cases, pixels, scipy_distances, {"atol": 1e-12, "rtol": 0})
    check_pairs(pairs, cases, pixels, monai_distances, {"atol": 1e-6, "rtol": 2e-6})  # MONAI's percentile is float32


def test_people_and_copies_of_bubil(shared_data, tmp_path):
    data = np.load(shared_data / "bubil" / "bubil_ds1_2A_3_256.npz")
    shape, raters = data["masks_shape"], [str(name) for name in data["rater"]]
    masks = np.unpackbits(data["masks_packed"], axis=1)[:, : np.prod(shape[1:])].reshape(shape).astype(bool)
    names = [f"{part}_{name}" for part, name in zip(data["dataset"], data["name"], strict=True)]
    cases = {name: dict(zip(raters, stack, strict=True)) for name, stack in zip(names, masks, strict=True)}
    found = study(tmp_path, cases, save_png, measures=["dice"])

    same, different, copies = [], [], set()
    for name, stack in cases.items():
        for a, b in itertools.combinations(raters, 2):
            first, second = stack[a], stack[b]
            dice = 2 * (first & second).sum() / (first.sum() + second.sum())
            (same if a.split("_")[0] == b.split("_")[0] else different).append(dice)
            if (first == second).all():
                copies.add((name, b))
    table = found.pairs.assign(**{f"person_{s}": found.pairs[f"rater_{s}"].str.split("_").str[0] for s in "ab"})
    row = compare_same_different(table, "person", measure="dice", levels=["pairs"], permutations=9, resamples=9)[0]
    assert (row.n_first, row.n_second) == (580, 4640)
    assert (row.mean_first, row.mean_second) == pytest.approx((np.mean(same), np.mean(different)), abs=1e-12)
    assert row.mann_whitney_u == stats.mannwhitneyu(same, different).statistic
    problems = pd.DataFrame(found.problems)
    duplicates = problems[problems.kind == "duplicate"]
    assert set(zip(duplicates.case, duplicates.rater, strict=True)) == copies
    assert len(copies) == len(duplicates) == 35
