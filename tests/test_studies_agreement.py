# SPDX-License-Identifier: Apache-2.0
"""Agreement of a data set. References: loops over masks in NumPy, scikit-learn, statsmodels, SciPy."""

import itertools
import json
import logging
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from fusing_data import RATERS, SPACING, make_dataset, planes, save_mask
from scipy.ndimage import binary_erosion
from scipy.spatial.distance import directed_hausdorff
from sklearn.metrics import cohen_kappa_score, jaccard_score
from statsmodels.stats.inter_rater import fleiss_kappa

from monai_multirater.data import ManifestError, read_manifest, read_mask
from monai_multirater.studies.agreement import AgreementStudy, agreement_study, incomplete
from monai_multirater.studies.agreement.counting import pattern_counts
from monai_multirater.studies.agreement.request import AgreementRequest

QUICK: dict[str, Any] = {"report": False, "pictures": 0, "resamples": 20, "factors": ()}


def _masks(manifest: Path, case: str) -> dict[str, np.ndarray]:
    data = read_manifest(manifest)
    record = next(record for record in data.cases if record.case == case)
    return {rater: read_mask(data.path(path)).array.astype(bool) for rater, path in record.ratings.items()}


def _dice(a: np.ndarray, b: np.ndarray) -> float:
    total = int(a.sum()) + int(b.sum())
    return 2 * int((a & b).sum()) / total if total else 1.0


