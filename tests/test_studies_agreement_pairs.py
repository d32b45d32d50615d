# SPDX-License-Identifier: Apache-2.0
"""Agreement from a table of pairs. References: pandas on the same table, the numbers of arXiv:2508.09381."""

import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from monai_multirater.studies.agreement import agreement_from_pairs, plan_from_study

QUICK: dict[str, Any] = {"report": False, "resamples": 20}


def _table(tmp_path: Path, **change: Any) -> Path:
    """Twelve images, three annotators each of whom one marked twice in image 3, and two consensus masks."""
    rng = np.random.default_rng(0)
    rows = []
    tools, skills = {"A1": "T1", "A2": "T2", "A3": "T1"}, {"A1": "S1", "A2": "S1", "A3": "S2"}
    for image in range(12):
        names = ["A1", "A2", "A1" if image == 3 else "A3", "ST", "MV"]
        for i, a in enumerate(names):
            for b in names[i + 1 :]:
                row = {"img_id": f"I{image:02d}.JPG", "annotator1": a, "annotator2": b}
                row |= {
                    "dice_score": rng.uniform(0.5, 1),
                    "hd95_score": rng.uniform(1, 9),
                    "hd95_normalized": rng.random(),
                }
                for k, name in ((1, a), (2, b)):
                    row |= {f"tool{k}": tools.get(name, name), f"skill_level{k}": skills.get(name, name)}
                rows.append(row | {"camera": "xy"[image % 2]})
    table = pd.DataFrame(rows).rename(columns=change.pop("rename", {}))
    for column, value in change.items():
        table.loc[5, column] = value
    table.to_csv(tmp_path / "pairs.csv", index=False)
    images = [{"isic_id": f"I{k:02d}", "malignancy": ["benign", "malignant", "unsure"][k % 3]} for k in range(15)]
    pd.DataFrame(images).to_csv(tmp_path / "images.csv", index=False)
    return tmp_path / "pairs.csv"


def test_columns_are_recognized_and_consensus_masks_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = _table(tmp_path)
    with caplog.at_level(logging.INFO, "monai_multirater"):
        study = agreement_from_pairs(
            path, out=tmp_path / "out", factor_tables=[tmp_path / "images.csv"], group="malignancy=malignant", **QUICK
        )
    source = pd.read_csv(path)
    source = source[~source["annotator1"].isin(["ST", "MV"]) & ~source["annotator2"].isin(["ST", "MV"])]
    np.testing.assert_allclose(study.pairs["dice"], source["dice_score"], rtol=1e-15)
    np.testing.assert_allclose(study.pairs["hausdorff95"], source["hd95_score"], rtol=1e-15)
    assert study.pairs["tool_a"].tolist() == source["tool1"].tolist()
    assert study.pairs["camera"].tolist() == source["camera"].tolist()
    assert "84 of 120 rows name MV, ST and are left out. They look like consensus masks" in caplog.text
    assert "columns without a meaning here are left out: hd95_normalized." in caplog.text
    assert "images.csv: 3 of 15 rows belong to no case or rater of the study." in caplog.text
    np.testing.assert_allclose(study.cases["mean_dice"], source.groupby("img_id")["dice_score"].mean())
    assert study.cases["raters"].tolist() == [3] * 12
    row = study.tests[(study.tests["analysis"] == "group") & (study.tests["level"] == "pairs")].iloc[0]
    assert (row["first"], row["n_first"], row["n_second"]) == ("malignant", 12, 24)
    assert {"malignant", "tool", "skill_level", "rater", "camera"} <= set(study.tests["factor"])
    others = source[source["annotator1"] != source["annotator2"]]
    mean = others.loc[(others["annotator1"] == "A2") | (others["annotator2"] == "A2"), "dice_score"].mean()
    assert study.raters.set_index("rater").loc["A2", "mean_dice"] == pytest.approx(mean)
    assert not {"sensitivity", "volume_a"} & set(study.pairs.columns)
    content = json.loads((tmp_path / "out" / "agreement.json").read_text())
    assert content["summary"]["rows_excluded"] == {"MV": 48, "ST": 48}


