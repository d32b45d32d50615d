# SPDX-License-Identifier: Apache-2.0
"""The agreement of the raters in each case of an evaluation, and of each of their pairs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

__all__ = ["AgreementTable"]

Array = npt.NDArray[np.float64]
Indices = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class AgreementTable:
    """Values of cases and of pairs of raters.

    Attributes:
        score: name of the measure.
        cases: name of each case, or its number.
        raters_present: int64 ``[cases]``.
        values: float64 ``[cases]``: mean over the pairs of the case whose value is defined; NaN without one.
        pair_cases: int64 ``[P]``: case of each pair of raters present, a position in `cases`.
        pairs: int64 ``[P, 2]``: raters a < b.
        pair_values: float64 ``[P]``.
        raters: names of the raters, if known.
    """

    score: str
    cases: tuple[str, ...]
    raters_present: Indices
    values: Array
    pair_cases: Indices
    pairs: Indices
    pair_values: Array
    raters: tuple[str, ...] | None = None

    @classmethod
    def arrange(
        cls, names: Sequence[str], rows: Array, pairs: Array, *, score: str, raters: tuple[str, ...] | None = None
    ) -> AgreementTable:
        """Sort by name and drop repeated cases if all are named, else number the cases in the order they came.

        Args:
            names: of each case, ``""`` if unknown.
            rows: ``[cases, 2]``: raters present, value.
            pairs: ``[P, 4]``: case, rater a, rater b, value.
            score, raters: see the class.

        Raises:
            ValueError: a name came twice with different values.
        """
        order = list(range(len(names)))
        if all(names):
            first = {name: index for index, name in reversed(list(enumerate(names)))}
            for index, name in enumerate(names):
                if not np.array_equal(rows[index], rows[first[name]], equal_nan=True):
                    raise ValueError(f"case {name!r} came twice with different ratings; names of cases must be unique.")
            order = [first[name] for name in sorted(first)]
        place = np.full(len(names), -1, dtype=np.int64)
        place[order] = np.arange(len(order))
        where = place[pairs[:, 0].astype(np.int64)]
        kept = np.argsort(where, kind="stable")[np.count_nonzero(where < 0) :]
        return cls(
            score=score,
            cases=tuple(names[index] or str(index) for index in order),
            raters_present=rows[order, 0].astype(np.int64),
            values=rows[order, 1],
            pair_cases=where[kept],
            pairs=pairs[kept, 1:3].astype(np.int64),
            pair_values=pairs[kept, 3],
            raters=raters,
        )

    def mean(self) -> float:
        """Mean over the cases that have a value, correctly rounded; NaN if none has."""
        defined = self.values[~np.isnan(self.values)]
        return math.fsum(defined) / len(defined) if len(defined) else math.nan

    def columns(self) -> dict[str, npt.NDArray[np.generic]]:
        """One entry per case and pair of raters present: ``case``, ``rater_a``, ``rater_b`` and the measure."""
        first, second = self.pairs.T
        names = None if self.raters is None else np.array(self.raters, dtype=str)
        return {
            "case": np.array(self.cases, dtype=str)[self.pair_cases],
            "rater_a": first if names is None else names[first],
            "rater_b": second if names is None else names[second],
            self.score: self.pair_values,
        }

    def case_columns(self) -> dict[str, npt.NDArray[np.generic]]:
        """One entry per case: ``case``, ``raters`` (how many are present) and the measure."""
        return {"case": np.array(self.cases, dtype=str), "raters": self.raters_present, self.score: self.values}
