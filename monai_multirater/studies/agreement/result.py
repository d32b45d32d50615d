# SPDX-License-Identifier: Apache-2.0
"""What an agreement study found: tables that the report and the files are made from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

__all__ = ["AgreementStudy", "Gallery"]


@dataclass(frozen=True)
class Gallery:
    """One disputed case to look at.

    Attributes:
        case: its name.
        picture: PNG or SVG file with the outlines of all raters over the image, beside the map of votes.
        text: what the picture shows, for those who cannot see it.
    """

    case: str
    picture: Path
    text: str


@dataclass(frozen=True, eq=False)
class AgreementStudy:
    """Result of an agreement study; what :func:`write_agreement_report` shows.

    Columns that a study cannot know (surface distances of an existing pair table, for example) are absent, not empty.

    Attributes:
        name: of the data set.
        unit: of distances: ``"mm"`` or ``"voxels"``.
        pairs: one row per case and pair of raters: ``case``, ``rater_a``, ``rater_b``, a column per pair measure of
            ``MEASURES``, in the order of (``rater_a``, ``rater_b``) where that matters; ``sensitivity_reverse``,
            ``specificity_reverse`` of (``rater_b``, ``rater_a``); ``volume_a``, ``volume_b``; ``<factor>_a``,
            ``<factor>_b`` of every factor of masks or raters; ``<factor>`` of every factor of cases.
        cases: one row per case: ``case``, ``raters`` (how many), ``mean_<measure>`` over its pairs, of
            sensitivity and specificity over both orders of each, of the volume difference without its sign;
            ``min_dice``, the group measures, ``volume_at_least_k`` (what at least k raters mark), ``size`` (mean
            volume of the masks), ``undefined_distances``, ``<factor>`` of cases.
        raters: one row per rater: ``rater``, ``cases``, ``empty_masks``, ``mean_dice`` (with each other), the human
            ceiling ``ceiling_dice``, ``ceiling_dice_low``, ``ceiling_dice_high``, ``ceiling_sensitivity``,
            ``ceiling_specificity`` (against the majority of the others), ``size_bias``, ``boundary_bias``, ``outlier``.
        tests: one row per comparison, see ``monai_multirater.agreement.Comparison``.
        omnibus: one row per factor whose levels are compared, measure and level of analysis: the Kruskal-Wallis test of
            all levels at once, see ``monai_multirater.agreement.omnibus_tests``.
        dominance: one row per point of a cumulative distribution: ``comparison``, ``measure``, ``value``,
            ``first``, ``second`` (shares strictly below ``value``), at the points that the test of dominance compares.
            Only for the group, for same against different over all cases, and for factors with two levels.
        mixed: fixed effects and variance components of the mixed model: ``model``, ``term``, ``estimate``,
            ``low``, ``high``, ``p``.
        problems: ``kind`` (``unreadable``, ``empty``, ``flipped``, ``duplicate``, ``outlier rater``, ``outlier mask``,
            ``one rater``), ``case``, ``rater``, ``detail``.
        summary: facts by name, as ``agreement.json`` holds them: counts of cases, pairs, raters; cases left out; mean
            and interval of each measure; the request.
        galleries: the most disputed cases, the worst first.
    """

    name: str
    unit: str
    pairs: pd.DataFrame
    cases: pd.DataFrame
    raters: pd.DataFrame
    tests: pd.DataFrame
    dominance: pd.DataFrame
    mixed: pd.DataFrame
    problems: pd.DataFrame
    summary: Mapping[str, Any] = field(default_factory=dict)
    galleries: tuple[Gallery, ...] = ()
    omnibus: pd.DataFrame = field(default_factory=pd.DataFrame)
