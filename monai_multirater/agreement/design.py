# SPDX-License-Identifier: Apache-2.0
"""Matrices of a linear model of pairs: fixed terms, and which raters take part in a pair."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from monai_multirater.agreement.effects import FloatArray
from monai_multirater.agreement.pair_table import check_columns, factor_levels, is_mask_factor, level_name

__all__ = ["fixed_design", "membership", "term_values"]


def term_values(pairs: pd.DataFrame, term: str, *, function: str) -> pd.Series[Any]:
    """Column of a term; ``same_<factor>`` is made of ``<factor>_a`` and ``<factor>_b``, missing where one is."""
    factor = term.removeprefix("same_")
    if term in pairs.columns or factor == term or not is_mask_factor(pairs, factor):
        check_columns(pairs, (term,), function=function)
        return pairs[term]
    a, b = pairs[f"{factor}_a"].astype(object), pairs[f"{factor}_b"].astype(object)
    return (a == b).astype(np.float64).where(a.notna() & b.notna())


def fixed_design(pairs: pd.DataFrame, terms: Sequence[str], *, function: str) -> tuple[FloatArray, list[str]]:
    """Matrix ``[n, p]`` with the intercept first, and the names of its columns.

    Raises:
        ValueError: a term that is not there, has one value only, or follows from the terms before it.
    """
    columns, names = [np.ones(len(pairs))], ["intercept"]
    for term in dict.fromkeys(terms):
        for name, column in _encode(pairs, term, function):
            columns.append(column)
            names.append(name)
            if np.linalg.matrix_rank(np.column_stack(columns)) < len(columns):
                raise ValueError(
                    f"{function}: fixed terms must be independent, and vary. "
                    f"Got {name!r}, which follows from {', '.join(map(repr, names[:-1]))}."
                )
    return np.column_stack(columns), names


def membership(pairs: pd.DataFrame) -> tuple[FloatArray, list[str]]:
    """Matrix ``[n, raters]`` with how often a rater is in the pair (0, 1, 2), and the sorted names of the raters."""
    both = pd.concat([pairs["rater_a"], pairs["rater_b"]]).map(level_name)
    codes, names = pd.factorize(both, sort=True)
    matrix = np.zeros((len(pairs), len(names)))
    np.add.at(matrix, (np.tile(np.arange(len(pairs)), 2), codes), 1)
    return matrix, [str(name) for name in names]


def _encode(pairs: pd.DataFrame, term: str, function: str) -> list[tuple[str, FloatArray]]:
    """Named columns of a term; products of the columns of its parts for ``a:b``."""
    encoded: list[tuple[str, FloatArray]] = []
    for i, part in enumerate(term.split(":")):
        columns = _encode_one(pairs, part, function)
        encoded = columns if i == 0 else [(f"{a}:{b}", left * right) for a, left in encoded for b, right in columns]
    return encoded


def _encode_one(pairs: pd.DataFrame, term: str, function: str) -> list[tuple[str, FloatArray]]:
    values = term_values(pairs, term, function=function)
    inferred = values.infer_objects()
    if pd.api.types.is_bool_dtype(inferred) or pd.api.types.is_numeric_dtype(inferred):
        return [(term, values.to_numpy(np.float64))]
    levels = factor_levels(values, factor=term, function=function)
    return [(f"{term}[{level_name(level)}]", (values == level).to_numpy(np.float64)) for level in levels[1:]]
