# SPDX-License-Identifier: Apache-2.0
"""The mixed model of pairs against a dense likelihood, statsmodels with one group, and least squares."""

import itertools
import math

import numpy as np
import pandas as pd
import pytest
from scipy import optimize, stats
from statsmodels.regression.mixed_linear_model import MixedLM, VCSpec

from monai_multirater.agreement import mixed_model


def _simulated(seed, cases=30, raters=6, marked=3, deviations=(0.1, 0.05, 0.08), twice=False):
    """Pairs of a study in which `marked` of the raters mark each case, with tools of their own."""
    rng = np.random.default_rng(seed)
    u, v = rng.normal(0, deviations[0], cases), rng.normal(0, deviations[1], raters)
    rows = []
    for case in range(cases):
        chosen = rng.choice(raters, marked, replace=False)
        pairs = [*itertools.combinations(sorted(chosen), 2), *([(chosen[0], chosen[0])] if twice else [])]
        for a, b in pairs:
            noise = rng.normal(0, deviations[2])
            tools = rng.integers(0, 2, 2)
            value = 0.8 + 0.06 * (tools[0] == tools[1]) - 0.04 * (case % 2) + u[case] + v[a] + v[b] + noise
            rows.append((f"case {case:03}", f"R{a}", f"R{b}", value, f"T{tools[0]}", f"T{tools[1]}", case % 2 == 1))
    return pd.DataFrame(rows, columns=["case", "rater_a", "rater_b", "dice", "tool_a", "tool_b", "malignant"])


def _matrices(pairs, terms):
    columns = {"same_tool": pairs.tool_a == pairs.tool_b, "malignant": pairs.malignant}
    x = np.column_stack([np.ones(len(pairs)), *(columns[term].astype(float) for term in terms)])
    names = pairs.case.to_numpy(dtype=object)
    case = (names[:, None] == np.unique(names)).astype(float)
    raters = sorted({*pairs.rater_a, *pairs.rater_b})
    both = pairs[["rater_a", "rater_b"]].to_numpy(dtype=object)
    rater = (both[:, :, None] == np.array(raters, dtype=object)).sum(1).astype(float)
    return x, case, rater, pairs.dice.to_numpy()


def _dense(pairs, terms):
    """REML by the dense covariance of all pairs: log-likelihood, variances, fixed effects, standard errors."""
    x, case, rater, y = _matrices(pairs, terms)
    n, p = x.shape

    def pieces(deviations):
        covariance = deviations[0] ** 2 * case @ case.T + deviations[1] ** 2 * rater @ rater.T
        covariance += deviations[2] ** 2 * np.eye(n)
        inverse = np.linalg.inv(covariance)
        information = x.T @ inverse @ x
        beta = np.linalg.solve(information, x.T @ inverse @ y)
        residual = y - x @ beta
        value = (n - p) * math.log(2 * math.pi) + np.linalg.slogdet(covariance)[1] + np.linalg.slogdet(information)[1]
        return -0.5 * (value + residual @ inverse @ residual), beta, np.sqrt(np.diag(np.linalg.inv(information)))

    found = optimize.minimize(
        lambda d: -pieces(d)[0], [0.1, 0.1, 0.1], method="Nelder-Mead", options={"xatol": 1e-8, "fatol": 1e-10}
    )
    return pieces(found.x)[0], found.x**2, *pieces(found.x)[1:]


@pytest.mark.parametrize(
    ("options", "terms"),
    [
        ({}, ()),
        ({}, ("same_tool", "malignant")),
        ({"marked": 2, "twice": True}, ("same_tool",)),
        ({"raters": 4, "marked": 4, "cases": 15}, ("malignant",)),
    ],
    ids=["no terms", "two terms", "a rater twice", "all raters mark all cases"],
)
def test_estimates_are_those_of_the_dense_likelihood(options, terms):
    pairs = _simulated(1, **options)
    likelihood, variances, beta, errors = _dense(pairs, terms)
    found = mixed_model(pairs, fixed=terms)
    assert found.converged, found.remark
    assert found.log_likelihood == pytest.approx(likelihood, abs=1e-6)
    here = (found.case_variance, found.rater_variance, found.residual_variance)
    assert np.allclose(here, variances, rtol=1e-5)
    assert np.allclose(found.fixed.estimate, beta, rtol=0, atol=1e-4)
    assert np.allclose(found.fixed.standard_error, errors, rtol=1e-5)
    assert found.fixed.term.tolist() == ["intercept", *terms]


