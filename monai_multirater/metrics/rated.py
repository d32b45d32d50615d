# SPDX-License-Identifier: Apache-2.0
"""From what engines hand to a metric to the ratings of single cases."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

__all__ = ["Ratings", "split_ratings"]


@dataclass(frozen=True, eq=False)
class Ratings:
    """One case: masks ``[R, *spatial]`` uint8, who is present (bool ``[R]`` or None for all), its name or ``""``."""

    ratings: Tensor
    rater_mask: Tensor | None
    name: str

    @property
    def present(self) -> Tensor:
        """Bool ``[R]``."""
        here = torch.ones(len(self.ratings), dtype=torch.bool)
        return here if self.rater_mask is None else here & self.rater_mask.cpu()


def split_ratings(y_pred: Any, y: Any = None, *, cases: Sequence[str] | None = None, function: str) -> list[Ratings]:
    """Split ratings and rater masks, or labels that hold both, into cases.

    Args:
        y_pred: ratings ``[B, R, *spatial]`` or a list of ``[R, *spatial]``; not looked at where the labels hold them.
        y: rater masks ``[B, R]`` or a list of ``[R]`` or None; or a mapping with batched ``ratings``, ``rater_mask``
            and ``case``; or a list of such mappings without the batch axis.
        cases: names of the cases.
        function: name for error messages.

    Raises:
        ValueError: numbers of cases that differ, ratings other than 0 and 1.
    """
    if isinstance(y, Mapping) and "ratings" in y:
        ratings, masks, names = y["ratings"], y.get("rater_mask"), y.get("case")
    elif isinstance(y, (list, tuple)) and y and all(isinstance(label, Mapping) for label in y):
        missing = [number for number, label in enumerate(y) if label.get("ratings") is None]
        if missing:
            raise ValueError(f"{function}: every label must hold 'ratings'. Got labels {missing} without.")
        ratings, masks, names = [label["ratings"] for label in y], [label.get("rater_mask") for label in y], None
        if any(label.get("case") is not None for label in y):
            names = [label.get("case", "") for label in y]
    elif isinstance(y, Mapping):
        raise ValueError(f"{function}: the label must hold 'ratings'. Got keys {sorted(map(str, y))}.")
    else:
        ratings, masks, names = y_pred, y, None
    names = names if cases is None else cases
    names = [names] if isinstance(names, str) else names
    masks = [None] * len(ratings) if masks is None else list(masks)
    names = [""] * len(ratings) if names is None else list(names)
    if not len(ratings) == len(masks) == len(names):
        raise ValueError(
            f"{function}: ratings, rater masks and names must hold as many cases. "
            f"Got {len(ratings)}, {len(masks)} and {len(names)}."
        )
    return [_case(case, mask, str(name), function) for case, mask, name in zip(ratings, masks, names, strict=True)]


def _case(ratings: Any, rater_mask: Any, name: str, function: str) -> Ratings:
    where = f"{function} (case {name})" if name else function
    plain = torch.as_tensor(ratings).as_subclass(Tensor)
    if plain.ndim < 2:
        raise ValueError(f"{where}: ratings must be [R, *spatial]. Got shape {tuple(plain.shape)}.")
    mask = None if rater_mask is None else torch.as_tensor(rater_mask).as_subclass(Tensor).bool()
    if mask is not None and tuple(mask.shape) != (len(plain),):
        raise ValueError(f"{where}: rater_mask must be [{len(plain)}]. Got shape {tuple(mask.shape)}.")
    if mask is not None and not bool(mask.any()):
        raise ValueError(f"{where}: at least one rater must be present. Got none.")
    if plain.dtype != torch.bool:
        here = plain if mask is None else plain[mask.to(plain.device)]
        if not bool(((here == 0) | (here == 1)).all()):
            raise ValueError(
                f"{where}: ratings must be 0 or 1. Got {here.min().item():g} to {here.max().item():g} of dtype "
                f"{plain.dtype}; spatial transforms need mode='nearest' for ratings."
            )
    return Ratings(plain.to(torch.uint8), mask, name)