def test_factors_with_many_levels_are_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = _table(tmp_path)
    levels = {"four": 4, "five": 5, "many": 12}
    images = [{"isic_id": f"I{k:02d}"} | {name: f"L{k % n}" for name, n in levels.items()} for k in range(12)]
    pd.DataFrame(images).to_csv(tmp_path / "images.csv", index=False)
    shared: dict[str, Any] = {"factor_tables": [tmp_path / "images.csv"], "permutations": 20, **QUICK}
    with caplog.at_level(logging.INFO, "monai_multirater"):
        usual = agreement_from_pairs(path, out=tmp_path / "usual", **shared)
    remark = "Factor 'five' is not analysed: it has 5 levels; with more than 4 it is only if asked for by its name"
    assert remark in caplog.text
    assert any(text.startswith(remark) for text in usual.summary["remarks"])
    assert {"four", "camera"} <= set(usual.tests["factor"])
    assert not {"five", "many"} & set(usual.tests["factor"])
    assert usual.omnibus.set_index(["factor", "level"]).loc[("four", "cases"), ["sets", "n"]].tolist() == [4, 12]
    drawn = {name.partition(":")[0] for name in usual.dominance["comparison"]}
    assert drawn == {"tool", "skill_level", "rater", "camera"}  # the six pairs of levels of "four" are in tests.csv
    asked = agreement_from_pairs(path, out=tmp_path / "asked", factors=["five"], **shared)
    assert set(asked.tests["factor"]) == {"five", "rater"}
    assert (asked.tests["factor"] == "five").sum() == 2 * 10
    assert not any(str(tmp_path) in text for text in asked.summary["remarks"])
    assert asked.summary["request"]["pairs"] == "pairs.csv"


def test_more_levels_than_can_be_compared(tmp_path: Path) -> None:
    rows = "".join(f"c{k},a,b,0.{k + 10}\n" for k in range(25))
    (tmp_path / "pairs.csv").write_text("case,rater_a,rater_b,dice\n" + rows)
    (tmp_path / "cases.csv").write_text("case,site\n" + "".join(f"c{k},s{k}\n" for k in range(25)))
    with pytest.raises(ValueError, match=r"factor 'site' cannot be analysed: it has 25 levels, more than 20"):
        agreement_from_pairs(
            tmp_path / "pairs.csv",
            out=tmp_path / "out",
            factor_tables=[tmp_path / "cases.csv"],
            factors=["site"],
            **QUICK,
        )


def test_who_is_excluded_can_be_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = _table(tmp_path)
    with caplog.at_level(logging.WARNING, "monai_multirater"):
        some = agreement_from_pairs(path, out=tmp_path / "some", exclude=["ST"], **QUICK)
    assert "MV look like consensus masks, not raters; exclude (--exclude NAME) leaves them out." in caplog.text
    everybody = agreement_from_pairs(path, out=tmp_path / "all", exclude=[""], **QUICK)
    assert (len(some.pairs), len(everybody.pairs)) == (72, 120)


def test_other_names_of_columns(tmp_path: Path) -> None:
    path = _table(tmp_path, rename={"img_id": "scan", "annotator1": "first", "annotator2": "second", "dice_score": "d"})
    study = agreement_from_pairs(
        path,
        out=tmp_path / "out",
        case_column="scan",
        rater_columns=["first", "second"],
        measure_columns={"dice": "d"},
        factor_tables=[tmp_path / "images.csv"],
        factor_key="isic_id",
        unit="mm",
        **QUICK,
    )
    assert (len(study.pairs), study.unit) == (36, "mm")
    plan = plan_from_study(tmp_path / "out", 0.1, raters=(2, 3))
    assert plan["raters"].tolist() == [2, 3]
    assert plan["cases"].iloc[0] > 1


@pytest.mark.parametrize(
    ("change", "options", "message"),
    [
        ({"rename": {"img_id": "scan"}}, {}, r"none of the usual columns case, .*give case_column.*There are: scan"),
        ({}, {"case_column": "img"}, r"has no column 'img'; closest: img_id"),
        ({"rename": {"annotator1": "x"}}, {}, r"none of the usual columns of raters.*give rater_columns"),
        ({}, {"rater_columns": ["annotator1"]}, r"rater_columns must be two names, as A,B"),
        ({"rename": {"dice_score": "x"}}, {}, r"must have a column with the Dice of each pair"),
        ({}, {"measure_columns": {"dize": "x"}}, r"unknown measure 'dize'; closest: dice"),
        ({}, {"exclude": ["A9"]}, r"exclude must name raters. Got 'A9'; closest: A"),
        ({}, {"exclude": ["A1", "A2", "A3", "ST", "MV"]}, r"must have at least one pair of raters. Got none"),
        ({"dice_score": 1.7}, {"exclude": []}, r"dice_score must lie in \[0, 1\]. Got 1.7 in row 7"),
        ({"annotator1": None}, {"exclude": []}, r"every row must name case and raters. Got an empty cell in row 7"),
        ({}, {"permutations": 0}, r"resamples and permutations must be at least 1. Got 20 and 0"),
        ({}, {"unit": "cm"}, r"unit must be voxels or mm. Got 'cm'"),
        ({}, {"group": "tool"}, r"group must name a factor of cases. Got 'tool'"),
    ],
    ids=lambda value: ("-".join(value) or "-") if isinstance(value, dict) else "",
)
def test_a_bad_table_is_refused(tmp_path: Path, change: dict[str, Any], options: dict[str, Any], message: str) -> None:
    path = _table(tmp_path, **change)
    with pytest.raises(ValueError, match=message):
        agreement_from_pairs(path, out=tmp_path / "out", **{**QUICK, **options})
    assert not (tmp_path / "out").exists()


