# SPDX-License-Identifier: Apache-2.0
"""Robust rules for raters, and single masks of a rater, that agree far worse than is usual."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["CaseOutlier", "OutlierReport", "find_outliers"]

FloatArray = NDArray[np.float64]
_PAIR_SCALE = 1.0483580  # median |x - y| of two normal values to their standard deviation: 1 / (sqrt(2) Phi^-1(3/4))
_MAD_SCALE = 1.4826022  # median |x - median| of normal values to their standard deviation: 1 / Phi^-1(3/4)


@dataclass(frozen=True)
class CaseOutlier:
    """One mask that agrees far worse than this case's others and than this rater's other masks.

    Attributes:
        case: row of the case.
        rater: column of the rater.
        agreement: of this mask.
        usual_of_case: median agreement of the other raters of the case.
        usual_of_rater: median agreement of the rater in the other cases.
        score: the smaller of the two distances in units of the usual spread; infinite for a spread of 0.
    """

    case: int
    rater: int
    agreement: float
    usual_of_case: float
    usual_of_rater: float
    score: float


@dataclass(frozen=True, eq=False)
class OutlierReport:
    """Result of :func:`find_outliers`.

    Attributes:
        gap: float64 ``[R]``, how far the rater lies below the others in the median case; NaN if undefined.
        score: float64 ``[R]``, the gap in units of the spread of the others; NaN if undefined.
        flagged: bool ``[R]``.
        cases: single masks, by case and rater.
    """

    gap: FloatArray
    score: FloatArray
    flagged: NDArray[np.bool_]
    cases: tuple[CaseOutlier, ...]


def find_outliers(
    agreement: FloatArray, *, threshold: float = 3.5, min_gap: float = 0.1, min_cases: int = 4
) -> OutlierReport:
    r"""Find raters who agree far worse than the others, and single masks far below the usual.

    With ``a[c, r]`` the agreement of rater r in case c, only over cases with at least three raters:

    * gap of a mask: ``g[c, r] = median_{s != r} a[c, s] - a[c, r]``, which takes away how hard the case is;
    * spread of the others: ``S[r] = 1.048 median_{c, s < t, both != r} |a[c, s] - a[c, t]|``, for normal values
      the standard deviation. It needs no center, and a rater does not inflate their own yardstick;
    * rater r is flagged if ``median_c g[c, r] >= min_gap`` and it is at least ``threshold * S[r]``;
    * mask (c, r) is flagged if ``g[c, r]`` passes the same two bounds and so does
      ``median_{c' != c} a[c', r] - a[c, r]`` with the rater's own spread, 1.4826 MAD over the cases c'. A flagged
      rater is usually low everywhere and not listed case by case.

    The rules are about size, not significance: more cases do not make a small gap an outlier. They rest on the
    others being mostly right: half of the raters with the same fault are not found.

    Args:
        agreement: float ``[N, R]``, for example ``RaterPerformance.agreement`` of N cases; NaN where a rater is
            absent.
        threshold: in units of the spread; 3.5 is the usual bound of the modified z-score.
        min_gap: least difference in agreement, so that near-perfect raters are not told apart.
        min_cases: least number of cases of a rater for a flag. With 1 even a single case is judged; single masks
            need at least two cases to tell what is usual.

    Returns:
        :class:`OutlierReport`. Nothing is flagged where there are fewer than three raters.

    Raises:
        ValueError: not a matrix, or a bound out of range.

    Reference: B. Iglewicz, D. C. Hoaglin, How to Detect and Handle Outliers, 1993 (modified z-score); scale from
        pair differences after P. J. Rousseeuw, C. Croux 1993 (doi:10.1080/01621459.1993.10476408).
    """
    values = np.asarray(agreement, dtype=np.float64)
    if values.ndim != 2:
        raise ValueError(f"find_outliers: agreement must be [cases, raters]. Got shape {values.shape}.")
    if not threshold > 0 or not min_gap >= 0 or min_cases < 1:
        raise ValueError(
            "find_outliers: threshold must be > 0, min_gap >= 0 and min_cases >= 1. "
            f"Got {threshold}, {min_gap} and {min_cases}."
        )
    raters = values.shape[1]
    shared = np.where((np.isfinite(values).sum(1) >= 3)[:, None], values, np.nan)
    usual = np.full_like(values, np.nan)
    spread = np.full(raters, np.nan)
    for r in range(raters):
        others = np.delete(shared, r, axis=1)
        usual[:, r] = _row_medians(others)
        spread[r] = _PAIR_SCALE * _median(_pair_differences(others[np.isfinite(shared[:, r])]))
    gaps = usual - shared
    gap = np.array([_median(column) for column in gaps.T])
    score = _in_units(gap, spread)
    flagged = (gap >= min_gap) & (score >= threshold) & (np.isfinite(gaps).sum(0) >= min_cases)
    found = []
    for c, r in np.argwhere((gaps >= min_gap) & (_in_units(gaps, spread) >= threshold)).tolist():
        own = np.delete(values[:, r], c)
        own = own[np.isfinite(own)]
        if len(own) + 1 < max(min_cases, 2):
            continue
        center = _median(own)
        fall = center - values[c, r]
        own_score = float(_in_units(np.array([fall]), np.array([_MAD_SCALE * _median(np.abs(own - center))]))[0])
        if fall >= min_gap and own_score >= threshold:
            score_of_mask = min(own_score, float(_in_units(gaps[c, r : r + 1], spread[r : r + 1])[0]))
            found.append(CaseOutlier(c, r, float(values[c, r]), float(usual[c, r]), center, score_of_mask))
    return OutlierReport(gap, score, flagged, tuple(found))


def _median(values: FloatArray) -> float:
    """Median of the values that are defined; NaN if none is."""
    defined = values[np.isfinite(values)]
    return float(np.median(defined)) if defined.size else float("nan")


def _row_medians(values: FloatArray) -> FloatArray:
    """:func:`_median` of each row, all at once."""
    ordered = np.sort(np.where(np.isfinite(values), values, np.nan), axis=1)  # NaN comes last
    counts = np.isfinite(ordered).sum(1)
    middles = [
        np.take_along_axis(ordered, np.maximum(k, 0)[:, None], axis=1)[:, 0] for k in ((counts - 1) // 2, counts // 2)
    ]
    return np.where(counts > 0, sum(middles) / 2, np.nan)


def _pair_differences(values: FloatArray) -> FloatArray:
    pairs = itertools.combinations(range(values.shape[1]), 2)
    parts = [np.abs(values[:, s] - values[:, t]) for s, t in pairs]
    return np.concatenate(parts) if parts else np.empty(0)


def _in_units(gap: FloatArray, spread: FloatArray) -> FloatArray:
    """``gap / spread``; a gap over a spread of 0 is infinite, no gap is 0."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(gap == 0, 0.0, gap / spread)
