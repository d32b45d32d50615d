# SPDX-License-Identifier: Apache-2.0
"""The table of raters over a data set and the rules for outliers, against NumPy and planted raters."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from monai_multirater.agreement import RaterTable, find_outliers, rater_performance
from monai_multirater.data import RaterStyle
from monai_multirater.data.phantoms import default_raters, make_case

NAMES = ("A", "B", "C", "D")


def case_of(index, present=(True,) * 4, seed=0, **options):
    generator = torch.Generator().manual_seed(1000 * seed + index)
    common = torch.rand(9, 8, generator=generator) < 0.4
    noise = torch.rand(4, 9, 8, generator=generator) < 0.15
    return rater_performance((common ^ noise).to(torch.uint8), torch.tensor(present), **options)


def table_of(cases):
    return RaterTable(NAMES, dict(cases))


def flat(rows):
    return [tuple(str(value) for value in row.values()) for row in rows]


def test_means_and_pooled_rates_equal_numpy():
    present = [(True, True, True, k % 2 == 0) for k in range(6)]
    cases = {f"case{k}": case_of(k, present[k], spacing=(0.5, 2.0)) for k in range(6)}
    summary = table_of(cases).compute()
    assert summary.cases.tolist() == [6, 6, 6, 3]
    assert (summary.reference, summary.unit) == ("others", "mm")
    for name in ("dice", "sensitivity", "specificity", "agreement", "size_bias", "boundary_bias", "boundary_distance"):
        values = np.stack([getattr(case, name).numpy() for case in cases.values()])
        spread = getattr(summary, name)
        np.testing.assert_allclose(spread.mean.numpy(), np.nanmean(values, axis=0), rtol=1e-13)
        np.testing.assert_allclose(spread.std.numpy(), np.nanstd(values, axis=0, ddof=1), rtol=1e-12)
        np.testing.assert_array_equal(spread.cases.numpy(), [6, 6, 6, 3])
    tp, fp, fn, tn = sum(case.counts.double().numpy() for case in cases.values()).T
    np.testing.assert_array_equal(summary.pooled_sensitivity.numpy(), tp / (tp + fn))
    np.testing.assert_array_equal(summary.pooled_specificity.numpy(), tn / (tn + fp))


def test_rows_hold_the_same_numbers():
    cases = {f"case{k}": case_of(k, (True, k > 0, True, True)) for k in range(3)}
    table = table_of(cases)
    summary, rows = table.compute(), table.compute().to_rows()
    assert [row["rater"] for row in rows] == list(NAMES)
    assert [row["cases"] for row in rows] == [3, 2, 3, 3]
    assert [row["dice_mean"] for row in rows] == summary.dice.mean.tolist()
    assert [row["outlier"] for row in rows] == [False] * 4
    long = table.to_rows()
    assert [(row["case"], row["rater"]) for row in long[:4]] == [
        ("case0", "A"),
        ("case0", "C"),
        ("case0", "D"),
        ("case1", "A"),
    ]
    assert len(long) == 11
    assert long[1]["dice"] == cases["case0"].dice[2].item()
    assert long[1]["false_negatives"] == cases["case0"].counts[2, 2].item()


@given(order=st.permutations(range(8)), cut=st.integers(0, 8))
@settings(max_examples=15, deadline=None)
def test_merging_in_any_order_changes_no_bit(order, cut):
    cases = [(f"case{k}", case_of(k, (True, True, k != 3, k % 3 > 0))) for k in range(8)]
    one_by_one = RaterTable(NAMES)
    for k in order:
        one_by_one = one_by_one.update(*cases[k])
    parts = table_of(cases[k] for k in order[:cut]) + table_of(cases[k] for k in order[cut:])
    expected = flat(table_of(cases).compute().to_rows())
    assert flat(one_by_one.compute().to_rows()) == expected
    assert flat(parts.compute().to_rows()) == expected
    assert flat(parts.to_rows()) == flat(table_of(cases).to_rows())


def test_a_rater_never_present_and_empty_masks():
    ratings = torch.zeros(4, 5, 5, dtype=torch.uint8)
    ratings[0, 1:3, 1:3] = 1
    case = rater_performance(ratings, torch.tensor([True, True, True, False]))
    summary = RaterTable(NAMES).update("one", case).compute()
    assert summary.cases.tolist() == [1, 1, 1, 0]
    assert summary.empty_masks.tolist() == [0, 1, 1, 0]
    assert summary.dice.mean.isnan().tolist() == [False, False, False, True]
    assert summary.dice.std.isnan().all()
    assert summary.pooled_sensitivity.isnan().all()
    assert not summary.outlier.any()


def test_tables_that_do_not_fit_are_refused():
    table = RaterTable(NAMES).update("one", case_of(0))
    with pytest.raises(ValueError, match="'one' twice"):
        table.update("one", case_of(1))
    with pytest.raises(ValueError, match="same raters"):
        table.merge(RaterTable(("A", "B")))
    with pytest.raises(ValueError, match=r"in voxels\. Got others in mm"):
        table.update("two", case_of(1, spacing=(1.0, 1.0)))
    with pytest.raises(ValueError, match="must have 4 raters"):
        table.update("two", rater_performance(torch.ones(3, 4, 4, dtype=torch.uint8)))
    with pytest.raises(ValueError, match="at least one case"):
        RaterTable(NAMES).compute()


def test_scores_of_raters_equal_a_loop_in_float64():
    generator = np.random.default_rng(2)
    values = generator.uniform(0.5, 0.9, (12, 5))
    values[generator.random((12, 5)) < 0.3] = np.nan
    report = find_outliers(values)
    rows = [row for row in values if np.isfinite(row).sum() >= 3]
    for r in range(5):
        gaps, differences = [], []
        for row in rows:
            others = [v for s, v in enumerate(row) if s != r and np.isfinite(v)]
            if np.isfinite(row[r]):
                gaps.append(np.median(others) - row[r])
                differences += [abs(a - b) for k, a in enumerate(others) for b in others[:k]]
        spread = np.median(differences) / (np.sqrt(2) * 0.6744897501960817)
        assert report.gap[r] == pytest.approx(np.median(gaps), abs=1e-14)
        assert report.score[r] == pytest.approx(np.median(gaps) / spread, rel=1e-6)


def test_a_much_worse_rater_is_flagged_and_a_slightly_worse_one_is_not():
    generator = np.random.default_rng(0)
    values = 0.85 + 0.02 * generator.standard_normal((20, 4))
    for fall, flagged in ((0.03, False), (0.3, True)):
        worse = values.copy()
        worse[:, 2] -= fall
        report = find_outliers(worse)
        assert report.flagged.tolist() == [False, False, flagged, False]
        assert report.cases == ()  # low everywhere is usual for this rater


def test_hard_cases_are_not_held_against_anybody():
    generator = np.random.default_rng(1)
    values = generator.uniform(0.2, 0.95, (30, 1)) + 0.01 * generator.standard_normal((30, 5))
    report = find_outliers(values)
    assert not report.flagged.any()
    assert report.cases == ()


def test_a_single_bad_mask_is_named_with_what_is_usual():
    generator = np.random.default_rng(3)
    values = 0.85 + 0.02 * generator.standard_normal((15, 4))
    values[6, 1] = 0.1
    (found,) = find_outliers(values).cases
    assert (found.case, found.rater, found.agreement) == (6, 1, 0.1)
    assert found.usual_of_case == np.median(values[6, [0, 2, 3]])
    assert found.usual_of_rater == np.median(np.delete(values[:, 1], 6))
    own = np.delete(values[:, 1], 6)
    mad = np.median(np.abs(own - np.median(own))) / 0.6744897501960817
    others = np.delete(values, 1, axis=1)
    pairs = np.concatenate([np.abs(others[:, a] - others[:, b]) for a, b in ((0, 1), (0, 2), (1, 2))])
    scale = np.median(pairs) / (np.sqrt(2) * 0.6744897501960817)
    expected = min((np.median(own) - 0.1) / mad, (found.usual_of_case - 0.1) / scale)
    assert found.score == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("raters", [1, 2])
def test_fewer_than_three_raters_are_never_flagged(raters):
    values = np.full((10, 5), np.nan)
    for c in range(10):  # five raters in the data set, never three in one case
        values[c, [(c + k) % 5 for k in range(raters)]] = [0.9, 0.0][:raters]
    report = find_outliers(values, threshold=0.1, min_gap=0.0)
    assert not report.flagged.any()
    assert np.isnan(report.score).all()
    assert report.cases == ()


def test_identical_others_leave_the_least_gap_to_decide():
    values = np.array([[0.9, 0.9, 0.9, 0.85]] * 4)
    report = find_outliers(values)
    assert report.score[3] == np.inf
    assert report.score[0] == 0
    assert not report.flagged.any()
    assert find_outliers(values, min_gap=0.04).flagged.tolist() == [False, False, False, True]


def test_few_cases_are_judged_on_request():
    values = np.array([[0.9, 0.88, 0.91, 0.2]] * 3)
    report = find_outliers(values)
    assert report.score[3] > 3.5
    assert not report.flagged.any()
    assert find_outliers(values[:1], min_cases=1).flagged.tolist() == [False, False, False, True]


@given(order=st.permutations(range(5)), seed=st.integers(0, 100))
@settings(max_examples=20, deadline=None)
def test_permuting_raters_permutes_scores(order, seed):
    generator = np.random.default_rng(seed)
    values = generator.uniform(0, 1, (9, 5))
    values[generator.random((9, 5)) < 0.2] = np.nan
    plain, permuted = find_outliers(values), find_outliers(values[:, order])
    np.testing.assert_array_equal(permuted.score, plain.score[order])
    assert {(f.case, order[f.rater], f.score) for f in permuted.cases} == {
        (f.case, f.rater, f.score) for f in plain.cases
    }


@pytest.mark.parametrize(
    ("change", "match"),
    [({"threshold": 0}, "threshold"), ({"min_gap": -0.1}, "min_gap"), ({"min_cases": 0}, "min_cases")],
    ids=["threshold", "min_gap", "min_cases"],
)
def test_bad_bounds_are_named(change, match):
    with pytest.raises(ValueError, match=match):
        find_outliers(np.zeros((2, 3)), **change)
    with pytest.raises(ValueError, match=r"\[cases, raters\]"):
        find_outliers(np.zeros(3))


@pytest.mark.parametrize("dimensions", [2, 3], ids=["2d", "3d"])
def test_an_odd_rater_among_phantoms_is_flagged_and_nobody_on_clean_ones(dimensions):
    """The planted rater draws 70 % wider in radius; the default raters differ by 10 %."""
    styles = [*default_raters(4), RaterStyle("odd", size_bias=0.7)]
    names, size = tuple(style.name for style in styles), 64 if dimensions == 2 else 32
    clean, odd = RaterTable(names[:4]), RaterTable(names)
    for index in range(12):
        masks = torch.from_numpy(np.stack(make_case(dimensions, size, styles, seed=4, index=index)[2]))
        clean = clean.update(str(index), rater_performance(masks[:4]))
        odd = odd.update(str(index), rater_performance(masks))
    assert not clean.compute().outlier.any()
    summary = odd.compute()
    assert summary.outlier.tolist() == [False] * 4 + [True]
    assert summary.boundary_bias.mean.argmax() == 4
    assert summary.size_bias.mean[4] > 1


def test_known_errors_of_real_raters_are_among_the_single_masks(shared_data):
    """BU-BIL: image p10 by Person2_Amira and p20 by Person3_Amira of set 2A are known to be wrong."""
    path = shared_data / "bubil" / "bubil_ds1_2A_3_256.npz"
    if not path.is_file():
        pytest.skip("BU-BIL is not on this machine")
    data = np.load(path)
    shape = tuple(data["masks_shape"])
    masks = np.unpackbits(data["masks_packed"], axis=1)[:, : np.prod(shape[1:])].reshape(shape)
    table = RaterTable(tuple(data["rater"].tolist()))
    for k in np.flatnonzero(data["dataset"] == 2):
        table = table.update(str(data["name"][k]), rater_performance(torch.from_numpy(masks[k].copy())))
    summary = table.compute()
    found = {(case, rater) for case, rater, _ in summary.case_outliers}
    assert {("p10", "Person2_Amira"), ("p20", "Person3_Amira")} <= found
    assert len(found) <= 15
    assert (summary.dice.mean > 0.75).all()