@pytest.mark.parametrize("fixture", ["phantoms_2d", "phantoms_missing", "phantoms_3d"])
def test_pairs_are_those_of_loops_over_the_masks(fixture: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    manifest: Path = request.getfixturevalue(fixture)
    study = agreement_study(manifest, out=tmp_path, measures="overlap", **QUICK)
    found = {(row["case"], row["rater_a"], row["rater_b"]): row for row in study.pairs.to_dict("records")}
    data, expected = read_manifest(manifest), []
    for record in data.cases:
        masks = _masks(manifest, record.case)
        for a, b in itertools.combinations([rater for rater in data.raters if rater in masks], 2):
            expected.append((record.case, a, b))
            row, x, y = found[record.case, a, b], masks[a], masks[b]
            assert row["dice"] == pytest.approx(_dice(x, y), rel=1e-12)
            if x.any() or y.any():
                assert row["iou"] == pytest.approx(jaccard_score(x.ravel(), y.ravel()), abs=1e-12)
                assert row["kappa"] == pytest.approx(cohen_kappa_score(x.ravel(), y.ravel()), abs=1e-12)
            if y.any():
                assert row["sensitivity"] == pytest.approx((x & y).sum() / y.sum())
            assert row["specificity"] == pytest.approx((~x & ~y).sum() / (~y).sum())
    assert list(found) == expected
    assert study.unit == ("mm" if fixture == "phantoms_3d" else "voxels")


def test_distances_are_in_millimeters_along_the_axes_of_the_file(tmp_path: Path) -> None:
    manifest = make_dataset(tmp_path)
    study = agreement_study(manifest, out=tmp_path / "out", measures=["hausdorff", "assd"], **QUICK)
    for row in study.pairs.to_dict("records"):
        masks = planes(manifest, row["case"])
        edges = [np.argwhere(m & ~binary_erosion(m)) * SPACING for m in (masks[row["rater_a"]], masks[row["rater_b"]])]
        expected = max(directed_hausdorff(edges[0], edges[1])[0], directed_hausdorff(edges[1], edges[0])[0])
        assert row["hausdorff"] == pytest.approx(expected, rel=1e-6)
        assert row["volume_a"] == pytest.approx(masks[row["rater_a"]].sum() * np.prod(SPACING))
    voxels = agreement_study(manifest, out=tmp_path / "voxels", measures=["hausdorff"], voxels=True, **QUICK)
    assert (study.unit, voxels.unit) == ("mm", "voxels")
    assert voxels.pairs["volume_a"].iloc[0] == planes(manifest, "c0")["anna"].sum()


def test_cases_give_means_and_group_measures(phantoms_missing: Path, tmp_path: Path) -> None:
    study = agreement_study(phantoms_missing, out=tmp_path, measures=["overlap", "group"], **QUICK)
    for row in study.cases.to_dict("records"):
        masks = list(_masks(phantoms_missing, row["case"]).values())
        values = [_dice(a, b) for a, b in itertools.combinations(masks, 2)]
        assert row["mean_dice"] == pytest.approx(np.mean(values))
        assert row["min_dice"] == pytest.approx(min(values))
        assert row["size"] == pytest.approx(np.mean([mask.sum() for mask in masks]))
        votes = np.stack(masks).reshape(len(masks), -1).sum(0)
        table = np.stack([votes, len(masks) - votes], axis=1)
        assert row["fleiss_kappa"] == pytest.approx(fleiss_kappa(table), rel=1e-9)
        assert row["raters"] == len(masks)


@pytest.mark.parametrize("raters", [2, 3, 7], ids=lambda n: f"{n}-raters")
def test_the_ceiling_is_each_rater_against_the_majority_of_the_others(tmp_path: Path, raters: int) -> None:
    names = tuple(f"r{k}" for k in range(raters))
    manifest = make_dataset(tmp_path, suffix=".png", shape=(24, 20), raters=names, cases=5)
    study = agreement_study(manifest, out=tmp_path / "out", measures=["dice", "hausdorff95", "assd"], **QUICK)
    rows = pd.DataFrame(study.summary["ceiling"]).set_index(["rater", "measure"])
    for index, name in enumerate(names):
        dice, sensitivity = [], []
        for case in study.cases["case"]:
            masks = np.stack([mask.astype(bool) for mask in planes(manifest, case).values()])
            others = 2 * np.delete(masks, index, axis=0).sum(0) > raters - 1
            dice.append(_dice(masks[index], others))
            sensitivity.append((masks[index] & others).sum() / others.sum())
        assert rows.loc[(name, "dice"), "mean"] == pytest.approx(np.mean(dice))
        assert rows.loc[(name, "sensitivity"), "mean"] == pytest.approx(np.mean(sensitivity))
        assert rows.loc[(name, "dice"), "low"] <= np.mean(dice) <= rows.loc[(name, "dice"), "high"]
    assert rows.loc[("all raters", "dice"), "mean"] == pytest.approx(study.raters["ceiling_dice"].mean())
    assert rows.loc[("all raters", "hausdorff95"), "cases"] == 5
    if raters == 2:
        assert rows.loc[("r0", "assd"), "mean"] == pytest.approx(study.pairs["assd"].mean())


@pytest.mark.parametrize(("raters", "voxels"), [(1, 5), (3, 64), (6, 1000), (4, 300_001)])
def test_patterns_of_votes_are_those_of_unique_columns(raters: int, voxels: int) -> None:
    votes = (np.random.default_rng(raters).random((raters, voxels)) < 0.3).astype(np.uint8)
    votes[:, : voxels // 4] = 0
    codes = (votes.astype(np.int64) << np.arange(raters)[:, None]).sum(0)
    np.testing.assert_array_equal(pattern_counts(votes), np.bincount(codes, minlength=1 << raters))


def test_masks_are_resampled_to_the_nearest_pixel_center(tmp_path: Path) -> None:
    manifest = make_dataset(tmp_path, suffix=".png", shape=(40, 60))
    study = agreement_study(manifest, out=tmp_path / "out", measures="overlap", size=(10, 20), **QUICK)
    rows, columns = np.arange(10) * 4 + 2, np.arange(20) * 3 + 1  # centers at 4 i + 2 and 3 j + 1.5
    a, b = (planes(manifest, "c0")[name][np.ix_(rows, columns)].astype(bool) for name in ("anna", "ben"))
    assert study.pairs["dice"].iloc[0] == pytest.approx(_dice(a, b))
    assert study.summary["request"]["size"] == [10, 20]
    volume = make_dataset(tmp_path / "volume")
    with pytest.raises(RuntimeError, match="--size is for 2D masks"):
        agreement_study(volume, out=tmp_path / "refused", size=8, **QUICK)


def _damaged(tmp_path: Path) -> Path:
    raters = ("a", "b", "c", "d")
    shape = (24, 20)
    manifest = make_dataset(
        tmp_path, suffix=".png", shape=shape, raters=raters, cases=8, missing=tuple((0, r) for r in "bcd")
    )
    save_mask(tmp_path / "a" / "c1.png", np.zeros(shape, np.uint8))
    (tmp_path / "b" / "c2.png").write_bytes((tmp_path / "b" / "c2.png").read_bytes()[:40])
    (tmp_path / "c" / "c2.png").unlink()
    save_mask(tmp_path / "d" / "c3.png", np.ones((24, 21), np.uint8))
    save_mask(tmp_path / "d" / "c4.png", planes(manifest, "c4")["a"])
    save_mask(tmp_path / "d" / "c5.png", planes(manifest, "c5")["d"][::-1, ::-1].copy())
    return manifest


def test_bad_masks_cost_themselves_or_their_case_and_everything_is_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    manifest = _damaged(tmp_path)
    with caplog.at_level(logging.INFO, "monai_multirater"):
        study = agreement_study(manifest, out=tmp_path / "out", **QUICK)
    found = {(row.kind, row.case, row.rater): row.detail for row in study.problems.itertuples()}
    assert found["one rater", "c0", "a"] == "no pair to compare"
    assert ("empty", "c1", "a") in found
    assert found["unreadable", "c2", "b"].startswith("b/c2.png: cannot be read")
    assert found["unreadable", "c2", "c"] == "c/c2.png: is missing"
    assert found["mismatch", "c3", "d"] == "has shape (24, 21), the first mask (24, 20)"
    assert found["flipped", "c5", "d"].startswith("Dice 0.")
    counts = study.cases.set_index("case")["raters"].to_dict()
    assert counts == {"c1": 4, "c2": 2, "c4": 4, "c5": 4, "c6": 4, "c7": 4}
    assert study.summary["cases_with_one_rater"] == 1
    assert study.summary["masks_unreadable"] == 2
    assert "1 of 8 cases have fewer than two raters and are left out." in caplog.text
    assert "2 masks could not be read and count as missing." in caplog.text
    empty = study.pairs[(study.pairs["case"] == "c1") & (study.pairs["rater_a"] == "a")]
    assert empty["hausdorff"].isna().all()
    assert (empty["dice"] == 0).all()
    assert study.cases.set_index("case").loc["c1", "undefined_distances"] == 3
    text = incomplete(study)
    assert text.startswith("agreement: 3 problems; all else is measured and written:")
    assert "case c3, rater d: has shape" in text
    problems = pd.read_csv(tmp_path / "out" / "problems.csv")
    assert len(problems) == len(study.problems)


def test_copies_are_found(tmp_path: Path) -> None:
    manifest = make_dataset(tmp_path, suffix=".png", shape=(64, 48))
    save_mask(tmp_path / "cleo" / "c1.png", planes(manifest, "c1")["anna"])
    study = agreement_study(manifest, out=tmp_path / "out", measures="overlap", **QUICK)
    row = study.problems[study.problems["kind"] == "duplicate"].iloc[0]
    assert (row["case"], row["rater"]) == ("c1", "cleo")
    assert row["detail"] == f"equal to the mask of anna, {planes(manifest, 'c1')['anna'].sum()} voxels"
    assert incomplete(study) == ""


def test_an_affine_that_differs_fails_its_case(tmp_path: Path) -> None:
    manifest = make_dataset(tmp_path)
    nib.save(
        nib.Nifti1Image(planes(manifest, "c2")["ben"], np.diag([0.5, 0.75, 2.1, 1])), tmp_path / "ben" / "c2.nii.gz"
    )
    study = agreement_study(manifest, out=tmp_path / "out", measures="overlap", **QUICK)
    assert study.problems["detail"].iloc[0].startswith("has an affine that differs by ")
    assert "c2" not in set(study.cases["case"])


def test_files_hold_what_the_study_holds(tmp_path: Path) -> None:
    manifest = make_dataset(tmp_path, suffix=".png", shape=(40, 32), cases=6)
    options = QUICK | {"report": True, "pictures": 2}
    study = agreement_study(manifest, out=tmp_path / "out", **options)
    for name in study.summary["files"]:
        assert (tmp_path / "out" / name).stat().st_size > 0
    assert sum(name.startswith("pictures/") for name in study.summary["files"]) == 2
    read = pd.read_csv(tmp_path / "out" / "pairs.csv")
    pd.testing.assert_frame_equal(read, study.pairs, check_dtype=False, rtol=1e-15)
    content = json.loads((tmp_path / "out" / "agreement.json").read_text())
    assert content["tables"]["pairs"]["dice"] == study.pairs["dice"].tolist()
    assert content["tables"]["ceiling"]["rater"][-1] == "all raters"
    assert [row["case"] for row in content["galleries"]] == [gallery.case for gallery in study.galleries]
    worst = study.cases.sort_values("mean_dice")["case"].tolist()[:2]
    assert [gallery.case for gallery in study.galleries] == worst
    assert "outlines of 3 raters" in study.galleries[0].text
    assert study.summary["measures"]["dice"]["mean"] == pytest.approx(study.pairs["dice"].mean())
    assert study.summary["measures"]["dice"]["case_mean"] == pytest.approx(study.cases["mean_dice"].mean())


def _study(tmp_path: Path, **options: Any) -> AgreementStudy:
    manifest = make_dataset(tmp_path, suffix=".png", shape=(24, 20), cases=8)
    content = json.loads(manifest.read_text())
    for k, record in enumerate([*content["training"], *content["test"]]):
        record |= {"diagnosis": k % 2, "site": ["arm", "leg", "back"][k % 3], "constant": "x"}
    manifest.write_text(json.dumps(content))
    (tmp_path / "readers.csv").write_text("rater,skill\nanna,expert\nben,novice\ncleo,expert\nzoe,novice\n")
    tools = ("pen", "brush")
    masks = ["case,rater,tool"] + [f"c{k},{r},{tools[(k + i) % 2]}" for k in range(8) for i, r in enumerate(RATERS)]
    (tmp_path / "masks.csv").write_text("\n".join(masks) + "\n")
    (tmp_path / "images.csv").write_text("image_id,camera\n" + "".join(f"c{k}.png,{'AB'[k // 4]}\n" for k in range(8)))
    tables = [tmp_path / name for name in ("readers.csv", "masks.csv", "images.csv")]
    options = QUICK | {"measures": "overlap", "factors": None, "factor_tables": tables} | options
    return agreement_study(manifest, out=tmp_path / "out", **options)


def test_factors_come_from_the_manifest_and_tables_by_their_keys(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "monai_multirater"):
        study = _study(tmp_path, group="diagnosis")
    row = study.pairs[(study.pairs["case"] == "c3") & (study.pairs["rater_b"] == "cleo")].iloc[0]
    assert (row["rater_a"], row["skill_a"], row["skill_b"]) == ("anna", "expert", "expert")
    assert (row["tool_a"], row["tool_b"], row["site"], row["diagnosis"], row["camera"]) == (
        "brush",
        "brush",
        "arm",
        1,
        "A",
    )
    assert study.cases.set_index("case").loc["c5", "camera"] == "B"
    assert "readers.csv: 1 of 4 rows belong to no case or rater of the study." in caplog.text
    assert "Factor 'constant' is not analysed: it has one level only (x)." in caplog.text
    assert set(study.tests["factor"]) == {"diagnosis", "skill", "tool", "site", "camera"}
    test = study.tests[(study.tests["factor"] == "skill") & (study.tests["stratum"] == "all")].iloc[0]
    same = study.pairs["skill_a"] == study.pairs["skill_b"]
    assert test["mean_first"] == pytest.approx(study.pairs["dice"][same].mean())
    curve = study.dominance[study.dominance["comparison"] == "skill: same and different, pairs"]
    at = curve.iloc[40]
    assert at["first"] == pytest.approx((study.pairs["dice"][same] <= at["value"]).mean())
    assert {"diagnosis", "same_skill"} <= set(study.mixed["term"])
    assert "The mixed model is without 'same_tool'" in caplog.text  # it is the same as same_skill here


def test_a_value_against_the_rest(tmp_path: Path) -> None:
    study = _study(tmp_path, group="site=arm", factors=["skill"])
    row = study.tests[(study.tests["factor"] == "arm") & (study.tests["level"] == "pairs")].iloc[0]
    arm = study.pairs["site"] == "arm"
    assert (row["first"], row["second"], row["n_first"]) == ("arm", "not arm", int(arm.sum()))
    assert row["mean_second"] == pytest.approx(study.pairs["dice"][~arm].mean())
    assert {"arm=yes", "arm=no"} <= set(study.tests["stratum"])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"group": "diagnose"}, r"group must name a factor of cases. Got 'diagnose'; closest: diagnosis"),
        ({"group": "skill"}, r"group must name a factor of cases. Got 'skill'"),
        ({"group": "site=hand"}, r"group 'site' has no value 'hand'; there are: arm, leg, back"),
        ({"group": "constant"}, r"group 'constant' must have two values or more. Got x"),
        ({"factors": ["skil"]}, r"there is no factor 'skil'; closest: skill"),
        ({"factors": ["constant"]}, r"factor 'constant' cannot be analysed: it has one level only \(x\)"),
        ({"tested": ["assd"]}, r"tested must name measures of pairs. Got 'assd'"),
        ({"measures": ["dise"]}, r"unknown measure 'dise'; closest: dice"),
        ({"hd95": "largest"}, r"hd95 must be one of larger, pooled, area. Got 'largest'"),
        ({"tolerance": -1.0}, r"tolerance must be a length of at least 0. Got -1.0"),
        ({"size": (3, 4, 5)}, r"size must be one or two positive whole numbers. Got \(3, 4, 5\)"),
        ({"splits": ["dev"]}, r"agreement_study: the splits are training, test. Got dev"),
        ({"jobs": 2, "dask": "2"}, r"agreement_study: jobs must be at least 1, and 1 with Dask"),
        ({"factor_key": "nobody"}, r"readers.csv has no column 'nobody'"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else "",
)
def test_a_bad_request_is_refused(tmp_path: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        _study(tmp_path, **options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"factors": ["age"]}, r"factor 'age' cannot be analysed: it has 22 levels, more than 20"),
        ({"factors": ["constant"]}, r"factor 'constant' cannot be analysed: it has one level only \(1\)"),
        ({"group": "lonely"}, r"group 'lonely' must have two values or more. Got x"),
        ({"group": "flag=2"}, r"group 'flag' has no value '2'; there are: 0, 1"),
        ({"dask": "0"}, r"dask must be an address or at least 1 worker. Got '0'"),
    ],
    ids=["levels", "one-level", "group-of-one-rater", "value", "dask"],
)
def test_what_cannot_be_compared_is_refused_before_anything_is_measured(
    tmp_path: Path, options: dict[str, Any], message: str
) -> None:
    manifest = make_dataset(
        tmp_path, suffix=".png", shape=(8, 8), cases=23, missing=((0, "ben"), (0, "cleo"))
    )  # c0 has one rater and nothing to compare
    rows = [f"c{k},{k},1.0,{'xy'[not k]},{('1', '0', '')[k % 3]}" for k in range(23)]
    (tmp_path / "cases.csv").write_text("\n".join(["case,age,constant,lonely,flag", *rows]))
    with pytest.raises(ValueError, match=message):
        agreement_study(manifest, out=tmp_path / "out", factor_tables=[tmp_path / "cases.csv"], **QUICK | options)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("text", ["1", "1.0", "01"])
