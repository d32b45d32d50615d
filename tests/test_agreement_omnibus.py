# SPDX-License-Identifier: Apache-2.0
"""Kruskal-Wallis over the levels of a factor, against SciPy on groups made by hand, and its closed form."""

import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from monai_multirater.agreement import omnibus_tests


@pytest.fixture
def pairs():
    """Twenty cases with three raters, levels of masks and of cases, two undefined values."""
    rng = np.random.default_rng(0)
    table = pd.DataFrame({"case": np.repeat([f"c{k}" for k in range(20)], 3), "dice": rng.random(60)})
    for side in "ab":
        table[f"tool_{side}"] = rng.choice(["T1", "T2", "T3"], 60)
    table["site"] = table["case"].map({f"c{k}": ["arm", "leg", "back", None][k % 4] for k in range(20)})
    table.loc[[3, 30], "dice"] = math.nan
    return table


def _expected(groups):
    """H without ties: 12 / (N (N + 1)) sum of R^2 / n - 3 (N + 1); p from the chi-square distribution."""
    ranks = stats.rankdata(np.concatenate(groups))
    ends = np.cumsum([len(group) for group in groups])[:-1]
    n = len(ranks)
    h = 12 / (n * (n + 1)) * sum(part.sum() ** 2 / len(part) for part in np.split(ranks, ends)) - 3 * (n + 1)
    return h, stats.chi2.sf(h, len(groups) - 1)


@pytest.mark.parametrize("level", ["pairs", "cases"])
@pytest.mark.parametrize("factor", ["site", "tool"])
def test_all_levels_at_once(pairs, factor, level):
    kept = pairs.dropna(subset=["dice"])
    if factor == "site":
        kept = kept.dropna(subset=["site"]).assign(label=kept["site"])
    else:
        kept = kept[kept["tool_a"] == kept["tool_b"]].assign(label=kept["tool_a"])
    groups = [part for _, part in kept.groupby("label")]
    values = [
        part["dice"].to_numpy() if level == "pairs" else part.groupby("case")["dice"].mean().to_numpy()
        for part in groups
    ]
    row = omnibus_tests(pairs, factors=[factor], levels=[level]).iloc[0]
    h, p = _expected(values)
    assert (row["statistic"], row["p"]) == pytest.approx((h, p), rel=1e-10)
    assert (row["sets"], row["n"], row["cases"]) == (3, sum(map(len, values)), kept["case"].nunique())
    assert row["analysis"] == ("group" if factor == "site" else "levels")


def test_with_two_sets_it_is_the_rank_test(pairs):
    two = pairs[pairs["site"].isin(["arm", "leg"])]
    row = omnibus_tests(two, factors=["site"], levels=["pairs"]).iloc[0]
    x, y = (part["dice"].dropna() for _, part in two.groupby("site"))
    expected = stats.mannwhitneyu(x, y, method="asymptotic", use_continuity=False).pvalue
    assert row["p"] == pytest.approx(expected, rel=1e-10)


def test_without_spread_or_sets_it_is_undefined(pairs):
    flat = omnibus_tests(pairs.assign(dice=0.5), factors=["site"], levels=["pairs"]).iloc[0]
    assert math.isnan(flat["p"])
    apart = pairs.assign(tool_b="T9")
    none = omnibus_tests(apart, factors=["tool"]).iloc[0]
    assert (none["sets"], none["n"]) == (0, 0)
    assert math.isnan(none["statistic"])


def test_an_unknown_column_is_named(pairs):
    with pytest.raises(ValueError, match=r"omnibus_tests: pairs must have the column 'sight'. Nearest are: 'site'"):
        omnibus_tests(pairs, factors=["sight"])


@pytest.mark.parametrize("level", ["pairs", "cases"])
def test_one_level_may_be_given_by_its_name(pairs, level):
    pd.testing.assert_frame_equal(
        omnibus_tests(pairs, factors=["tool"], levels=level), omnibus_tests(pairs, factors=["tool"], levels=[level])
    )
