# SPDX-License-Identifier: Apache-2.0
"""Restricted likelihood of the mixed model of pairs, from sums over cases.

Values ``y = X b + u_case + v_a + v_b + e`` with ``u ~ N(0, theta s^2)``, ``v ~ N(0, lambda s^2)``, ``e ~ N(0, s^2)``
have the covariance ``s^2 (V + lambda Z Z')``, where V is ``I + theta 1 1'`` within a case of m pairs. Its inverse is
``I - theta / (1 + theta m) 1 1'``, so that the products ``A' V^-1 A`` of ``A = [X Z y]`` are those of the pairs minus
those of the sums of cases, weighted by the size of the case. What remains has as many rows as raters and terms.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import optimize

from monai_multirater.agreement.effects import FloatArray

__all__ = ["CrossProducts", "Estimate", "maximize"]

_GRID = (0.0, 0.02, 0.1, 0.3, 0.5, 0.7, 0.9, 0.98)  # of x / (1 + x), where the search starts
_HIGHEST = 1 - 1e-9


@dataclass(frozen=True)
class Estimate:
    """Where the restricted likelihood is highest.

    Attributes:
        theta, lambda_: variances of cases and raters in units of the residual variance.
        log_likelihood: restricted, of the values.
        converged: whether the search met its tolerance inside the range.
    """

    theta: float
    lambda_: float
    log_likelihood: float
    converged: bool


@dataclass(frozen=True, eq=False)
class CrossProducts:
    """Everything that the likelihood needs of the data.

    Attributes:
        total: ``A' A`` of ``A = [X Z y]``.
        by_size: ``[sizes, columns, columns]``, sum over the cases of m pairs of the products of their sums.
        sizes: m of each; cases: how many cases of that size.
        terms, raters: columns of X and Z.
        rows: number of pairs.
    """

    total: FloatArray
    by_size: FloatArray
    sizes: npt.NDArray[np.int64]
    cases: npt.NDArray[np.int64]
    terms: int
    raters: int
    rows: int

    @classmethod
    def of(
        cls, fixed: FloatArray, membership: FloatArray, values: FloatArray, case: npt.NDArray[np.intp]
    ) -> CrossProducts:
        """From ``X [n, p]``, ``Z [n, q]``, ``y [n]`` and the number of the case of each row, 0, 1, ..."""
        data = np.column_stack([fixed, membership, values])
        counts = np.bincount(case)
        sums = np.zeros((counts.size, data.shape[1]))
        np.add.at(sums, case, data)
        sizes, cases = np.unique(counts, return_counts=True)
        by_size = np.stack([sums[counts == size].T @ sums[counts == size] for size in sizes])
        return cls(data.T @ data, by_size, sizes, cases, fixed.shape[1], membership.shape[1], len(values))

    def log_likelihood(self, theta: float, lambda_: float) -> float:
        """Restricted log-likelihood with the residual variance at its best."""
        p, degrees = self.terms, self.rows - self.terms
        reduced, determinant = self._without_raters(theta, lambda_)
        solved = np.linalg.solve(reduced[:p, :p], reduced[:p, p])
        residual = float(reduced[p, p] - reduced[:p, p] @ solved)
        if not residual > 0:
            return -math.inf
        information = float(np.linalg.slogdet(reduced[:p, :p])[1])
        scale = degrees * (math.log(2 * math.pi * residual / degrees) + 1)
        return -0.5 * (scale + determinant + information)

    def effects(self, theta: float, lambda_: float) -> tuple[FloatArray, float]:
        """Predicted effects of the raters ``[q]``, shrunk to 0, and the residual variance."""
        p, q = self.terms, self.raters
        reduced, _ = self._without_raters(theta, lambda_)
        fixed = np.linalg.solve(reduced[:p, :p], reduced[:p, p])
        residual = float(reduced[p, p] - reduced[:p, p] @ fixed) / (self.rows - p)
        products = self._whitened(theta)
        z = slice(p, p + q)
        right = products[z, -1] - products[z, :p] @ fixed
        shrunk = lambda_ * np.linalg.solve(np.eye(q) + lambda_ * products[z, z], right)
        return np.asarray(shrunk, np.float64), residual

    def standard_errors(self, theta: float, lambda_: float, residual: float) -> FloatArray:
        """Of the fixed effects ``[p]``, as generalized least squares gives them, from ``s^2 (X' V^-1 X)^-1``."""
        reduced, _ = self._without_raters(theta, lambda_)
        return np.sqrt(residual * np.diag(np.linalg.inv(reduced[: self.terms, : self.terms])))

    def _whitened(self, theta: float) -> FloatArray:
        weights = theta / (1 + theta * self.sizes)
        return self.total - np.tensordot(weights, self.by_size, axes=1)

    def _without_raters(self, theta: float, lambda_: float) -> tuple[FloatArray, float]:
        """Products of ``[X y]`` with the inverse of the whole covariance, and the logarithm of its determinant."""
        p, q = self.terms, self.raters
        products = self._whitened(theta)
        z, rest = np.arange(p, p + q), np.r_[np.arange(p), p + q]
        inner = np.eye(q) + lambda_ * products[np.ix_(z, z)]
        cross = products[np.ix_(z, rest)]
        reduced = products[np.ix_(rest, rest)] - lambda_ * cross.T @ np.linalg.solve(inner, cross)
        determinant = float((self.cases * np.log1p(theta * self.sizes)).sum() + np.linalg.slogdet(inner)[1])
        return reduced, determinant


def maximize(products: CrossProducts, *, cases: bool, raters: bool) -> Estimate:
    """Highest restricted likelihood; a variance that is not asked for stays 0.

    The search runs over ``x / (1 + x)`` of both ratios, from the best point of a grid, so that a variance of 0 is an
    ordinary answer.
    """

    def cost(point: npt.ArrayLike) -> float:
        theta, lambda_ = (float(share / (1 - share)) for share in np.asarray(point))
        return -products.log_likelihood(theta, lambda_)

    first, second = (_GRID if asked else (0.0,) for asked in (cases, raters))
    start = min(((a, b) for a in first for b in second), key=cost)
    upper = [_HIGHEST if asked else 0.0 for asked in (cases, raters)]
    simplex = np.array([start, start, start])
    simplex[1, 0] = min(upper[0], start[0] + 0.05) if start[0] < 0.9 else start[0] - 0.05 * cases
    simplex[2, 1] = min(upper[1], start[1] + 0.05) if start[1] < 0.9 else start[1] - 0.05 * raters
    found = optimize.minimize(
        cost,
        start,
        method="Nelder-Mead",
        bounds=[(0.0, upper[0]), (0.0, upper[1])],
        options={"initial_simplex": simplex, "xatol": 1e-10, "fatol": 1e-10, "maxiter": 2000},
    )
    theta, lambda_ = (float(share / (1 - share)) for share in found.x)
    inside = bool(found.success) and max(found.x) < _HIGHEST - 1e-6 and math.isfinite(found.fun)
    return Estimate(theta, lambda_, -float(found.fun), inside)
