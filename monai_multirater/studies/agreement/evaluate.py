# SPDX-License-Identifier: Apache-2.0
"""What is asked of measured pairs, and the study that answers it."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from monai_multirater.agreement.measures import GROUP_MEASURES
from monai_multirater.agreement.pair_table import is_mask_factor
from monai_multirater.agreement.planning import plan_study
from monai_multirater.studies.agreement.analysis import add_size, analyse, measure_summary
from monai_multirater.studies.agreement.factors import Factors, attach_factors, check_group, choose_factors, split_group
from monai_multirater.studies.agreement.request import nearest
from monai_multirater.studies.agreement.result import AgreementStudy
from monai_multirater.studies.agreement.unordered import unordered

__all__ = ["Question", "evaluate"]

_logger = logging.getLogger(__name__)
_FUNCTION = "agreement_study"


@dataclass(frozen=True)
class Question:
    """What is asked.

    Attributes:
        known: all factors.
        factors: names to analyse; None for all that fit.
        group: factor of cases, or ``COLUMN=VALUE``.
        tested: measures of pairs.
        seed, resamples, permutations: of bootstrap and permutations.
        in_pairs: factors of masks whose columns the table of pairs has already.
    """

    known: Factors
    factors: Sequence[str] | None
    group: str | None
    tested: tuple[str, ...]
    seed: int
    resamples: int
    permutations: int
    in_pairs: tuple[str, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """All factors."""
        return (*self.known.names, *self.in_pairs)

    def check(self, measures: Sequence[str], pairs: pd.DataFrame) -> None:
        """Refuse what can be refused before anything is measured.

        Args:
            measures: that will be there.
            pairs: table of the pairs there are; its measures are not looked at.

        Raises:
            ValueError: an unknown tested measure, factor or group, one that cannot be compared, or no resample.
        """
        if self.resamples < 1 or self.permutations < 1:
            raise ValueError(
                f"{_FUNCTION}: resamples and permutations must be at least 1. "
                f"Got {self.resamples} and {self.permutations}."
            )
        for name in self.tested:
            if name not in measures or name in GROUP_MEASURES:
                pair = [measure for measure in measures if measure not in GROUP_MEASURES]
                raise ValueError(
                    f"{_FUNCTION}: tested must name measures of pairs. Got {name!r}; {nearest(name, pair)}."
                )
        if self.group or self.factors:
            pairs, cases = attach_factors(pairs, pairs[["case"]].drop_duplicates(), self.known)
            if self.group:
                check_group({name: cases[name] for name in self.known.cases}, self.group)
            choose_factors(pairs, self.names, self.factors)

    def plan(self, pairs: pd.DataFrame) -> pd.DataFrame:
        """Width of the interval of the mean Dice for numbers of raters and cases of another study."""
        return plan_study(pairs, seed=self.seed, resamples=self.resamples)


def evaluate(
    name: str,
    unit: str,
    pairs: pd.DataFrame,
    cases: pd.DataFrame,
    raters: pd.DataFrame,
    problems: pd.DataFrame,
    question: Question,
    facts: Mapping[str, Any],
) -> AgreementStudy:
    """Join the factors to the tables, compare, and put the study together; ``facts`` begin its summary.

    Remarks among the facts are already in the log, those found here go there.
    """
    known = question.known
    pairs, cases = attach_factors(pairs, cases, known)
    remarks = list(known.remarks)
    group = split_group(pairs, cases, list(known.cases), question.group) if question.group else None
    factors, left_out = choose_factors(pairs, question.names, question.factors)
    divided = (question.group or "").partition("=")[0]
    factors = [factor for factor in factors if factor != divided or (question.factors and group != divided)]
    alone = pairs["rater_a"] == pairs["rater_b"]
    if alone.any() and not alone.all():
        factors.append("rater")
    asked = factors if question.factors else [factor for factor in factors if is_mask_factor(pairs, factor)]
    terms = [f"same_{factor}" if is_mask_factor(pairs, factor) else factor for factor in asked]
    found = analyse(
        add_size(unordered(pairs), cases),
        factors=factors,
        group=group,
        measures=question.tested,
        fixed=[*([group] if group else []), *terms],
        seed=question.seed,
        resamples=question.resamples,
        permutations=question.permutations,
    )
    remarks += [*left_out, *found.remarks]
    for remark in remarks:
        _logger.info("%s", remark)
    remarks = [*facts.get("remarks", ()), *remarks]
    summary = {
        **facts,
        "cases": len(cases),
        "pairs": len(pairs),
        "group": question.group,
        "group_column": group,
        "factors": factors,
        "tested": list(question.tested),
        "seed": question.seed,
        "resamples": question.resamples,
        "permutations": question.permutations,
        "measures": measure_summary(pairs, cases, question.seed),
        "remarks": remarks,
    }
    return AgreementStudy(
        name, unit, pairs, cases, raters, found.tests, found.dominance, found.mixed, problems, summary,
        omnibus=found.omnibus,
    )  # fmt: skip