def test_text_for_a_number_is_refused_and_infinity_is_undefined(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "bad.csv").write_text("case,rater_a,rater_b,dice\nc,a,b,0.5\nc,a,d,high\n")
    with pytest.raises(ValueError, match=r"dice must be a number. Got 'high' in row 3"):
        agreement_from_pairs(tmp_path / "bad.csv", out=tmp_path / "out", **QUICK)
    rows = "".join(f"c{k},a,b,0.{k + 1},{'inf' if k else 3}\n" for k in range(5))
    (tmp_path / "good.csv").write_text("case,rater_a,rater_b,dice,hd\n" + rows)
    study = agreement_from_pairs(tmp_path / "good.csv", out=tmp_path / "out", **QUICK)
    assert study.pairs["hausdorff"].notna().tolist() == [True, False, False, False, False]
    assert "4 infinite values of hd count as undefined." in caplog.text


def test_rows_are_counted_as_in_the_file(tmp_path: Path) -> None:
    text = "case,rater_a,rater_b,dice\nc0,a,ST,0.5\n\nc0,a,b,0.5\nc1,a,,0.5\n"
    (tmp_path / "pairs.csv").write_text(text)
    with pytest.raises(ValueError, match=r"Got an empty cell in row 5"):
        agreement_from_pairs(tmp_path / "pairs.csv", out=tmp_path / "out", **QUICK)


def test_a_column_of_cases_with_many_values_is_known_when_asked_for(tmp_path: Path) -> None:
    rows = "".join(f"c{k},a,b,0.{k + 10},{k}\n" for k in range(25))
    (tmp_path / "pairs.csv").write_text("case,rater_a,rater_b,dice,age\n" + rows)
    with pytest.raises(
        ValueError, match=r"group 'age' must have 2 to 10 values. Got 25; give one of them as age=VALUE"
    ):
        agreement_from_pairs(tmp_path / "pairs.csv", out=tmp_path / "out", group="age", **QUICK)
    with pytest.raises(ValueError, match=r"factor 'age' cannot be analysed: it has 25 levels, more than 20"):
        agreement_from_pairs(tmp_path / "pairs.csv", out=tmp_path / "out", factors=["age"], **QUICK)
    assert not (tmp_path / "out").exists()


