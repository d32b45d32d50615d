# SPDX-License-Identifier: Apache-2.0
"""Planning against the closed form of a normal mean, and against enumeration by hand."""

import itertools
import math

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import stats

from monai_multirater.agreement import plan_study, required_cases
from monai_multirater.agreement.panels import CaseMatrix, case_matrices, fixed_pools, open_pool
from monai_multirater.votes import VoteTable


def _study(seed, cases=400, raters=2, deviation=0.1, missing=0.0):
    """Pairs with independent normal values."""
    rng = np.random.default_rng(seed)
    rows = [
        (f"c{case}", f"R{a}", f"R{b}", rng.normal(0.7, deviation))
        for case in range(cases)
        for a, b in itertools.combinations(np.flatnonzero(rng.random(raters) >= missing).tolist(), 2)
    ]
    return pd.DataFrame(rows, columns=["case", "rater_a", "rater_b", "dice"])


@pytest.mark.parametrize("confidence", [0.95, 0.8])
def test_width_is_that_of_a_normal_mean(confidence):
    pairs = _study(0)
    table = plan_study(pairs, raters=(2,), cases=(10, 40, 160), confidence=confidence, resamples=20_000)
    z = stats.norm.ppf((1 + confidence) / 2)
    expected = 2 * z * pairs.dice.std(ddof=0) / np.sqrt(table.cases)
    assert np.allclose(table.width, expected, rtol=0.03)
    assert np.allclose(table["mean"], pairs.dice.mean(), atol=1e-12)
    assert np.allclose(table["std"], pairs.dice.std(ddof=0), atol=1e-12)
    assert np.allclose((table.low + table.high) / 2, pairs.dice.mean(), atol=0.003)
    assert (table.width == table.high - table.low).all()


@pytest.mark.parametrize("raters", [2, 3, 5])
def test_more_raters_average_their_pairs(raters):
    """Independent pairs: a case of k raters has the variance of a mean over k (k - 1) / 2 values."""
    table = plan_study(_study(1, raters=5, cases=2000), raters=(raters,), cases=(50,), resamples=4000)
    deviation = 0.1 / math.sqrt(math.comb(raters, 2))
    assert table["std"][0] == pytest.approx(deviation, rel=0.05)
    assert table.width[0] == pytest.approx(2 * 1.96 * deviation / math.sqrt(50), rel=0.08)


@pytest.mark.parametrize("width", [0.05, 0.02, 0.6])
def test_required_cases_are_those_of_a_normal_mean(width):
    pairs = _study(2)
    found = required_cases(width, pairs, raters=(2,), resamples=5000)
    expected = max(1, (2 * 1.96 * pairs.dice.std(ddof=0) / width) ** 2)
    assert found.cases[0] == pytest.approx(expected, rel=0.08, abs=1)
    assert found.width[0] <= width
    assert found.remark[0] == ""


def test_the_answer_is_a_row_of_the_plan():
    pairs = _study(3, raters=3)
    found = required_cases(0.04, pairs, raters=(3,))
    row = plan_study(pairs, raters=(2, 3), cases=(5, int(found.cases[0]))).iloc[3]
    assert row.width == found.width[0]


def test_values_are_those_of_every_choice_of_raters():
    """One case of four raters against the means over all choices of three."""
    rng = np.random.default_rng(4)
    values = rng.random((4, 4))
    values = (values + values.T) / 2
    pool = open_pool([CaseMatrix(("A", "B", "C", "D"), values)], 3, rng)
    expected = [
        np.mean([values[a, b] for a, b in itertools.combinations(c, 2)]) for c in itertools.combinations(range(4), 3)
    ]
    assert np.allclose(pool.values, expected)
    assert pool.moments == pytest.approx((np.mean(expected), np.std(expected)))


