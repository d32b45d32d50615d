# SPDX-License-Identifier: Apache-2.0
"""Values of pairs that do not depend on who of the two raters is named first.

Sensitivity, specificity and the relative volume difference of a against b differ from those of b against a, so that
their means over pairs depend on the order of the names. Tables of pairs keep the value of (``rater_a``, ``rater_b``);
everything that summarizes pairs takes the values from here.
"""

from __future__ import annotations

import pandas as pd

from monai_multirater.agreement.measures import MEASURES

__all__ = ["REVERSE", "has_unordered", "unordered", "unordered_values"]

REVERSE = "_reverse"
"""Ending of the column with the value of (``rater_b``, ``rater_a``)."""


def unordered_values(pairs: pd.DataFrame, name: str) -> pd.Series[float]:
    """Values of a measure, one per pair.

    Of a measure with an order: the mean over both orders, undefined where one of them is; of one with a sign its
    absolute value.

    Args:
        pairs: table of pairs.
        name: measure for which :func:`has_unordered` is true.
    """
    values = pairs[name].astype(float)
    if MEASURES[name].symmetric:
        return values
    if MEASURES[name].higher_is_better is None:
        return values.abs()
    return (values + pairs[f"{name}{REVERSE}"]) / 2


def has_unordered(pairs: pd.DataFrame, name: str) -> bool:
    """Whether a table of pairs gives such values: from a table made elsewhere it is not known how it orders them."""
    if name not in pairs or MEASURES[name].symmetric:
        return name in pairs
    return (f"{name}{REVERSE}" if MEASURES[name].higher_is_better is not None else "volume_a") in pairs


def unordered(pairs: pd.DataFrame) -> pd.DataFrame:
    """Table of pairs with unordered values in the columns of measures, without those that have none."""
    ordered = [name for name in MEASURES if name in pairs and not MEASURES[name].symmetric]
    known = {name: unordered_values(pairs, name) for name in ordered if has_unordered(pairs, name)}
    return pairs.drop(columns=[name for name in ordered if name not in known]).assign(**known)