def test_a_number_that_names_a_group_may_be_written_in_any_way(tmp_path: Path, text: str) -> None:
    manifest = make_dataset(tmp_path, suffix=".png", shape=(8, 8), cases=9)
    rows = [f" c{k} , {('1', '0', '')[k % 3]}" for k in range(9)]
    (tmp_path / "cases.csv").write_text("\n".join(["\ufeffcase , flag", *rows, ",", ""]), encoding="utf-8")
    options = QUICK | {"factor_tables": [tmp_path / "cases.csv"], "group": f"flag={text}", "measures": "overlap"}
    study = agreement_study(manifest, out=tmp_path / "out", **options)
    ones = study.cases["case"].isin(["c0", "c3", "c6"])
    row = study.tests[(study.tests["analysis"] == "group") & (study.tests["level"] == "cases")].iloc[0]
    assert (row["n_first"], row["n_second"]) == (3, 3)
    assert row["mean_first"] == pytest.approx(study.cases.loc[ones, "mean_dice"].mean())


def test_a_table_in_another_encoding_is_refused(tmp_path: Path) -> None:
    manifest = make_dataset(tmp_path, suffix=".png", shape=(8, 8))
    (tmp_path / "bad.csv").write_bytes("case,site\nc1,Füße\n".encode("latin-1"))
    with pytest.raises(ValueError, match=r"must be a CSV table in UTF-8. Got byte 0xfc at position 14"):
        agreement_study(manifest, out=tmp_path / "out", factor_tables=[tmp_path / "bad.csv"], **QUICK)


