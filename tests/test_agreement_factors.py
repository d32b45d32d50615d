# SPDX-License-Identifier: Apache-2.0
"""Comparisons by factor against groups made by hand, closed forms, and the numbers of the skin lesion study."""

import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from monai_multirater.agreement import (
    cliffs_delta,
    cohens_d,
    compare,
    compare_groups,
    compare_levels,
    compare_same_different,
    comparison_table,
    dominance_both_ways,
    factor_tests,
    holm,
    level_means,
    permutation_test,
)

QUICK = {"resamples": 50, "permutations": 99}


@pytest.fixture
def pairs():
    """Two malignant and three other cases; case e has three raters, and rater A marks case b twice."""
    rows = [
        ("a", "A", "B", 0.5, "T1", "T2", True),
        ("b", "A", "B", 0.6, "T1", "T1", True),
        ("b", "A", "A", 0.9, "T1", "T1", True),
        ("b", "B", "A", 0.6, "T1", "T1", True),
        ("c", "A", "C", 0.65, "T2", "T2", False),
        ("d", "B", "C", 0.8, "T1", "T3", False),
        ("e", "A", "B", 0.9, "T1", "T2", False),
        ("e", "A", "C", 1.0, "T1", "T1", False),
        ("e", "B", "C", 0.8, "T2", "T1", False),
    ]
    return pd.DataFrame(rows, columns=["case", "rater_a", "rater_b", "dice", "tool_a", "tool_b", "malignant"])


def test_a_group_is_compared_by_pairs_and_by_cases(pairs):
    by_pairs, by_cases = compare_groups(pairs, "malignant", **QUICK)
    assert (by_pairs.analysis, by_pairs.factor, by_pairs.stratum, by_pairs.measure) == (
        "group",
        "malignant",
        "all",
        "dice",
    )
    assert (by_pairs.first, by_pairs.second) == ("malignant", "not malignant")
    assert (by_pairs.n_first, by_pairs.n_second, by_pairs.cases_first, by_pairs.cases_second) == (4, 5, 2, 3)
    assert by_pairs.cases_both == by_pairs.left_out == 0
    assert by_pairs.mean_first == pytest.approx(2.6 / 4)
    assert by_pairs.mean_second == pytest.approx(4.15 / 5)
    assert by_pairs.std_first == pytest.approx(math.sqrt((0.15**2 + 0.05**2 * 2 + 0.25**2) / 3))
    assert (by_pairs.median_first, by_pairs.median_second) == pytest.approx((0.6, 0.8))
    assert (by_cases.level, by_cases.n_first, by_cases.n_second) == ("cases", 2, 3)
    assert by_cases.mean_first == pytest.approx((0.5 + 0.7) / 2)
    assert by_cases.mean_second == pytest.approx((0.65 + 0.8 + 0.9) / 3)
    assert by_cases.mann_whitney_u == 1  # 0.5 and 0.7 against 0.65, 0.8, 0.9
    assert math.isnan(by_pairs.p_holm)


def test_numbers_of_a_row_are_those_of_the_tests(pairs):
    row = compare_groups(pairs, "malignant", levels=("pairs",), resamples=200, permutations=300, seed=5)[0]
    x, y = pairs[pairs.malignant], pairs[~pairs.malignant]
    ranks = stats.mannwhitneyu(x.dice, y.dice)
    first, second = dominance_both_ways(x.dice, y.dice, resamples=200, seed=5)
    whole = permutation_test(x.dice, y.dice, resamples=300, seed=5, first_groups=x.case, second_groups=y.case)
    assert (row.mann_whitney_u, row.p_mann_whitney) == (ranks.statistic, ranks.pvalue)
    assert row.p_permutation == whole.p_value
    assert whole.exact
    assert (row.cohens_d, row.cliffs_delta) == (cohens_d(x.dice, y.dice), cliffs_delta(x.dice, y.dice))
    assert (row.dominance_first, row.p_dominance_first) == (first.statistic, first.p_value)
    assert (row.dominance_second, row.p_dominance_second) == (second.statistic, second.p_value)