def test_estimates_are_those_of_statsmodels_with_one_group():
    pairs = _simulated(2)
    x, case, rater, y = _matrices(pairs, ("same_tool",))
    names = [[[str(i) for i in range(matrix.shape[1])]] for matrix in (case, rater)]
    model = MixedLM(y / 0.08, x, np.zeros(len(y)), exog_vc=VCSpec(["case", "rater"], names, [[case], [rater]]))
    expected = model.fit(reml=True)
    found = mixed_model(pairs, fixed=("same_tool",))
    assert found.case_variance == pytest.approx(expected.vcomp[0] * 0.08**2, rel=5e-3)
    assert found.rater_variance == pytest.approx(expected.vcomp[1] * 0.08**2, rel=5e-3)
    assert found.residual_variance == pytest.approx(expected.scale * 0.08**2, rel=5e-3)
    assert np.allclose(found.fixed.estimate, expected.fe_params * 0.08, atol=1e-4)


def test_predicted_rater_effects_solve_the_mixed_model_equations():
    pairs = _simulated(4)
    found = mixed_model(pairs, fixed=("malignant",))
    x, case, rater, y = _matrices(pairs, ("malignant",))
    z = np.hstack([case, rater])
    ratios = [found.residual_variance / v for v in (found.case_variance, found.rater_variance)]
    penalty = np.diag(np.repeat([0, *ratios], [x.shape[1], case.shape[1], rater.shape[1]]))
    left = np.hstack([x, z])
    solved = np.linalg.solve(left.T @ left + penalty, left.T @ y)
    assert np.allclose(found.rater_effects.effect, solved[-rater.shape[1] :], atol=1e-10)
    assert found.rater_effects.pairs.tolist() == (rater > 0).sum(0).tolist()
    assert found.rater_effects.rater.tolist() == [f"R{i}" for i in range(6)]


def test_shares_and_intervals_follow_from_the_estimates():
    found = mixed_model(_simulated(4), fixed=("same_tool",), confidence=0.9)
    total = found.case_variance + 2 * found.rater_variance + found.residual_variance
    assert found.case_share == pytest.approx(found.case_variance / total)
    assert found.case_share + found.rater_share + found.residual_share == pytest.approx(1)
    row = found.fixed.iloc[1]
    reach = stats.norm.ppf(0.95) * row.standard_error
    assert (row.low, row.high) == pytest.approx((row.estimate - reach, row.estimate + reach))
    assert row.p == pytest.approx(2 * stats.norm.sf(abs(row.estimate / row.standard_error)))
    table = found.to_table("tool")
    assert table.columns.tolist() == ["model", "term", "estimate", "low", "high", "p"]
    assert set(table.model) == {"tool"}
    assert len(table) == 2 + 6


def test_one_pair_a_case_and_two_raters_are_least_squares():
    """Neither variance can be told from the residual, and the model says so."""
    pairs = _simulated(5, raters=2, marked=2, cases=40)
    found = mixed_model(pairs, fixed=("same_tool",))
    x, _, _, y = _matrices(pairs, ("same_tool",))
    beta, squares, *_ = np.linalg.lstsq(x, y, rcond=None)
    assert np.allclose(found.fixed.estimate, beta, atol=1e-12)
    assert found.residual_variance == pytest.approx(squares[0] / 38)
    assert math.isnan(found.case_variance)
    assert math.isnan(found.rater_variance)
    assert "variance of cases cannot be told" in found.remark
    assert "variance of raters cannot be told" in found.remark


def test_no_variance_of_raters_is_an_ordinary_answer():
    """The dense likelihood is highest without raters here; what remains is generalized least squares."""
    pairs = _simulated(3)
    likelihood, variances, beta, errors = _dense(pairs, ("same_tool",))
    found = mixed_model(pairs, fixed=("same_tool",))
    assert found.rater_variance == 0
    assert variances[1] < 1e-12
    assert found.converged, found.remark
    assert found.log_likelihood == pytest.approx(likelihood, abs=1e-6)
    assert found.case_variance == pytest.approx(variances[0], rel=1e-5)
    assert np.allclose(found.fixed.estimate, beta, atol=1e-8)
    assert np.allclose(found.fixed.standard_error, errors, rtol=1e-5)


