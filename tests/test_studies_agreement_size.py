# SPDX-License-Identifier: Apache-2.0
"""Size of cases in a study: the term of the mixed model, and what at least k raters mark."""

import csv
import itertools
import json

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from monai_multirater.studies.agreement import AgreementStudy, agreement_study
from monai_multirater.studies.agreement.analysis import SIZE_TERM, add_size, analyse
from monai_multirater.studies.agreement.report_size import size_sentences

FIXED = {"factors": (), "group": "kind", "measures": ("dice",), "seed": 0, "resamples": 50, "permutations": 50}


def _sized(cases=120, raters=3, effect=0.0):
    """Pairs whose Dice rises by 0.02 with each doubling; "large" cases are bigger and differ by `effect`."""
    rng = np.random.default_rng(1)
    sizes, pairs = [], []
    for k in range(cases):
        kind = "large" if k % 2 else "small"
        doublings = rng.normal(3.0 if kind == "large" else 0.0)
        sizes.append({"case": f"c{k}", "size": 100 * 2**doublings, "kind": kind})
        level = 0.7 + 0.02 * doublings + effect * (kind == "small") + rng.normal(scale=0.03)
        for a, b in itertools.combinations("ABCD"[:raters], 2):
            dice = level + rng.normal(scale=0.02)
            pairs.append({"case": f"c{k}", "rater_a": a, "rater_b": b, "dice": dice, "kind": kind})
    return pd.DataFrame(pairs), pd.DataFrame(sizes)


def _models(pairs):
    found = analyse(pairs, fixed=["kind"], **FIXED).mixed
    return {model: part.set_index("term")["estimate"] for model, part in found.groupby("model")}


def test_a_difference_of_size_is_no_difference_of_agreement():
    pairs, cases = _sized()
    models = _models(add_size(pairs, cases))
    alone, sized = models["dice by kind"], models["dice by kind, log2_size"]
    assert alone["kind[small]"] == pytest.approx(-0.06, abs=0.015)  # three doublings of 0.02
    assert sized["kind[small]"] == pytest.approx(0.0, abs=0.015)
    assert sized["log2_size"] == pytest.approx(0.02, abs=0.005)


def test_an_effect_that_size_hides_is_found():
    pairs, cases = _sized(effect=0.06)
    models = _models(add_size(pairs, cases))
    assert models["dice by kind"]["kind[small]"] == pytest.approx(0.0, abs=0.015)
    assert models["dice by kind, log2_size"]["kind[small]"] == pytest.approx(0.06, abs=0.015)


def test_the_median_case_is_zero_and_an_empty_one_unknown():
    pairs, cases = _sized(cases=5)
    cases["size"] = [1.0, 2.0, 4.0, 8.0, 0.0]
    column = add_size(pairs, cases).groupby("case", sort=False)[SIZE_TERM].first()
    assert column.iloc[:4].tolist() == [-1.5, -0.5, 0.5, 1.5]
    assert np.isnan(column.iloc[4])


def test_without_sizes_the_table_stays_as_it_is():
    pairs, cases = _sized(cases=4)
    assert add_size(pairs, cases.drop(columns="size")) is pairs
    assert set(_models(pairs)) == {"dice, no factors", "dice by kind"}


def test_what_at_least_k_raters_mark(tmp_path):
    rng = np.random.default_rng(2)
    cases, masks = [], {}
    for case, raters in (("x", "ABC"), ("y", "AC")):
        ratings = {}
        for rater in raters:
            masks[case, rater] = rng.random((40, 30)) < 0.3
            ratings[rater] = f"{case}{rater}.png"
            Image.fromarray(masks[case, rater].astype(np.uint8) * 255).save(tmp_path / ratings[rater])
        cases.append({"case": case, "image": ratings["A"], "ratings": ratings})
    (tmp_path / "manifest.json").write_text(json.dumps({"name": "made", "raters": list("ABC"), "test": cases}))
    agreement_study(tmp_path / "manifest.json", out=tmp_path / "out", pictures=0, report=False)
    rows = list(csv.DictReader((tmp_path / "out" / "cases.csv").open(newline="")))
    for row, raters in zip(rows, ("ABC", "AC"), strict=True):
        votes = sum(masks[row["case"], rater].astype(int) for rater in raters)
        expected = [float((votes >= k).sum()) for k in range(1, len(raters) + 1)]
        assert [float(row[f"volume_at_least_{k}"]) for k in range(1, len(raters) + 1)] == expected
    assert rows[1]["volume_at_least_3"] == ""


def _study(pairs, cases, **summary):
    found = analyse(add_size(pairs, cases), fixed=["kind"], **FIXED)
    none = pd.DataFrame()
    return AgreementStudy(
        "made", "mm", pairs, cases, none, found.tests, found.dominance, found.mixed, none,
        {"group_column": "kind", "tested": ["dice"], **summary},
    )  # fmt: skip


@pytest.mark.parametrize(
    ("effect", "verdict"), [(0.0, "size can explain it"), (0.06, "it shows only at equal size"), (-0.06, "it stays")]
)
def test_the_report_says_what_size_explains(effect, verdict):
    study = _study(*_sized(effect=effect))
    first, second = (sentence.striptags() for sentence in size_sentences(study))
    medians = study.cases.groupby("kind")["size"].median()
    assert f"up to {medians['large'] / medians['small']:.1f} times" in first
    assert f"{medians['small']:.0f} for “small”" in first
    assert second.startswith("“small” against “large”: Dice in the mixed model without size ")
    assert second.endswith(f": {verdict}.")


def test_a_direction_that_reverses_is_said():
    study = _study(*_sized(cases=400, effect=0.03))
    assert size_sentences(study)[1].striptags().endswith(": the direction reverses.")


def test_groups_of_one_size_need_no_word():
    pairs, cases = _sized()
    assert size_sentences(_study(pairs, cases.assign(size=100.0))) == ()
    assert size_sentences(_study(pairs, cases, group_column=None)) == ()