def test_one_level_against_the_rest_and_all_levels(pairs):
    pairs["kind"] = pairs.case.map({"a": "wart", "b": "nevus", "c": "melanoma", "d": "nevus"})  # e is missing
    row = compare_groups(pairs, "kind", versus="nevus", levels=("pairs",), **QUICK)[0]
    assert (row.first, row.second, row.n_first, row.n_second) == ("nevus", "not nevus", 4, 2)
    rows = compare_groups(pairs, "kind", levels=("cases",), **QUICK)
    assert [(r.first, r.second) for r in rows] == [("melanoma", "nevus"), ("melanoma", "wart"), ("nevus", "wart")]
    assert [(r.n_first, r.n_second) for r in rows] == [(1, 2), (1, 1), (2, 1)]


@pytest.mark.parametrize(
    ("levels", "names"),
    [([True, False], ("grade", "not grade")), ([1.0, 2.0], ("1", "2")), (["yes", "no"], ("no", "yes"))],
    ids=["truth values", "numbers", "words"],
)
def test_names_of_sets(pairs, levels, names):
    pairs["grade"] = np.where(pairs.malignant, levels[0], levels[1])
    row = compare_groups(pairs, "grade", levels=("pairs",), **QUICK)[0]
    assert (row.first, row.second) == names


def test_missing_truth_values_are_left_out(pairs):
    pairs["malignant"] = pairs.malignant.astype(object).where(pairs.case != "e", None)
    row = compare_groups(pairs, "malignant", levels=("pairs",), **QUICK)[0]
    assert (row.first, row.second, row.n_first, row.n_second) == ("malignant", "not malignant", 4, 2)


def test_same_and_different_overall_and_by_stratum(pairs):
    rows = compare_same_different(pairs, "tool", strata="malignant", **QUICK)
    assert [(r.stratum, r.level) for r in rows] == [
        (s, level) for s in ("all", "malignant=no", "malignant=yes") for level in ("pairs", "cases")
    ]
    assert {(r.analysis, r.factor, r.first, r.second) for r in rows} == {
        ("same-different", "tool", "same", "different")
    }
    overall, no, yes = rows[0], rows[2], rows[4]
    assert (overall.n_first, overall.n_second) == (5, 4)
    assert overall.mean_first == pytest.approx((0.6 + 0.9 + 0.6 + 0.65 + 1.0) / 5)
    assert overall.mean_second == pytest.approx((0.5 + 0.8 + 0.9 + 0.8) / 4)
    assert (no.n_first, no.n_second, yes.n_first, yes.n_second) == (2, 3, 3, 1)
    assert overall.cases_both == 1  # case e
    assert math.isnan(overall.p_permutation)
    assert yes.cases_both == 0
    assert not math.isnan(yes.p_permutation)


def test_repeated_masks_by_one_rater(pairs):
    by_pairs, by_cases = compare_same_different(pairs, "rater", **QUICK)
    assert (by_pairs.n_first, by_pairs.mean_first, by_pairs.n_second) == (1, 0.9, 8)
    assert math.isnan(by_pairs.std_first)
    assert by_cases.cases_both == 1


def test_levels_against_each_other(pairs):
    (row,) = compare_levels(pairs, "tool", levels=("pairs",), **QUICK)
    assert (row.analysis, row.first, row.second, row.n_first, row.n_second) == ("levels", "T1", "T2", 4, 1)


def test_level_means_do_not_know_which_mask_is_first(pairs):
    table = level_means(pairs, "tool").set_index(["level_1", "level_2"])
    assert table.index.tolist() == [("T1", "T1"), ("T1", "T2"), ("T1", "T3"), ("T2", "T2")]
    row = table.loc[("T1", "T2")]
    assert (row.pairs, row.cases) == (3, 2)
    assert row["mean"] == pytest.approx((0.5 + 0.9 + 0.8) / 3)
    assert row["std"] == pytest.approx(np.std([0.5, 0.9, 0.8], ddof=1))
    assert row["median"] == 0.8
    raters = level_means(pairs, "rater").set_index(["level_1", "level_2"])
    assert raters.loc[("A", "B"), "pairs"] == 4


