# SPDX-License-Identifier: Apache-2.0
"""Per-case evidence of one model, and what follows from it without the images: summary, comparison."""

from __future__ import annotations

import math
import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from monai_multirater.calibration.histogram import HISTOGRAM_BINS
from monai_multirater.calibration.reliability import ReliabilityTable
from monai_multirater.calibration.stack import HistogramStack
from monai_multirater.metrics.rows import MEANS, SCORES, RowLayout
from monai_multirater.resampling import (
    BootstrapResult,
    PairedResult,
    Seed,
    bootstrap_auc,
    bootstrap_cases,
    case_weights,
    paired_difference,
)

__all__ = ["CaseStatistics", "compare_models"]

Array = npt.NDArray[np.float64]
SUMMARY = ("mr_ece", "auc", "brier", "nll", "truth_mae", "truth_brier", "truth_calibration", *MEANS)


@dataclass(frozen=True, eq=False)
class CaseStatistics:
    """Sums of every case of an evaluation, sufficient for all scores and their resampling.

    Attributes:
        names: name of each case; a running number where the labels held none.
        rows: float64 `[cases, width]`, see `monai_multirater.metrics.rows`.
        histograms: fine histograms of the same cases, for the AUC over all cases; None where not collected.
        bins: number of bins of the calibration errors.
    """

    names: tuple[str, ...]
    rows: Array
    histograms: HistogramStack | None
    bins: int

    def __len__(self) -> int:
        return len(self.names)

    def case_table(self) -> dict[str, npt.NDArray[np.generic]]:
        """Return one column per quantity and one entry per case, ready for a CSV file.

        Columns: `case`, `voxels`, `raters`, `vote_fraction` (share of the pairs that say foreground),
            `mr_ece`, `auc`,
        `brier`, `nll`, `per_rater_ece`, `dice_majority`, `dice_raters` (mean over the raters present),
        `truth_mae`, `truth_brier`, `truth_calibration`. NaN where undefined or not known.
        """
        layout, rows = RowLayout(self.bins), self.rows
        plus, minus = rows[:, layout["positives"]], rows[:, layout["negatives"]]
        total = plus * minus
        scores = {name: score(rows, layout) for name, score in SCORES.items()}
        table: dict[str, npt.NDArray[np.generic]] = {
            "case": np.array(self.names, dtype=str),
            "voxels": rows[:, layout["voxels"]].astype(np.int64),
            "raters": rows[:, layout["raters"]].astype(np.int64),
            "vote_fraction": _quotient(plus, plus + minus),
            "mr_ece": scores["mr_ece"],
            "auc": _quotient(rows[:, layout["concordant"]], total),
            "brier": scores["brier"],
            "nll": scores["nll"],
        }
        table |= {name: rows[:, layout[name]] for name in MEANS if name != "mr_ece_imagewise"}
        return table | {name: scores[name] for name in SCORES if name.startswith("truth")}

    def totals(self) -> Array:
        """Sums over cases `[width]`, correctly rounded, so independent of their order; NaN counts as 0."""
        return np.array([math.fsum(column) for column in np.nan_to_num(self.rows).T])

    def score(self, name: str) -> float:
        """Value of one of the scores in `compute_summary` over all cases together."""
        layout = RowLayout(self.bins)
        if name == "auc":
            exact = self.rows[:, layout["concordant"]]
            return float("nan") if self.histograms is None else self.histograms.auc(exact)
        if name in MEANS:
            column = self.rows[:, layout[name]]
            defined = column[~np.isnan(column)]
            return math.fsum(defined) / len(defined) if len(defined) else float("nan")
        if name not in SCORES:
            raise ValueError(f"CaseStatistics.score: 'name' must be one of {', '.join(SUMMARY)}, got {name!r}.")
        if name == "nll" and np.isnan(self.rows[:, layout["log_loss"]]).any():
            return float("nan")
        return float(SCORES[name](self.totals()[None], layout)[0])

    def compute_summary(
        self,
        *,
        resamples: int = 1000,
        fraction: float = 0.6,
        seed: Seed = 0,
        confidence: float = 0.95,
        weights: Array | None = None,
    ) -> dict[str, BootstrapResult]:
        """Scores over all cases with percentile intervals from resampled cases.

        Keys: `mr_ece`, `auc`, `brier`, `nll` over all (voxel, rater) pairs together; `truth_mae`,
            `truth_brier`,
        `truth_calibration` over all voxels with a known truth; means over cases of `mr_ece_imagewise`,
        `per_rater_ece`, `dice_majority` and `dice_raters`. What no case defines is left out. All scores share
        the resamples; see `monai_multirater.resampling.case_weights` for the parameters, which do not matter where
        `weights [resamples, cases]` are given.
        """
        if weights is None:
            weights = case_weights(len(self), resamples=resamples, fraction=fraction, seed=seed)
        return _summary(self, weights, confidence)

    def reliability_table(self) -> ReliabilityTable:
        """Reliability table of all cases together, for the diagram."""
        layout, sums = RowLayout(self.bins), self.totals()
        return ReliabilityTable(
            sums[layout["pairs"]].astype(np.int64),
            sums[layout["confidence"]],
            sums[layout["votes"]].astype(np.int64),
            float(sums[layout["squared_error"]]),
            float("nan") if np.isnan(self.rows[:, layout["log_loss"]]).any() else float(sums[layout["log_loss"]]),
            len(self),
        )

    def select(self, indices: Sequence[int] | npt.NDArray[np.integer]) -> CaseStatistics:
        """Return the chosen cases, in the order given."""
        index = np.asarray(indices, np.int64)
        stack = None if self.histograms is None else self.histograms.select(index)
        return CaseStatistics(tuple(self.names[i] for i in index), self.rows[index], stack, self.bins)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write a compressed `.npz`; it appears under its name only when complete."""
        target = Path(path)
        arrays = {"names": np.array(self.names, dtype=str), "rows": self.rows, "bins": np.array(self.bins)}
        if self.histograms is not None:
            arrays |= {"entries": self.histograms.entries, "counts": self.histograms.counts}
            arrays["histogram_bins"] = np.array(HISTOGRAM_BINS)
        with tempfile.NamedTemporaryFile(dir=target.parent, prefix=f".{target.name}.", delete=False) as file:
            temporary = Path(file.name)
            try:
                np.savez_compressed(file, allow_pickle=False, **arrays)
            except BaseException:
                temporary.unlink()
                raise
        temporary.replace(target)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> CaseStatistics:
        """Read what `save` wrote.

        Raises:
            ValueError: the file was written with other fine bins, by another version.
        """
        with np.load(path, allow_pickle=False) as file:
            found = int(file["histogram_bins"]) if "histogram_bins" in file else None
            if "entries" in file and found != HISTOGRAM_BINS:
                raise ValueError(
                    f"CaseStatistics.load: {path} was written by another version: its histograms have "
                    f"{found or 'an unknown number of'} bins, this version has {HISTOGRAM_BINS}. Evaluate again."
                )
            names = tuple(str(name) for name in file["names"])
            stack = HistogramStack(file["entries"], file["counts"]) if "entries" in file else None
            return cls(names, file["rows"], stack, int(file["bins"]))


def compare_models(
    first: CaseStatistics,
    second: CaseStatistics,
    *,
    resamples: int = 1000,
    fraction: float = 0.6,
    seed: Seed = 0,
    confidence: float = 0.95,
) -> dict[str, PairedResult]:
    """Paired comparison of two models on the same cases: every score of both and of the difference first -
    second.

    Both are resampled with the same cases, so that differences between cases cancel.

    Raises:
        ValueError: when the two hold different cases, or the same names with different votes.
    """
    if sorted(first.names) != sorted(second.names):
        different = sorted(set(first.names) ^ set(second.names))
        raise ValueError(
            "compare_models: 'first' and 'second' must hold the same cases, "
            f"got {len(first)} and {len(second)}; not in both: {different[:5]}."
        )
    a, b = (table.select(np.argsort(table.names, kind="stable")) for table in (first, second))
    layout = RowLayout(a.bins)
    for column in ("positives", "negatives"):
        unequal = np.flatnonzero(a.rows[:, layout[column]] != b.rows[:, RowLayout(b.bins)[column]])
        if unequal.size:
            raise ValueError(f"compare_models: case {a.names[unequal[0]]} has other votes in 'first' than in 'second'.")
    weights = case_weights(len(a), resamples=resamples, fraction=fraction, seed=seed)
    summaries = [_summary(table, weights, confidence) for table in (a, b)]
    return {
        name: paired_difference(summaries[0][name], summaries[1][name]) for name in summaries[0] if name in summaries[1]
    }


def _summary(table: CaseStatistics, weights: Array, confidence: float) -> dict[str, BootstrapResult]:
    layout, rows = RowLayout(table.bins), np.nan_to_num(table.rows)
    sums = weights @ rows
    results = {}
    for name in SUMMARY:
        estimate = table.score(name)
        if math.isnan(estimate):
            continue
        if name == "auc":
            assert table.histograms is not None
            plus, minus = table.histograms.totals()
            matrix = table.histograms.concordance()
            np.fill_diagonal(matrix, table.rows[:, layout["concordant"]])  # exact within a case
            resampled = bootstrap_auc(matrix, plus, minus, weights=weights, confidence=confidence)
            results[name] = replace(resampled, estimate=estimate)  # from finer bins than the resamples
        elif name in MEANS:
            column = table.rows[:, layout[name]]
            pair = np.stack([np.nan_to_num(column), ~np.isnan(column)], axis=1)
            results[name] = bootstrap_cases(
                pair, lambda s: _quotient(s[:, 0], s[:, 1]), weights=weights, confidence=confidence
            )
        else:
            distribution = SCORES[name](sums, layout)
            results[name] = BootstrapResult.from_distribution(estimate, distribution, confidence=confidence)
    return results


def _quotient(numerator: Array, denominator: Array) -> Array:
    return np.divide(numerator, denominator, out=np.full(len(denominator), np.nan), where=denominator > 0)
