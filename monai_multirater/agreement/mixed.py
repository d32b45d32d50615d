# SPDX-License-Identifier: Apache-2.0
"""Linear mixed-effects model of the agreement of pairs, with cases and raters as random effects."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import stats

from monai_multirater.agreement.design import fixed_design, membership, term_values
from monai_multirater.agreement.effects import FloatArray
from monai_multirater.agreement.mixed_likelihood import CrossProducts, Estimate, maximize
from monai_multirater.agreement.pair_table import check_columns

__all__ = ["MixedModelResult", "mixed_model"]

_FUNCTION = "mixed_model"


@dataclass(frozen=True, eq=False)
class MixedModelResult:
    """Linear mixed model of one measure.

    Attributes:
        measure: column of the values.
        fixed: data frame with ``term``, ``estimate``, ``standard_error``, ``low``, ``high``, ``z``, ``p`` (Wald).
        case_variance, rater_variance, residual_variance: variance components; NaN where the table cannot tell them
            (`remark` says why), and then part of what remains.
        case_share, rater_share, residual_share: intraclass shares of the variance of a pair of two different raters,
            ``case + 2 rater + residual``; the rater's is that of both raters together.
        rater_effects: data frame with ``rater``, ``effect`` (predicted, shrunk to 0; negative: agrees less), ``pairs``.
        log_likelihood: restricted (REML).
        pairs, cases, raters: how many were used; left_out: rows with a missing value.
        confidence: of the intervals.
        converged: False if the search, or the fit of the fixed effects, did not converge.
        remark: what else is to know; empty if nothing.
    """

    measure: str
    fixed: pd.DataFrame
    case_variance: float
    rater_variance: float
    residual_variance: float
    case_share: float
    rater_share: float
    residual_share: float
    rater_effects: pd.DataFrame
    log_likelihood: float
    pairs: int
    cases: int
    raters: int
    left_out: int
    confidence: float
    converged: bool
    remark: str

    def to_table(self, model: str | None = None) -> pd.DataFrame:
        """Fixed effects, variance components and shares, one row each.

        Columns ``model``, ``term``, ``estimate``, ``low``, ``high``, ``p``. Variances and shares have neither interval
        nor p-value (NaN).
        """
        components = {
            "variance of cases": self.case_variance,
            "variance of raters": self.rater_variance,
            "residual variance": self.residual_variance,
            "share of cases": self.case_share,
            "share of raters": self.rater_share,
            "residual share": self.residual_share,
        }
        rows = self.fixed[["term", "estimate", "low", "high", "p"]].to_dict("records")
        rows += [
            {"term": term, "estimate": value, "low": math.nan, "high": math.nan, "p": math.nan}
            for term, value in components.items()
        ]
        return pd.DataFrame(rows).assign(model=model or self.measure)[["model", "term", "estimate", "low", "high", "p"]]


@dataclass(frozen=True, eq=False)
class _Data:
    """Complete rows as matrices."""

    fixed: FloatArray
    terms: list[str]
    membership: FloatArray
    raters: list[str]
    values: FloatArray
    case: npt.NDArray[np.intp]


def mixed_model(
    pairs: pd.DataFrame,
    *,
    measure: str = "dice",
    fixed: Sequence[str] = (),
    confidence: float = 0.95,
) -> MixedModelResult:
    """Fit ``y = X b + u_case + v_a + v_b + e`` by restricted maximum likelihood (REML).

    Every case has a random effect u, every rater one v; a pair has those of both its raters (multiple membership), and
    twice that of a rater paired with itself. So pairs of one case, and pairs that share a rater, are not taken as
    independent.

    Cases and raters are crossed. In statsmodels crossed effects are variance components of one group, with a column
    for every case; the fit of 2,394 cases and 15 raters took it six minutes. Raters as components within groups of
    cases would be another model, with new raters in each case. So the ratio of case to residual variance is found on
    the exact likelihood (:mod:`monai_multirater.agreement.mixed_likelihood`), the values are whitened within cases
    with it, which leaves only the raters as random effects, and `MixedLM` of statsmodels fits these and the fixed
    effects in less than a second. Both must find the same rater variance; `converged` says so. Standard errors are
    those of generalized least squares with the variances found, as in lme4.

    Args:
        pairs: table of pairs with ``case``, ``rater_a``, ``rater_b``.
        measure: column of the values. A share near 1, such as Dice, is not normal: read p-values beside the
            permutation tests.
        fixed: terms. A column of numbers or truth values enters as it is; one of names as a contrast of every further
            level with the first, sorted; ``"same_tool"`` without such a column is 1 where ``tool_a == tool_b``;
            ``"a:b"`` is a product of terms. The intercept is always there.
        confidence: of the intervals.

    Returns:
        Result. Rows with a missing value are left out and counted.

    Raises:
        ValueError: a missing column (named with the nearest), terms that depend on each other, fewer pairs than
            needed, a measure without spread, or a confidence outside 0..1.

    References: Baayen, Davidson and Bates 2008, doi:10.1016/j.jml.2007.12.005 (crossed effects); Browne, Goldstein and
    Rasbash 2001, doi:10.1177/1471082X0100100202 (multiple membership).
    """
    if not 0 < confidence < 1:
        raise ValueError(f"{_FUNCTION}: confidence must be between 0 and 1. Got {confidence} instead.")
    data, left_out = _data(pairs, measure, fixed)
    products = CrossProducts.of(data.fixed, data.membership, data.values, data.case)
    cases, raters, remarks = _identifiable(data)
    estimate = maximize(products, cases=cases, raters=raters)
    effects, residual = products.effects(estimate.theta, estimate.lambda_)
    errors = products.standard_errors(estimate.theta, estimate.lambda_, residual)
    fit = _fit(data, estimate, errors, math.sqrt(residual), confidence)
    remarks += fit.remarks + ([] if estimate.converged else ["the search for the variances did not converge"])
    case_variance = estimate.theta * residual if cases else math.nan
    rater_variance = estimate.lambda_ * residual if raters else math.nan
    total = residual * (1 + estimate.theta + 2 * estimate.lambda_)
    return MixedModelResult(
        measure=measure,
        fixed=fit.table,
        case_variance=case_variance,
        rater_variance=rater_variance,
        residual_variance=residual,
        case_share=case_variance / total,
        rater_share=2 * rater_variance / total,
        residual_share=residual / total,
        rater_effects=_rater_table(data, effects if raters else np.full(len(data.raters), math.nan)),
        log_likelihood=estimate.log_likelihood,
        pairs=len(data.values),
        cases=int(data.case.max()) + 1,
        raters=len(data.raters),
        left_out=left_out,
        confidence=confidence,
        converged=estimate.converged and fit.converged,
        remark="; ".join(remarks),
    )


@dataclass(frozen=True, eq=False)
class _Fit:
    table: pd.DataFrame
    converged: bool
    remarks: list[str]


def _fit(data: _Data, estimate: Estimate, errors: FloatArray, unit: float, confidence: float) -> _Fit:
    """Fixed effects through statsmodels, on values whitened within cases and divided by their residual spread.

    With that unit the warning of statsmodels of a variance below 0.01 is one of small variances, not of small units.
    """
    from statsmodels.regression.linear_model import OLS

    columns = (data.fixed, data.membership, data.values[:, None] / unit)
    fixed, random, values = (_whiten(matrix, data.case, estimate.theta) for matrix in columns)
    converged = True
    remarks: list[str] = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        if estimate.lambda_ > 0:
            found, converged, remarks = _mixed_fit(values[:, 0], fixed, random, data, estimate)
        else:
            found = OLS(values[:, 0], fixed).fit()
    remarks += sorted({f"statsmodels: {str(warning.message).splitlines()[0]}" for warning in caught})
    coefficients = unit * np.asarray(found.params)[: fixed.shape[1]]
    reach = float(stats.norm.ppf((1 + confidence) / 2))
    z = coefficients / errors
    table = pd.DataFrame(
        {
            "term": data.terms,
            "estimate": coefficients,
            "standard_error": errors,
            "low": coefficients - reach * errors,
            "high": coefficients + reach * errors,
            "z": z,
            "p": 2 * stats.norm.sf(np.abs(z)),
        }
    )
    return _Fit(table, converged and bool(np.isfinite(errors).all()), remarks)


def _mixed_fit(
    values: FloatArray, fixed: FloatArray, random: FloatArray, data: _Data, estimate: Estimate
) -> tuple[Any, bool, list[str]]:
    """MixedLM with the raters as one variance component; whether it agrees with the exact likelihood."""
    from statsmodels.regression.mixed_linear_model import MixedLM, MixedLMParams, VCSpec

    component = VCSpec(["rater"], [[data.raters]], [[random]])
    model = MixedLM(values, fixed, np.zeros(len(values)), exog_vc=component)
    start = MixedLMParams.from_components(
        np.linalg.lstsq(fixed, values, rcond=None)[0], cov_re=np.zeros((0, 0)), vcomp=np.array([estimate.lambda_])
    )
    found = model.fit(start_params=start, reml=True, method=["bfgs", "lbfgs"])
    ratio = float(found.vcomp[0] / found.scale)
    near = math.isclose(ratio, estimate.lambda_, rel_tol=0.02, abs_tol=1e-6)
    remarks = []
    if not near:
        remarks.append(
            f"statsmodels finds a rater variance of {ratio:.4g} of the residual variance, the exact likelihood "
            f"{estimate.lambda_:.4g}"
        )
    return found, bool(found.converged) and near, remarks


def _data(pairs: pd.DataFrame, measure: str, terms: Sequence[str]) -> tuple[_Data, int]:
    check_columns(pairs, ("case", "rater_a", "rater_b", measure), function=_FUNCTION)
    complete = pairs[["case", "rater_a", "rater_b", measure]].notna().all(axis=1)
    for part in dict.fromkeys(part for term in terms for part in term.split(":")):
        complete &= term_values(pairs, part, function=_FUNCTION).notna()
    used = pairs[complete]
    values = used[measure].to_numpy(np.float64)
    if len(used) < 3 or np.ptp(values) == 0 or not np.isfinite(values).all():
        raise ValueError(
            f"{_FUNCTION}: {measure!r} must have finite values that differ in at least 3 complete rows. "
            f"Got {len(used)} complete rows of {len(pairs)}."
        )
    fixed, names = fixed_design(used, terms, function=_FUNCTION)
    if len(used) <= len(names) + 1:
        raise ValueError(f"{_FUNCTION}: pairs must outnumber the fixed terms. Got {len(used)} for {len(names)} terms.")
    matrix, raters = membership(used)
    case, _ = pd.factorize(used["case"])
    return _Data(fixed, names, matrix, raters, values, case), int(len(pairs) - len(used))


def _identifiable(data: _Data) -> tuple[bool, bool, list[str]]:
    """Whether the variance of cases and that of raters can be told from the rest."""
    remarks = []
    cases = int(np.bincount(data.case).max()) > 1 and int(data.case.max()) > 0
    if not cases:
        remarks.append("the variance of cases cannot be told: it takes several cases, and one with several pairs")
    rank = np.linalg.matrix_rank(np.column_stack([data.fixed, data.membership]))
    raters = bool(data.fixed.shape[1] < rank < len(data.values))
    if not raters:
        remarks.append("the variance of raters cannot be told: it takes at least three, in different pairs")
    return cases, raters, remarks


def _whiten(matrix: FloatArray, case: npt.NDArray[np.intp], theta: float) -> FloatArray:
    """Rows times the inverse root of ``I + theta 1 1'`` within each case: the mean of a case of m rows shrinks to
    ``(1 + theta m)^-1/2`` of itself."""
    counts = np.bincount(case)
    means = np.stack([np.bincount(case, column) / counts for column in matrix.T], axis=1)
    shrink = 1 - 1 / np.sqrt(1 + theta * counts)
    return matrix - (shrink[:, None] * means)[case]


def _rater_table(data: _Data, effects: FloatArray) -> pd.DataFrame:
    taking_part = (data.membership > 0).sum(axis=0)
    return pd.DataFrame({"rater": data.raters, "effect": effects, "pairs": taking_part})