@pytest.mark.parametrize("level", ["pairs", "cases"])
def test_one_level_may_be_given_by_its_name(pairs, level):
    for function, factor in ((compare_groups, "malignant"), (compare_same_different, "tool"), (compare_levels, "tool")):
        alone = [row.level for row in function(pairs, factor, levels=level, **QUICK)]
        assert alone == [row.level for row in function(pairs, factor, levels=(level,), **QUICK)]
        assert set(alone) == {level}


def test_undefined_values_are_left_out_and_counted(pairs):
    pairs.loc[[0, 5], "dice"] = math.nan
    row, cases = compare_groups(pairs, "malignant", **QUICK)
    assert (row.n_first, row.n_second, row.left_out, row.cases_first) == (3, 4, 2, 1)
    assert (cases.n_first, cases.n_second, cases.left_out) == (1, 2, 2)


def test_a_stratum_without_one_of_the_sets_is_nan(pairs):
    pairs.loc[:3, ["tool_a", "tool_b"]] = "T1"
    rows = compare_same_different(pairs, "tool", strata="malignant", levels=("pairs",), **QUICK)
    assert (rows[2].n_first, rows[2].n_second) == (4, 0)
    assert math.isnan(rows[2].p_mann_whitney)
    assert math.isnan(rows[2].mean_second)


def test_the_table_of_tests(pairs):
    pairs["grade"] = pairs.case.map({"a": 1, "b": 2, "c": 1, "d": 2, "e": 3})
    pairs["iou"] = pairs.dice / (2 - pairs.dice)
    table = factor_tests(pairs, factors=("tool", "grade"), group="malignant", measures=("dice", "iou"), **QUICK)
    one = table[table.measure == "dice"]
    assert one.groupby(["analysis", "factor"], sort=False).size().to_dict() == {
        ("group", "malignant"): 2,
        ("same-different", "tool"): 6,
        ("levels", "tool"): 2,
        ("group", "grade"): 6,
    }
    assert len(table) == 2 * len(one)
    for level in ("pairs", "cases"):
        family = table[table.level == level]
        assert np.array_equal(family.p_holm, holm(family.p_mann_whitney), equal_nan=True)
        assert set(family.family) == {f"{family.p_mann_whitney.notna().sum()} Mann-Whitney tests of {level}"}
    again = factor_tests(pairs, factors=("grade", "tool"), group="malignant", measures=("iou", "dice"), **QUICK)
    columns = ["measure", "analysis", "factor", "stratum", "level", "first", "second"]
    pd.testing.assert_frame_equal(
        table.sort_values(columns, ignore_index=True), again.sort_values(columns, ignore_index=True)
    )


def test_no_comparison_is_an_empty_table():
    assert len(comparison_table([])) == 0
    assert "p_holm" in comparison_table([])


def test_order_of_rows_does_not_matter(pairs):
    other = pairs.sample(frac=1, random_state=1)
    one, two = (compare_groups(p, "malignant", resamples=20)[1] for p in (pairs, other))
    assert one.p_permutation == two.p_permutation
    assert one.mean_first == pytest.approx(two.mean_first)


@pytest.mark.parametrize("kind", ["category", "string"])
def test_kinds_of_columns(pairs, kind):
    expected = compare_same_different(pairs, "tool", levels=("pairs",), **QUICK)
    typed = pairs.astype({"tool_a": kind, "tool_b": kind, "case": kind})
    assert compare_same_different(typed, "tool", levels=("pairs",), **QUICK) == expected
    pd.testing.assert_frame_equal(level_means(typed, "tool"), level_means(pairs, "tool"))


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (
            lambda p: compare_groups(p, "malignent"),
            "compare_groups: pairs must have the column 'malignent'. .*'malignant'",
        ),
        (lambda p: compare_groups(p, "malignant", measure="dise"), "must have the column 'dise'. Nearest are: 'dice'"),
        (lambda p: compare_same_different(p, "tol"), "must have the column 'tol_a'. Nearest are: 'tool_a'"),
        (lambda p: compare_groups(p, "site"), "factor 'site' must have at least two levels .* 'arm' in 9 of 9 rows"),
        (
            lambda p: compare_groups(p, "dice"),
            "'dice' must have one value per case. Got 2 cases with several, such as 'b'",
        ),
        (lambda p: compare_groups(p, "malignant", versus="maybe"), "versus must be a level .*: no, yes. Got 'maybe'"),
        (
            lambda p: compare_same_different(p[p.rater_a != p.rater_b], "rater"),
            "factor 'rater' .* 8 of 8 .* all different",
        ),
        (lambda p: compare_same_different(p.iloc[1:4], "tool"), "Got levels .'T1'.: in 3 of 3 rows .* all same"),
        (lambda p: factor_tests(p, factors=("rate",)), "must have the column 'rate'. Nearest are: 'rater_"),
        (lambda p: factor_tests(p[:0], factors=("tool",)), "factor_tests: pairs must have at least one row. Got none"),
        (lambda p: compare([1], [2], level="images"), "compare: level must be 'pairs' or 'cases'. Got 'images'"),
        (lambda p: compare([1], [2], first_cases=["a"]), "compare: cases must be given for both sets"),
        (lambda p: compare([1], [2], first_cases=["a", "b"], second_cases=["c"]), "Got 2 names of 1 values"),
    ],
)
def test_errors_say_what_was_received(pairs, call, says):
    with pytest.raises(ValueError, match=says):
        call(pairs.assign(site="arm"))


