# SPDX-License-Identifier: Apache-2.0
"""What a smaller study could have seen of existing cases: the agreement of every choice of raters."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from monai_multirater.agreement.effects import FloatArray
from monai_multirater.agreement.overlap import PairOverlap
from monai_multirater.agreement.pair_table import check_columns, level_name
from monai_multirater.votes import VoteTable

__all__ = ["CaseMatrix", "Pool", "case_matrices", "fixed_pools", "open_pool"]

MOST_PANELS = 256  # choices of raters looked at, per case or in all; more are sampled
LEAST_CASES = 10  # of a panel; the spread over fewer says little
TABLE_MEASURES = ("dice", "iou", "kappa")
IntArray = npt.NDArray[np.intp]


@dataclass(frozen=True, eq=False)
class CaseMatrix:
    """Agreement of the raters present on one case: names ``[m]`` and symmetric values ``[m, m]``, NaN unknown."""

    raters: tuple[str, ...]
    values: FloatArray

    def means(self, panels: Iterable[Sequence[int]]) -> FloatArray:
        """Mean over the known pairs of the raters of each panel; panels without one are left out."""
        rows = self.values.tolist()
        found = []
        for chosen in panels:
            known = [x for i, j in itertools.combinations(chosen, 2) if not math.isnan(x := rows[i][j])]
            if known:
                found.append(sum(known) / len(known))
        return np.array(found, dtype=np.float64)


@dataclass(frozen=True, eq=False)
class Pool:
    """Cases that a study draws from; case c has the values ``values[start[c] : start[c] + count[c]]``."""

    values: FloatArray
    start: IntArray
    count: IntArray

    @classmethod
    def of(cls, cases: Iterable[FloatArray]) -> Pool:
        """From the defined values of each case; a case without any is no part of the pool."""
        kept = [values for values in cases if values.size]
        count = np.array([values.size for values in kept], np.intp)
        values = np.concatenate(kept) if kept else np.empty(0)
        return cls(values, np.cumsum(count) - count, count)

    @property
    def moments(self) -> tuple[float, float]:
        """Mean and standard deviation of the value of a case drawn, any of its values being as likely."""
        if not self.count.size:
            return math.nan, math.nan
        weights = np.repeat(1 / (self.count * self.count.size), self.count)
        mean = float(weights @ self.values)
        return mean, math.sqrt(float(weights @ np.square(self.values - mean)))

    def draw_means(self, cases: int, studies: int, generator: np.random.Generator) -> FloatArray:
        """Mean over `cases` cases drawn with replacement, ``[studies]``."""
        means = np.empty(studies)
        step = max(1, 2**18 // cases)
        for begin in range(0, studies, step):
            shape = (min(step, studies - begin), cases)
            drawn = generator.integers(0, self.count.size, shape)
            where = self.start[drawn]
            if self.count.max() > 1:
                where = where + (generator.random(shape) * self.count[drawn]).astype(np.intp)
            means[begin : begin + shape[0]] = self.values[where].mean(axis=1)
        return means


def case_matrices(source: pd.DataFrame | Iterable[VoteTable], measure: str, *, function: str) -> list[CaseMatrix]:
    """Matrices of a table of pairs, or of the pattern tables of cases.

    In a table of pairs, repeated pairs of the same two raters are averaged and pairs of a rater with itself left out.
    """
    if isinstance(source, pd.DataFrame):
        return list(_from_pairs(source, measure, function))
    if measure not in TABLE_MEASURES:
        raise ValueError(
            f"{function}: measure must be one of {', '.join(TABLE_MEASURES)} with pattern tables. Got {measure!r} "
            "instead; give a table of pairs for others."
        )
    matrices = []
    for table in source:
        overlap = PairOverlap.from_table(table)
        present = overlap.present.nonzero().flatten()
        values = getattr(overlap, measure)[present][:, present]
        matrices.append(CaseMatrix(tuple(str(r) for r in present.tolist()), values.numpy().astype(np.float64)))
    if not matrices:
        raise ValueError(f"{function}: at least one case must be given. Got none.")
    return matrices


def open_pool(matrices: list[CaseMatrix], raters: int, generator: np.random.Generator) -> Pool:
    """Each case marked by any `raters` of its own raters; cases with fewer are left out."""
    return Pool.of(
        matrix.means(_panels(len(matrix.raters), raters, generator))
        for matrix in matrices
        if len(matrix.raters) >= raters
    )


def fixed_pools(matrices: list[CaseMatrix], raters: int, generator: np.random.Generator) -> list[Pool]:
    """For each panel of `raters` raters, the cases that all of them marked; panels with fewer than 10 are left out."""
    names = sorted({name for matrix in matrices for name in matrix.raters})
    where = [{name: i for i, name in enumerate(matrix.raters)} for matrix in matrices]
    pools = []
    for chosen in _panels(len(names), raters, generator):
        panel = [names[i] for i in chosen]
        cases = [
            matrix.means([[index[name] for name in panel]])
            for matrix, index in zip(matrices, where, strict=True)
            if all(name in index for name in panel)
        ]
        pool = Pool.of(cases)
        if pool.count.size >= LEAST_CASES:
            pools.append(pool)
    return pools


def _panels(available: int, raters: int, generator: np.random.Generator) -> Iterator[Sequence[int]]:
    """All choices of `raters` of the available ones, or `MOST_PANELS` random ones if there are more."""
    if math.comb(available, raters) <= MOST_PANELS:
        yield from itertools.combinations(range(available), raters)
    else:
        for _ in range(MOST_PANELS):
            yield sorted(generator.choice(available, raters, replace=False).tolist())


def _from_pairs(pairs: pd.DataFrame, measure: str, function: str) -> Iterator[CaseMatrix]:
    check_columns(pairs, ("case", "rater_a", "rater_b", measure), function=function)
    code, _ = pd.factorize(pairs["case"], sort=True)
    a, b = (_names(pairs[column]) for column in ("rater_a", "rater_b"))
    values = pairs[measure].to_numpy(np.float64)
    order = np.argsort(code, kind="stable")
    order = order[(a != b)[order] & (code >= 0)[order]]
    for rows in np.split(order, np.flatnonzero(np.diff(code[order])) + 1):
        if rows.size:
            yield _matrix(a[rows].tolist(), b[rows].tolist(), values[rows].tolist())


def _names(raters: pd.Series[Any]) -> npt.NDArray[np.object_]:
    code, found = pd.factorize(raters, use_na_sentinel=False)
    return np.array([level_name(rater) for rater in found], dtype=object)[code]


def _matrix(a: list[str], b: list[str], values: list[float]) -> CaseMatrix:
    """Matrix of one case; repeated pairs are averaged."""
    names = sorted({*a, *b})
    index = {name: i for i, name in enumerate(names)}
    found: dict[tuple[int, int], list[float]] = {}
    for one, other, value in zip(a, b, values, strict=True):
        if not math.isnan(value):
            i, j = index[one], index[other]
            found.setdefault((min(i, j), max(i, j)), []).append(value)
    known = np.full((len(names), len(names)), math.nan)
    for (i, j), repeated in found.items():
        known[i, j] = known[j, i] = sum(repeated) / len(repeated)
    return CaseMatrix(tuple(names), known)