def test_cases_weigh_the_same_however_many_raters_marked_them():
    """Case x has one pair of value 0, case y three of value 1: the mean of a study is a half."""
    rows = [("x", "A", "B", 0.0), ("y", "A", "B", 1.0), ("y", "A", "C", 1.0), ("y", "B", "C", 1.0)]
    table = plan_study(pd.DataFrame(rows, columns=["case", "rater_a", "rater_b", "dice"]), raters=(2,), cases=(1, 100))
    assert table["mean"].tolist() == [0.5, 0.5]
    assert table.width.tolist() == pytest.approx([1, 2 * 1.96 * 0.5 / 10], rel=0.1)
    assert table.pilot_cases.tolist() == [2, 2]
    assert table.remark.str.contains("little to go by").all()


def test_a_fixed_panel_adds_what_its_choice_does():
    """Raters A and B agree better than others: with many cases the width is that between the panels."""
    rng = np.random.default_rng(5)
    rows = [
        (case, a, b, (0.9 if a + b == "AB" else 0.5) + rng.normal(0, 0.05))
        for case in range(60)
        for a, b in itertools.combinations("ABC", 2)
    ]
    pairs = pd.DataFrame(rows, columns=["case", "rater_a", "rater_b", "dice"])
    table = plan_study(pairs, raters=(2, 3), cases=(10, 2000), panel="fixed")
    assert table.width[1] == pytest.approx(0.4, abs=0.03)
    assert table.width[3] < 0.01
    assert "one panel of 3 raters" in table.remark[3]
    open_width = plan_study(pairs, raters=(2,), cases=(2000,)).width[0]
    assert open_width < 0.02
    found = required_cases(0.1, pairs, raters=(2,), panel="fixed")
    assert math.isnan(found.cases[0])
    assert "choice of raters alone" in found.remark[0]


def test_a_fixed_panel_takes_the_cases_that_all_of_it_marked():
    pairs = _study(6, raters=4, cases=80, missing=0.3)
    matrices = case_matrices(pairs, "dice", function="test")
    pools = fixed_pools(matrices, 3, np.random.default_rng(0))
    wide = pairs.pivot(index="case", columns=["rater_a", "rater_b"], values="dice")
    expected = []
    for panel in itertools.combinations(["R0", "R1", "R2", "R3"], 3):
        rows = wide[list(itertools.combinations(panel, 2))].dropna().mean(axis=1)
        expected.append((len(rows), rows.mean()))
    assert [(pool.count.size, pytest.approx(pool.moments[0])) for pool in pools] == expected


@pytest.mark.parametrize(("panel", "most"), [("per case", 3), ("fixed", 3)])
def test_more_raters_than_there_are_are_not_available(panel, most):
    pairs = _study(7, raters=most, cases=20)
    table = plan_study(pairs, raters=(2, 4), cases=(10,), panel=panel)
    assert table.available.tolist() == [True, False]
    assert math.isnan(table.width[1])
    assert table.remark[1] == "not available: at most 3 raters marked the same case"
    assert table.pilot_cases.tolist() == [20, 0]
    assert required_cases(0.05, pairs, raters=(4,), panel=panel).cases.isna().all()


def test_many_raters_are_sampled():
    table = plan_study(_study(8, raters=14, cases=6), raters=(7,), cases=(20,), resamples=200)
    assert table["mean"][0] == pytest.approx(_study(8, raters=14, cases=6).dice.mean(), abs=0.01)


@pytest.mark.parametrize("shape", [(12, 12), (6, 6, 5)], ids=["2D", "3D"])
@pytest.mark.parametrize("measure", ["dice", "iou"])
def test_pattern_tables_are_the_table_of_pairs(shape, measure):
    generator = torch.Generator().manual_seed(0)
    tables, rows = [], []
    for case in range(12):
        ratings = (torch.rand((4, *shape), generator=generator) > 0.4).to(torch.uint8)
        here = torch.tensor([True, True, case % 3 != 0, True])
        ratings[1] *= int(case != 5)  # an empty mask
        tables.append(VoteTable.from_ratings(ratings, here))
        masks = ratings.bool().numpy()
        for a, b in itertools.combinations(here.nonzero().flatten().tolist(), 2):
            both, total = (masks[a] & masks[b]).sum(), masks[a].sum() + masks[b].sum()
            value = 2 * both / total if measure == "dice" else both / (total - both)
            rows.append((f"{case:02}", str(a), str(b), value))
    pairs = pd.DataFrame(rows, columns=["case", "rater_a", "rater_b", measure])
    options = {"measure": measure, "raters": (2, 3, 4), "cases": (10, 30), "resamples": 300}
    one, two = plan_study(tables, **options), plan_study(pairs, **options)
    pd.testing.assert_frame_equal(one, two, rtol=1e-12)


