# SPDX-License-Identifier: Apache-2.0
"""Data sets: manifests, readers, splits, phantoms, reproducible loading."""

from monai_multirater.data.collate import multirater_collate
from monai_multirater.data.datalist import (
    CaseRecord,
    Manifest,
    ManifestError,
    Problem,
    datalist,
    read_manifest,
    write_manifest,
)
from monai_multirater.data.dataset import SeededDataset, SetEpochHandler
from monai_multirater.data.phantom_shapes import DEFAULT_RATERS, RaterStyle
from monai_multirater.data.phantoms import make_phantoms

__all__ = [
    "DEFAULT_RATERS",
    "CaseRecord",
    "Manifest",
    "ManifestError",
    "Problem",
    "RaterStyle",
    "SeededDataset",
    "SetEpochHandler",
    "datalist",
    "make_phantoms",
    "multirater_collate",
    "read_manifest",
    "write_manifest",
]