def test_the_folder_must_not_be_a_file_or_hold_the_data(tmp_path: Path) -> None:
    manifest = make_dataset(tmp_path, suffix=".png", shape=(8, 8))
    for folder in (tmp_path, tmp_path / "anna"):
        with pytest.raises(ValueError, match=r"out must be a folder of its own. Got .*, which holds the data set"):
            agreement_study(manifest, out=folder, **QUICK)
    with pytest.raises(ValueError, match=r"out must be a folder. Got the file .*manifest.json"):
        agreement_study(manifest, out=manifest, **QUICK)


def test_pictures_of_cases_with_long_or_odd_names(tmp_path: Path) -> None:
    manifest = make_dataset(tmp_path, suffix=".png", shape=(24, 20), cases=4)
    names, content = ["n" * 300, "a/b", "..", "é ü"], json.loads(manifest.read_text())
    for record, name in zip([*content["training"], *content["test"]], names, strict=True):
        record["case"] = name
    manifest.write_text(json.dumps(content))
    study = agreement_study(manifest, out=tmp_path / "out", **QUICK | {"pictures": 4})
    assert {gallery.case for gallery in study.galleries} == set(names)
    assert len({gallery.picture for gallery in study.galleries}) == 4
    assert all(gallery.picture.parent == tmp_path / "out" / "pictures" for gallery in study.galleries)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a,b\n1,2\n", "must have a column 'case' or 'rater'"),
        ("case,tool\nc1,pen\nc1,brush\n", "factor 'tool' must have one value for each key. Got pen, brush for c1"),
        ("first,second,age\nc1,c2,5\nc3,c4,6\n", r"several columns name cases \(first, second\)"),
        ("case,diagnosis\nc1,5\n", "a factor must come from one place only. Got twice: diagnosis"),
        ("", "is not a CSV table: it is empty"),
        ("kase,age\nz,5\n", "the raters are anna, ben, cleo, cases c0, c1, c2, c3, c4, ..."),
        (
            "case,age\nc01,5\nc02,6\n",
            "must have rows of the cases or raters of the study. Got case c01, c02; the raters",
        ),
        ("case,age\n", "must have a row. Got only the columns case, age"),
        ("case\nc1\n", "must have a column of a factor. Got only the columns case"),
        ("case,age,age\nc1,5,6\n", "must have every column once. Got twice: age"),
        ("case,age\nc1,5,6\n", r"a row must have as many cells as the first, 2. Got 3 in row 2"),
        ("case;age\nc1;5\n", "must be separated by commas. Got semicolons in the first line"),
    ],
    ids=[
        "no-key",
        "two-values",
        "two-keys",
        "twice",
        "empty",
        "unknown-column",
        "unknown-cases",
        "no-rows",
        "no-factor",
        "column-twice",
        "long-row",
        "semicolons",
    ],
)
def test_a_bad_table_of_factors_is_refused(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "bad.csv").write_text(text)
    with pytest.raises(ValueError, match=message):
        _study(tmp_path, factor_tables=[tmp_path / "bad.csv"])


def test_a_data_set_of_single_raters_is_refused(tmp_path: Path) -> None:
    manifest = make_dataset(tmp_path, missing=tuple((k, r) for k in range(4) for r in RATERS[1:]))
    with pytest.raises(ValueError, match=r"some case must have two raters. Got one in each of 4 cases"):
        agreement_study(manifest, out=tmp_path / "out", **QUICK)
    assert not (tmp_path / "out").exists()
    (tmp_path / "manifest.json").write_text("{}")
    with pytest.raises(ManifestError):
        agreement_study(manifest, out=tmp_path / "out", **QUICK)


def test_masks_without_geometry_are_measured_in_voxels(tmp_path: Path) -> None:
    for suffix, unit in ((".nii.gz", "mm"), (".nrrd", "mm"), (".npy", "voxels")):
        manifest = make_dataset(tmp_path / suffix, suffix=suffix, cases=2)
        options = {"measures": "all", "tolerance": 1.0, "hd95": "larger", "size": None, "voxels": False}
        assert AgreementRequest.of(read_manifest(manifest), manifest, **options).unit == unit