def test_the_scale_of_the_measure_does_not_matter():
    pairs = _simulated(7)
    small = mixed_model(pairs, fixed=("same_tool",))
    large = mixed_model(pairs.assign(dice=100 * pairs.dice), fixed=("same_tool",))
    assert np.allclose(large.fixed.estimate, 100 * small.fixed.estimate, rtol=1e-4)
    assert large.case_share == pytest.approx(small.case_share, rel=1e-5)
    assert large.converged
    assert small.converged


def test_order_and_names_do_not_matter():
    pairs = _simulated(8)
    other = pairs.sample(frac=1, random_state=0).rename(
        columns={"rater_a": "rater_b", "rater_b": "rater_a", "tool_a": "tool_b", "tool_b": "tool_a"}
    )
    one, two = mixed_model(pairs, fixed=("same_tool",)), mixed_model(other, fixed=("same_tool",))
    assert np.allclose(one.fixed.estimate, two.fixed.estimate, atol=1e-6)
    assert one.log_likelihood == pytest.approx(two.log_likelihood, abs=1e-8)


def test_terms_of_names_and_products():
    pairs = _simulated(9)
    pairs["kind"] = np.where(pairs.malignant, "nevus", "melanoma")
    pairs.loc[pairs.case < "case 010", "kind"] = "wart"
    pairs.loc[0, "tool_a"] = None
    pairs.loc[5, "dice"] = math.nan
    found = mixed_model(pairs, fixed=("kind", "same_tool", "same_tool:malignant"))
    assert found.fixed.term.tolist() == ["intercept", "kind[nevus]", "kind[wart]", "same_tool", "same_tool:malignant"]
    assert (found.pairs, found.left_out, found.cases, found.raters) == (88, 2, 30, 6)


@pytest.mark.parametrize(
    ("change", "options", "says"),
    [
        ({}, {"measure": "dise"}, "mixed_model: pairs must have the column 'dise'. Nearest are: .*'dice'"),
        ({}, {"fixed": ("same_tol",)}, "must have the column 'same_tol'"),
        ({}, {"fixed": ("malignant", "malignant:malignant")}, "Got 'malignant:malignant', which follows from"),
        ({"site": "arm"}, {"fixed": ("site",)}, "factor 'site' must have at least two levels .* only the level 'arm'"),
        ({"dice": 0.5}, {}, "must have finite values that differ .* Got 90 complete rows of 90"),
        ({}, {"confidence": 1}, "confidence must be between 0 and 1. Got 1"),
    ],
)
def test_errors_say_what_was_received(change, options, says):
    with pytest.raises(ValueError, match=says):
        mixed_model(_simulated(1).assign(**change), **options)


def test_the_skin_lesion_study(shared_data):
    """Numbers of statsmodels with one group, a fit of six minutes: 2,394 cases, 15 raters, 3,103 pairs."""
    pairs = pd.read_csv(shared_data / "imapp" / "IMAplusplus_multiannotator_subset_IAA_metrics.csv")
    names = {"img_id": "case", "annotator1": "rater_a", "annotator2": "rater_b", "dice_score": "dice"}
    pairs = pairs.rename(columns={**names, "tool1": "tool_a", "tool2": "tool_b"})
    pairs = pairs[~pairs[["rater_a", "rater_b"]].isin(["ST", "MV"]).any(axis=1)]
    found = mixed_model(pairs, fixed=("same_tool",))
    assert (found.pairs, found.cases, found.raters) == (3103, 2394, 15)
    assert found.converged
    assert np.allclose(found.fixed.estimate, [0.74993192, 0.0887361], atol=1e-5)
    assert found.case_variance == pytest.approx(0.01408777, rel=1e-3)
    assert found.rater_variance == pytest.approx(0.00362702, rel=1e-3)
    assert found.residual_variance == pytest.approx(0.02519057, rel=1e-3)
