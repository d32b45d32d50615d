# SPDX-License-Identifier: Apache-2.0
"""What each measure of agreement is, and what it gives for empty masks: the one table that everything follows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

__all__ = ["GROUP_MEASURES", "MEASURES", "OVERLAP_MEASURES", "SURFACE_MEASURES", "Measure"]


@dataclass(frozen=True)
class Measure:
    """Definition of one measure.

    Attributes:
        name: column of the tables.
        title: in words.
        definition: formula, in words and plain characters.
        best: value of perfect agreement.
        higher_is_better: True, False, or None for a measure with a sign.
        both_empty: value where both masks are empty; for group measures, where all are.
        one_empty: value where one of the masks is empty; None where that is as the definition says.
        unit: ``""`` without a unit, or ``"length"``: voxels, or mm where the spacing is known.
        source: where it comes from.
        symmetric: whether the order of the two raters does not matter. Where it does, means over unordered pairs are
            of the absolute value (a measure with a sign) or of the mean of both orders (any other).
    """

    name: str
    title: str
    definition: str
    best: float
    higher_is_better: bool | None
    both_empty: float
    one_empty: float | None
    unit: str = ""
    source: str = ""
    symmetric: bool = True


_NAN = float("nan")


def _table(*measures: Measure) -> Mapping[str, Measure]:
    return MappingProxyType({measure.name: measure for measure in measures})


OVERLAP_MEASURES = _table(
    Measure(
        "dice", "Dice coefficient", "2 |A and B| / (|A| + |B|)", 1, True, 1, 0, source="Dice 1945, doi:10.2307/1932409"
    ),
    Measure("iou", "Intersection over union (Jaccard)", "|A and B| / |A or B|", 1, True, 1, 0),
    Measure(
        "kappa",
        "Cohen's kappa",
        "(p_o - p_e) / (1 - p_e) over the voxels of the image, p_o their share on which both agree, p_e the share "
        "expected from the sizes of the masks",
        1,
        True,
        _NAN,
        0,
        source="Cohen 1960, doi:10.1177/001316446002000104",
    ),
    Measure(
        "sensitivity",
        "Sensitivity of rater a with rater b as reference",
        "|A and B| / |B|; NaN if B is empty, 0 if only A is",
        1,
        True,
        _NAN,
        None,
        symmetric=False,
    ),
    Measure(
        "specificity",
        "Specificity of rater a with rater b as reference",
        "|not A and not B| / |not B|; NaN if B fills the image",
        1,
        True,
        1,
        None,
        symmetric=False,
    ),
    Measure(
        "volume_difference",
        "Relative volume difference",
        "(|A| - |B|) / ((|A| + |B|) / 2), positive where rater a marks more; 2 or -2 if one mask is empty",
        0,
        None,
        0,
        None,
        symmetric=False,
    ),
)
SURFACE_MEASURES = _table(
    Measure(
        "hausdorff",
        "Hausdorff distance",
        "largest distance from a boundary voxel of one mask to the nearest of the other, either way",
        0,
        False,
        0,
        _NAN,
        "length",
    ),
    Measure(
        "hausdorff95",
        "95th percentile Hausdorff distance",
        "95th percentile of the distances from the boundary voxels of one mask to the other mask's boundary, the "
        "larger of both ways (MONAI); 'pooled': of both ways together (medpy); 'area': weighted by surface area "
        "(surface-distance)",
        0,
        False,
        0,
        _NAN,
        "length",
    ),
    Measure(
        "assd",
        "Average symmetric surface distance",
        "mean of the distances from all boundary voxels of both masks to the boundary of the other",
        0,
        False,
        0,
        _NAN,
        "length",
    ),
    Measure(
        "surface_dice",
        "Surface Dice",
        "share of the boundary voxels of both masks within a tolerance of the other's boundary",
        1,
        True,
        1,
        0,
        source="Nikolov 2021, doi:10.2196/26151",
    ),
)
GROUP_MEASURES = _table(
    Measure(
        "fleiss_kappa",
        "Fleiss' kappa",
        "(P - P_e) / (1 - P_e), P the mean share of agreeing rater pairs per voxel, P_e that expected from the total "
        "share of foreground votes",
        1,
        True,
        _NAN,
        None,
        source="Fleiss 1971, doi:10.1037/h0031619",
    ),
    Measure(
        "krippendorff_alpha",
        "Krippendorff's alpha (nominal)",
        "1 - D_o / D_e, observed and expected disagreement of all pairs of votes; raters may be missing",
        1,
        True,
        _NAN,
        None,
        source="Krippendorff 2011, https://repository.upenn.edu/asc_papers/43",
    ),
    Measure(
        "conformity",
        "Generalized conformity index",
        "sum over rater pairs of |A and B| / sum over pairs of |A or B|",
        1,
        True,
        1,
        None,
        source="Kouwenhoven 2009, doi:10.1088/0031-9155/54/9/N06",
    ),
    Measure(
        "entropy",
        "Vote entropy (bits)",
        "mean over the voxels that any rater marks of -p log2 p - (1 - p) log2 (1 - p), p the share of raters who "
        "mark it",
        0,
        False,
        0,
        None,
    ),
)
MEASURES = MappingProxyType({**OVERLAP_MEASURES, **SURFACE_MEASURES, **GROUP_MEASURES})