@pytest.fixture(scope="module")
def lesions(shared_data):
    """Pairs of raters of the skin lesion study."""
    pairs = pd.read_csv(shared_data / "imapp" / "IMAplusplus_multiannotator_subset_IAA_metrics.csv")
    pairs = pairs[~pairs[["annotator1", "annotator2"]].isin(["ST", "MV"]).any(axis=1)]
    images = pd.read_csv(shared_data / "imapp" / "IMAplusplus_img_metadata.csv").set_index("isic_id")
    names = {"img_id": "case", "annotator1": "rater_a", "annotator2": "rater_b", "dice_score": "dice"}
    names |= {
        f"{old}{i}": f"{new}_{c}"
        for i, c in ((1, "a"), (2, "b"))
        for old, new in (("tool", "tool"), ("skill_level", "skill"))
    }
    malignant = pairs.img_id.str[:12].map(images.benign_malignant) == "malignant"
    return pairs.rename(columns=names).assign(malignant=malignant)


def test_malignant_lesions_have_the_lower_agreement(lesions):
    assert (len(lesions), lesions.case.nunique()) == (3103, 2394)
    by_pairs, by_images = compare_groups(lesions, "malignant", permutations=999)
    shown = [
        f"{by_pairs.mean_second:.3f} {by_pairs.std_second:.3f}",
        f"{by_pairs.mean_first:.3f} {by_pairs.std_first:.3f}",
    ]
    assert shown == ["0.791 0.215", "0.753 0.227"]
    assert (by_pairs.n_second, by_pairs.n_first) == (2317, 786)
    assert by_pairs.p_mann_whitney < 0.01
    assert -by_pairs.cohens_d == pytest.approx(0.174, abs=5e-4)
    assert by_pairs.dominance_first == pytest.approx(2.8100, abs=5e-5)
    assert by_pairs.p_dominance_first == 0
    assert by_pairs.dominance_second == pytest.approx(0.16065, abs=5e-6)
    assert 0.86 < by_pairs.p_dominance_second < 0.94
    assert by_pairs.p_permutation < 0.01
    assert (by_images.n_second, by_images.n_first) == (1889, 505)
    shown = [by_images.mean_second, by_images.std_second, by_images.mean_first, by_images.std_first]
    assert [f"{value:.3f}" for value in shown] == ["0.802", "0.200", "0.756", "0.210"]


@pytest.mark.parametrize(
    ("factor", "means"),
    [
        ("rater", {"all": "0.900 0.772"}),
        ("tool", {"all": "0.862 0.747"}),
        ("skill", {"all": "0.774 0.786", "malignant=yes": "0.806 0.710", "malignant=no": "0.761 0.808"}),
    ],
)
def test_same_and_different_in_the_skin_lesion_study(lesions, factor, means):
    rows = compare_same_different(lesions, factor, strata="malignant", levels=("pairs",), **QUICK)
    found = {row.stratum: f"{row.mean_first:.3f} {row.mean_second:.3f}" for row in rows}
    assert means.items() <= found.items()