def test_one_rater_who_marked_everything_twice(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    rows = "".join(f"c{k},a,a,0.{k + 5}\n" for k in (0, 1, 2, 2))
    (tmp_path / "pairs.csv").write_text("case,rater_a,rater_b,dice\n" + rows)
    study = agreement_from_pairs(tmp_path / "pairs.csv", out=tmp_path / "out", **QUICK)
    assert study.summary["measures"]["dice"]["mean"] == pytest.approx((0.5 + 0.6 + 0.7 + 0.7) / 4)
    assert not study.raters["outlier"].any()
    assert "1 rows are equal to an earlier one in every cell; they count again." in caplog.text


def test_a_table_without_any_dice_is_refused(tmp_path: Path) -> None:
    (tmp_path / "pairs.csv").write_text("case,rater_a,rater_b,dice\nc0,a,b,nan\nc1,a,b,\n")
    with pytest.raises(ValueError, match=r"dice must have a value in some row. Got none"):
        agreement_from_pairs(tmp_path / "pairs.csv", out=tmp_path / "out", **QUICK)


def test_the_published_table_gives_the_published_numbers(shared_data: Path, tmp_path: Path) -> None:
    folder = shared_data / "imapp"
    study = agreement_from_pairs(
        folder / "IMAplusplus_multiannotator_subset_IAA_metrics.csv",
        out=tmp_path,
        exclude=["ST", "MV"],
        factor_tables=[folder / "IMAplusplus_img_metadata.csv"],
        group="benign_malignant=malignant",
        factors=(),
        **{**QUICK, "resamples": 1000},
    )
    assert (len(study.pairs), len(study.cases)) == (3103, 2394)
    rows = study.tests[study.tests["factor"] == "malignant"].set_index("level")
    pairs, cases = rows.loc["pairs"], rows.loc["cases"]
    assert (pairs["n_first"], pairs["n_second"], cases["n_first"], cases["n_second"]) == (786, 2317, 505, 1889)
    numbers = ["mean_first", "std_first", "mean_second", "std_second"]
    assert [round(pairs[name], 3) for name in numbers] == [0.753, 0.227, 0.791, 0.215]
    assert [round(cases[name], 3) for name in numbers] == [0.756, 0.210, 0.802, 0.200]
    assert round(abs(pairs["cohens_d"]), 3) == 0.174
    assert pairs["p_dominance_first"] == 0
    assert pairs["p_dominance_second"] == pytest.approx(0.9, abs=0.05)
    dice = study.cases["mean_dice"]
    assert [(dice > 0.95).sum(), (dice > 0.9).sum(), (dice == 0).sum()] == [342, 820, 23]


def test_numbers_of_a_made_table_by_hand(tmp_path: Path) -> None:
    """A table of the published form, small enough to compute every number on paper."""
    tools, skills = {"A": "T1", "B": "T1", "C": "T2"}, {"A": "S1", "B": "S2", "C": "S2"}
    given = [("I1", "A", "B", 0.6), ("I2", "A", "C", 0.4), ("I3", "A", "A", 0.8)]  # malignant
    given += [("I4", "A", "B", 0.8), ("I5", "A", "C", 1.0), ("I6", "B", "C", 0.9)]  # benign, benign, not known
    given += [("I1", "A", "ST", 0.1), ("I4", "MV", "B", 0.1)]
    rows = [
        {"img_id": f"{case}.JPG", "annotator1": a, "annotator2": b, "dice_score": dice}
        | {f"tool{k}": tools.get(name, name) for k, name in ((1, a), (2, b))}
        | {f"skill_level{k}": skills.get(name, name) for k, name in ((1, a), (2, b))}
        for case, a, b, dice in given
    ]
    pd.DataFrame(rows).to_csv(tmp_path / "pairs.csv", index=False)
    kinds = ["malignant"] * 3 + ["benign", "benign", "indeterminate"]
    images = pd.DataFrame({"isic_id": [f"I{k}" for k in range(1, 7)], "benign_malignant": kinds})
    images.to_csv(tmp_path / "images.csv", index=False)
    study = agreement_from_pairs(
        tmp_path / "pairs.csv", out=tmp_path / "out", title="Made", exclude=["ST", "MV"],
        factor_tables=[tmp_path / "images.csv"], group="benign_malignant=malignant", resamples=200,
    )  # fmt: skip
    assert "<h1>Made<" in (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert (study.name, len(study.pairs), len(study.cases)) == ("Made", 6, 6)
    pairs = study.tests[study.tests["level"] == "pairs"].set_index(["analysis", "factor", "stratum"])
    group = pairs.loc[("group", "malignant", "all")]
    assert group[["mean_first", "std_first", "mean_second", "std_second"]].tolist() == pytest.approx(
        [0.6, 0.2, 0.9, 0.1]
    )
    assert group["cohens_d"] == pytest.approx(-0.3 / 0.025**0.5)
    assert group["cliffs_delta"] == pytest.approx((0 - 8) / 9)  # one tie of nine
    assert group["dominance_first"] == pytest.approx(1.5**0.5 * 2 / 3)  # at 0.6 to 0.8: two of three against none
    assert group["dominance_second"] == 0
    assert group["p_mann_whitney"] == pytest.approx(stats.mannwhitneyu([0.6, 0.4, 0.8], [0.8, 1.0, 0.9]).pvalue)
    expected = {
        ("rater", "all"): (0.8, 3.7 / 5),
        ("tool", "all"): (2.2 / 3, 2.3 / 3),
        ("skill_level", "all"): (0.85, 0.7),
        ("skill_level", "malignant=yes"): (0.8, 0.5),
        ("skill_level", "malignant=no"): (0.9, 0.9),
    }
    for (factor, stratum), means in expected.items():
        row = pairs.loc[("same-different", factor, stratum)]
        assert row[["mean_first", "mean_second"]].tolist() == pytest.approx(list(means)), (factor, stratum)
