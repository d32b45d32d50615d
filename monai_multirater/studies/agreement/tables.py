# SPDX-License-Identifier: Apache-2.0
"""Tables of pairs and cases from the records of measured cases, many cases at a time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from monai_multirater.agreement.measures import GROUP_MEASURES, MEASURES, OVERLAP_MEASURES, SURFACE_MEASURES
from monai_multirater.agreement.overlap import PairOverlap, pair_indices
from monai_multirater.studies.agreement.request import AgreementRequest, Record
from monai_multirater.studies.agreement.unordered import REVERSE, has_unordered, unordered_values

__all__ = ["Masks", "case_means", "case_table", "mask_table", "pair_table"]

Floats = NDArray[np.float64]


def pair_table(records: Sequence[Record], raters: Sequence[str], request: AgreementRequest) -> pd.DataFrame:
    """One row per case and pair of raters, in the order of the records and of the raters.

    ``sensitivity_reverse`` and ``specificity_reverse`` are those of (``rater_b``, ``rater_a``).
    """
    parts = [_pairs_of(group, request) for group in _groups(records)]
    measures = request.chosen({**OVERLAP_MEASURES, **SURFACE_MEASURES})
    reversed_ = [f"{name}{REVERSE}" for name in measures if _has_reverse(name)]
    columns = ["position", "a", "b", *measures, *reversed_, "volume_a", "volume_b"]
    flat = {name: np.concatenate([part[name] for part in parts]) if parts else np.empty(0) for name in columns}
    order = np.lexsort((flat["b"], flat["a"], flat["position"]))
    values = {name: array[order] for name, array in flat.items()}
    names, cases = np.array(raters, object), np.array([record["case"] for record in records], object)
    table = {
        "case": cases[values.pop("position").astype(np.int64)],
        "rater_a": names[values.pop("a").astype(np.int64)],
        "rater_b": names[values.pop("b").astype(np.int64)],
    }
    return pd.DataFrame({**table, **values})


def _groups(records: Sequence[Record]) -> list[list[tuple[int, Record]]]:
    """Positions and records of cases with at least two raters, by number of raters and of voxels."""
    found: dict[tuple[int, int], list[tuple[int, Record]]] = {}
    for position, record in enumerate(records):
        if len(record["raters"]) > 1:
            found.setdefault((len(record["raters"]), record["voxels"]), []).append((position, record))
    return list(found.values())


def _pairs_of(group: Sequence[tuple[int, Record]], request: AgreementRequest) -> dict[str, NDArray[Any]]:
    records = [record for _, record in group]
    grams = torch.tensor([record["gram"] for record in records])
    overlap = PairOverlap(grams, records[0]["voxels"], torch.ones(grams.shape[:2], dtype=torch.bool))
    first, second = (index.numpy() for index in pair_indices(grams.shape[1]))
    raters = np.array([record["raters"] for record in records])
    volumes = _volumes(records)
    columns: dict[str, NDArray[Any]] = {
        "position": np.repeat([position for position, _ in group], len(first)),
        "a": raters[:, first].ravel(),
        "b": raters[:, second].ravel(),
        "volume_a": volumes[:, first].ravel(),
        "volume_b": volumes[:, second].ravel(),
    }
    for name in request.chosen(OVERLAP_MEASURES):
        values = getattr(overlap, name).numpy()
        columns[name] = values[:, first, second].ravel()
        if _has_reverse(name):
            columns[f"{name}{REVERSE}"] = values[:, second, first].ravel()
    for name in request.chosen(SURFACE_MEASURES):
        columns[name] = np.array([record["surfaces"][name] for record in records], np.float64).ravel()
    return columns


def _has_reverse(name: str) -> bool:
    """Whether the value of the exchanged raters has a column of its own; it does not follow from a change of sign."""
    return not MEASURES[name].symmetric and MEASURES[name].higher_is_better is not None


def _volumes(records: Sequence[Record]) -> Floats:
    """Volumes ``[B, R]`` in voxels or mm^d."""
    diagonals = np.array([np.diagonal(record["gram"]) for record in records])
    return np.asarray(diagonals * np.array([record["voxel_volume"] for record in records])[:, None])


def _mean_volume(record: Record) -> float:
    gram, raters = record["gram"], len(record["raters"])
    return float(sum(gram[r][r] for r in range(raters)) * record["voxel_volume"] / raters)


def case_table(pairs: pd.DataFrame, records: Sequence[Record], request: AgreementRequest) -> pd.DataFrame:
    """One row per case with at least two raters; ``volume_at_least_k`` with k above its number of raters is NaN."""
    several = [record for record in records if len(record["raters"]) > 1]
    table = case_means(pairs, request.chosen({**OVERLAP_MEASURES, **SURFACE_MEASURES}))
    table.insert(1, "raters", [len(record["raters"]) for record in several])
    for name in request.chosen(GROUP_MEASURES):
        table[name] = np.array([record["group"][name] for record in several], np.float64)
    for name, volumes in _volume_curve(several).items():
        table[name] = volumes
    table["size"] = [_mean_volume(record) for record in several]
    if request.surfaces:
        table["undefined_distances"] = [record["undefined"] for record in several]
    return table


def _volume_curve(records: Sequence[Record]) -> dict[str, Floats]:
    """What at least k raters mark, in voxels or mm^d, for k = 1, 2, ...; nothing without group measures."""
    most = max((len(record["at_least"]) for record in records), default=0)
    curve = np.full((most, len(records)), np.nan)
    for case, record in enumerate(records):
        volumes = record["at_least"]
        curve[: len(volumes), case] = np.array(volumes, np.float64) * record["voxel_volume"]
    return {f"volume_at_least_{k}": volumes for k, volumes in enumerate(curve, start=1)}


def case_means(pairs: pd.DataFrame, measures: Sequence[str]) -> pd.DataFrame:
    """Mean of each measure over the defined pairs of a case, and the least Dice; cases in the order of the pairs.

    Measures whose value depends on the order of the raters enter as in :mod:`unordered
    <monai_multirater.studies.agreement.unordered>`, or not at all.
    """
    cases, index = _in_order(pairs["case"])
    table: dict[str, Any] = {"case": cases}
    for name in (name for name in measures if has_unordered(pairs, name)):
        values = unordered_values(pairs, name).to_numpy(np.float64)
        defined = ~np.isnan(values)
        sums = np.bincount(index, weights=np.where(defined, values, 0.0), minlength=len(cases))
        with np.errstate(invalid="ignore"):
            table[f"mean_{name}"] = sums / np.bincount(index[defined], minlength=len(cases))
    if "dice" in measures:
        least = np.full(len(cases), np.inf)
        np.fmin.at(least, index, pairs["dice"].to_numpy(np.float64))
        table["min_dice"] = np.where(np.isinf(least), np.nan, least)
    return pd.DataFrame(table)


def _in_order(values: pd.Series[Any]) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """Distinct values in the order of their first occurrence, and which of them each entry is."""
    index, found = pd.factorize(values)
    return np.asarray(found, object), np.asarray(index, np.int64)


@dataclass(frozen=True, eq=False)
class Masks:
    """One entry per mask of a case with at least two raters, in the order of cases and raters.

    Attributes:
        case: position of the record; rater: index of the rater.
        voxels: int64, that the mask marks.
        cells: int64 ``[N, 4]``: TP, FP, FN, TN against the majority of the others.
        agreement: median Dice with each of the others.
        distances: to the majority of the others, by measure; bias: mean signed distance of the boundary.
    """

    case: NDArray[np.int64]
    rater: NDArray[np.int64]
    voxels: NDArray[np.int64]
    cells: NDArray[np.int64]
    agreement: Floats
    distances: Mapping[str, Floats]
    bias: Floats


def mask_table(records: Sequence[Record]) -> Masks:
    """Collect what is known of single masks."""
    several = [(position, record) for position, record in enumerate(records) if len(record["raters"]) > 1]
    columns: dict[str, list[Any]] = {name: [] for name in ("case", "rater", "voxels", "cells", "agreement", "bias")}
    names = list(dict.fromkeys(name for _, record in several for name in record["ceiling"]))
    distances: dict[str, list[float]] = {name: [] for name in names}
    for position, record in several:
        raters = record["raters"]
        columns["case"] += [position] * len(raters)
        columns["rater"] += raters
        columns["voxels"] += [row[i] for i, row in enumerate(record["gram"])]
        columns["cells"] += record["cells"]
        columns["bias"] += record["boundary"].get("bias", [None] * len(raters))
        for name in names:
            distances[name] += record["ceiling"].get(name, [None] * len(raters))
    agreement = np.empty(len(columns["case"]))
    place = np.cumsum([0, *(len(record["raters"]) for _, record in several)])
    by_count: dict[int, list[int]] = {}
    for k, (_, record) in enumerate(several):
        by_count.setdefault(len(record["raters"]), []).append(k)
    for count, members in by_count.items():
        target = place[members][:, None] + np.arange(count)
        agreement[target] = _median_dice(np.array([several[k][1]["gram"] for k in members]))
    return Masks(
        np.array(columns["case"], np.int64),
        np.array(columns["rater"], np.int64),
        np.array(columns["voxels"], np.int64),
        np.array(columns["cells"], np.int64).reshape(-1, 4),
        agreement,
        {name: np.array(values, np.float64) for name, values in distances.items()},
        np.array(columns["bias"], np.float64),
    )


def _median_dice(grams: NDArray[np.int64]) -> Floats:
    """Median Dice of each rater with the others, ``[B, R]``, as ``RaterPerformance.agreement``."""
    dice = PairOverlap(torch.from_numpy(grams), 0, torch.ones(grams.shape[:2], dtype=torch.bool)).dice.numpy()
    raters = dice.shape[1]
    others = dice[:, ~np.eye(raters, dtype=bool)].reshape(len(dice), raters, raters - 1)
    return np.asarray(np.median(others, axis=2))
