# SPDX-License-Identifier: Apache-2.0
"""Seeded splits that keep groups together and strata in proportion."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Mapping, Sequence

import numpy as np


def split_cases(
    count: int,
    *,
    fractions: Mapping[str, float],
    seed: int,
    groups: Sequence[Hashable] | None = None,
    strata: Sequence[Hashable] | None = None,
) -> dict[str, list[int]]:
    """Divide cases into named splits.

    Cases of one group (a patient) never part. Groups and strata are shuffled with ``seed``, groups are laid
    out stratum by stratum, and each in turn goes to the split that is furthest behind its share so far. Every
    stratum is a contiguous stretch of that walk, so each split gets its share of each stratum, and of the
    whole, to within about one group. A group belongs to the most frequent stratum of its cases.

    Args:
        count: number of cases.
        fractions: positive share of each split, summing to 1; a split with share 0 is left out.
        seed: non-negative integer.
        groups: group of each case; default each case by itself.
        strata: stratum of each case; default one stratum.

    Returns:
        Sorted case indices per split; every split holds at least one group.

    Raises:
        ValueError: if lengths or fractions are wrong, or there are fewer groups than splits.
    """
    for name, values in (("groups", groups), ("strata", strata)):
        if values is not None and len(values) != count:
            raise ValueError(f"split_cases: '{name}' must have one entry per case ({count}), got {len(values)}.")
    if any(f < 0 for f in fractions.values()) or abs(sum(fractions.values()) - 1) > 1e-6:
        raise ValueError(f"split_cases: 'fractions' must be >= 0 and sum to 1, got {dict(fractions)}.")
    shares = {name: fraction for name, fraction in fractions.items() if fraction > 0}
    members: dict[Hashable, list[int]] = {}
    for index in range(count):
        members.setdefault(index if groups is None else groups[index], []).append(index)
    if len(members) < len(shares):
        raise ValueError(
            f"split_cases: {len(members)} groups cannot fill {len(shares)} splits ({', '.join(shares)}); "
            "give some splits the share 0 or check the groups."
        )
    ordered = _walk(list(members.values()), strata, seed)
    result: dict[str, list[list[int]]] = {name: [] for name in shares}
    sizes = dict.fromkeys(shares, 0)
    placed = 0
    for unit in ordered:
        placed += len(unit)
        name = max(shares, key=lambda s: (shares[s] * placed - sizes[s], shares[s]))
        result[name].append(unit)
        sizes[name] += len(unit)
    _fill_empty(result)
    return {name: sorted(index for unit in units for index in unit) for name, units in result.items()}


def _walk(units: list[list[int]], strata: Sequence[Hashable] | None, seed: int) -> list[list[int]]:
    generator = np.random.default_rng(seed)
    shuffled = [units[i] for i in generator.permutation(len(units))]
    if strata is None:
        return shuffled
    stratum = {id(unit): Counter(strata[i] for i in unit).most_common(1)[0][0] for unit in shuffled}
    values = sorted(set(stratum.values()), key=repr)
    rank = dict(zip(values, generator.permutation(len(values)).tolist(), strict=True))
    return sorted(shuffled, key=lambda unit: rank[stratum[id(unit)]])


def _fill_empty(result: dict[str, list[list[int]]]) -> None:
    for units in result.values():
        if not units:
            largest = max(result.values(), key=len)
            units.append(largest.pop())


def terciles(values: Sequence[float], within: Sequence[Hashable] | None = None) -> list[int]:
    """Return 0, 1 or 2 for the lower, middle and upper third by rank, computed within each class."""
    classes = [0] * len(values) if within is None else list(within)
    result = [0] * len(values)
    for label in set(classes):
        indices = [i for i, other in enumerate(classes) if other == label]
        ranked = sorted(indices, key=lambda i: (values[i], i))
        for rank, index in enumerate(ranked):
            result[index] = 3 * rank // len(ranked)
    return result
