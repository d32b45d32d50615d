# SPDX-License-Identifier: Apache-2.0
"""What a training learns: the votes, or a fusion of them, and whether its parts agree on that."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from monai.transforms.traits import LazyTrait, RandomizableTrait

from monai_multirater.transforms.fuse import FuseRaters

__all__ = ["check_target"]


def check_target(
    objective: str,
    target: str,
    *,
    raters: int,
    target_options: Mapping[str, Any] | None = None,
    random_rater: bool = False,
    augment: Sequence[Any] = (),
) -> None:
    """Refuse a target that the objective does not learn, that cannot be made, or that the transforms leave behind.

    Args:
        objective: ``"consensus"`` learns a fusion, every other objective the votes.
        target: ``"votes"``, or a method of ``FuseRaters``.
        raters: R of the data set.
        target_options: options of the fusion, tried on a small example.
        random_rater: whether one rater is drawn for each case, which leaves nothing to fuse.
        augment: transforms of the training cases; those that move the votes must move the consensus with them.

    Raises:
        ValueError: naming what does not fit. TypeError: an option of the wrong type.
    """
    options, fused = dict(target_options or {}), target != "votes"
    if fused != (objective == "consensus") or (fused and random_rater) or (options and not fused):
        raise ValueError(
            "check_target: objective 'consensus' learns a fusion of all raters as target; other objectives, "
            "random_rater and empty target_options go with the target 'votes'. "
            f"Got target {target!r} with {options} for objective {objective!r}, random_rater {random_rater}."
        )
    if not fused:
        return
    FuseRaters(target, options=options)(torch.arange(16 * raters).view(raters, 4, 4) // 3 % 2)
    moving = [t for t in augment if isinstance(t, LazyTrait | RandomizableTrait) and "votes" in getattr(t, "keys", ())]
    behind = [type(transform).__name__ for transform in moving if "consensus" not in transform.keys]
    if behind:
        raise ValueError(f"check_target: augment must move 'consensus' with 'votes'. Only votes: {', '.join(behind)}.")