def test_own_pairs_are_left_out_and_repeated_ones_averaged():
    rows = [("x", "A", "A", 0.0), ("x", "A", "B", 0.4), ("x", "B", "A", 0.6), ("x", "A", "C", math.nan)]
    (matrix,) = case_matrices(
        pd.DataFrame(rows, columns=["case", "rater_a", "rater_b", "dice"]), "dice", function="test"
    )
    assert matrix.raters == ("A", "B", "C")
    assert matrix.values[0, 1] == matrix.values[1, 0] == 0.5
    assert np.isnan(matrix.values[0, 2])
    assert matrix.means([[0, 1, 2], [1, 2]]).tolist() == [0.5]  # nothing is known of the second panel


def test_rows_do_not_depend_on_other_rows():
    pairs = _study(9, raters=3)
    many = plan_study(pairs, raters=(2, 3), cases=(10, 20, 50), seed=3)
    one = plan_study(pairs, raters=(3,), cases=(20,), seed=3)
    pd.testing.assert_frame_equal(many.iloc[[4]].reset_index(drop=True), one)
    assert plan_study(pairs, raters=(3,), cases=(20,), seed=4).width[0] != one.width[0]


def test_the_search_ends():
    found = required_cases(0.001, _study(10), raters=(2,), max_cases=500)
    assert found.remark[0] == "not reached with 500 cases"
    assert math.isnan(found.cases[0])


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda p: plan_study(p, raters=(1, 2)), r"plan_study: raters must be numbers of at least 2. Got \(1, 2\)"),
        (lambda p: plan_study(p, cases=()), r"plan_study: cases must be numbers of at least 1. Got \(\)"),
        (lambda p: plan_study(p, panel="open"), "panel must be 'per case' or 'fixed'. Got 'open'"),
        (lambda p: plan_study(p, confidence=95), "confidence must be between 0 and 1. Got 95"),
        (lambda p: plan_study(p, measure="dise"), "plan_study: pairs must have the column 'dise'. Nearest are: 'dice'"),
        (lambda p: plan_study([], measure="dice"), "plan_study: at least one case must be given. Got none"),
        (lambda p: plan_study([], measure="assd"), "plan_study: measure must be one of dice, iou, kappa .* Got 'assd'"),
        (lambda p: required_cases(0, p), "required_cases: width must be positive and finite. Got 0"),
    ],
)
def test_errors_say_what_was_received(call, says):
    with pytest.raises(ValueError, match=says):
        call(_study(0, cases=3))


def test_one_case_of_the_pilot_says_nothing_of_the_width() -> None:
    """Only one case has three raters: every study drawn from it is the same, its interval would have no width."""
    rows = [(f"c{k}", "A", "B", 0.5 + 0.02 * k) for k in range(12)]
    rows += [("c0", "A", "C", 0.4), ("c0", "B", "C", 0.3)]
    pairs = pd.DataFrame(rows, columns=["case", "rater_a", "rater_b", "dice"])
    planned = plan_study(pairs, raters=(2, 3), cases=(20,), resamples=50).set_index("raters")
    assert planned.loc[2, "width"] > 0
    assert np.isnan(planned.loc[3, "width"])
    assert not planned.loc[3, "available"]
    assert planned.loc[3, "remark"] == "not available: only one case of the pilot has 3 raters"
    needed = required_cases(0.05, pairs, raters=(3,), resamples=50)
    assert np.isnan(needed.loc[0, "cases"])
