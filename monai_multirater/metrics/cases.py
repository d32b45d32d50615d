# SPDX-License-Identifier: Apache-2.0
"""From what engines hand to a metric to single cases."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from monai_multirater.calibration.inputs import VoteCase, as_case, count_ratings, rater_planes

__all__ = ["RatedCase", "split_cases"]

Values = torch.Tensor | np.ndarray


@dataclass(frozen=True, eq=False)
class RatedCase:
    """One case: checked votes and probability, and what else its label holds."""

    votes: VoteCase
    truth: Values | None = None
    planes: np.ndarray | None = None
    name: str | None = None


def split_cases(
    y_pred: Values | Sequence[Values],
    y: Any,
    *,
    n_raters: Any = None,
    default_raters: int | None = None,
    function: str,
) -> list[RatedCase]:
    """Split a prediction and its label into cases.

    Args:
        y_pred: foreground probability, batch `[B, 1, *spatial]` or sequence of `[1, *spatial]` of any sizes.
        y: votes in the same layout; or a mapping with batched `votes` and `n_raters` (or `ratings [B, R,
            *spatial]` and `rater_mask [B, R]`), optionally `truth`, `ratings`, `rater_mask` and `case`
            (names); or a sequence of such mappings without the batch axis, as left by MONAI's decollation.
        n_raters: raters present per case when `y` does not say, int or `[B]`.
        default_raters: used when nothing else says.
        function: name for error messages.
    """
    labels = _labels(y, len(y_pred), n_raters, function)
    return [
        _case(probability, label, default_raters, function) for probability, label in zip(y_pred, labels, strict=True)
    ]


def _labels(y: Any, cases: int, n_raters: Any, function: str) -> list[dict[str, Any]]:
    if isinstance(y, Mapping):
        keys = [key for key, value in y.items() if value is not None]
        sizes = {key: len(y[key]) for key in keys if np.ndim(y[key]) or isinstance(y[key], (list, tuple))}
        labels = [
            {key: y[key][index] if key in sizes else y[key] for key in keys}
            for index in range(max(sizes.values(), default=0))
        ]
        wrong = {key: size for key, size in sizes.items() if size != cases}
        if wrong:
            raise ValueError(f"{function}: 'y' must hold {cases} cases as 'y_pred' does, got sizes {wrong}.")
    elif y is None or len(y) != cases:
        size = "None" if y is None else f"{len(y)} cases"
        raise ValueError(f"{function}: 'y' must hold as many cases as 'y_pred' ({cases}), got {size}.")
    else:
        labels = [dict(item) if isinstance(item, Mapping) else {"votes": item} for item in y]
    if n_raters is not None:
        counts = [n_raters] * cases if np.ndim(n_raters) == 0 else list(n_raters)
        if len(counts) != cases:
            raise ValueError(f"{function}: 'n_raters' must hold {cases} numbers, got {len(counts)}.")
        labels = [{"n_raters": count, **label} for count, label in zip(counts, labels, strict=True)]
    return labels


def _case(probability: Values, label: Mapping[str, Any], default_raters: int | None, function: str) -> RatedCase:
    name = label.get("case")
    where = function if name is None else f"{function} (case {name})"
    if probability.ndim and probability.shape[0] != 1:
        raise ValueError(
            f"{where}: 'y_pred' must hold one channel, the foreground probability, "
            f"got shape {tuple(probability.shape)}; apply OrdinalToForegroundd to network outputs first."
        )
    planes = None
    if label.get("ratings") is not None:
        planes = rater_planes(label["ratings"], label.get("rater_mask"), function=where)
    if label.get("votes") is None:
        if planes is None:
            raise ValueError(f"{where}: 'y' must hold 'votes' or 'ratings', got keys {sorted(label)}.")
        votes, raters = count_ratings(planes, None, function=where)
        checked = as_case(probability, votes, raters, function=where)
    else:
        present = label.get("n_raters", default_raters if planes is None else len(planes))
        if present is None:
            raise ValueError(f"{where}: the number of raters is unknown; give 'n_raters' beside 'votes'.")
        checked = as_case(probability, label["votes"], int(present), function=where)
    return RatedCase(checked, label.get("truth"), planes, None if name is None else str(name))
