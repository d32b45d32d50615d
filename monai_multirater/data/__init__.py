# SPDX-License-Identifier: Apache-2.0
"""Data sets: manifests, readers, splits, phantoms, reproducible loading."""

from monai_multirater.data.build import build_manifest
from monai_multirater.data.check import check_manifest
from monai_multirater.data.collate import multirater_collate
from monai_multirater.data.datalist import CaseRecord, Manifest, datalist, read_manifest, write_manifest
from monai_multirater.data.dataset import SeededDataset
from monai_multirater.data.dicom import DicomSeries, Segment, read_series, write_dicom_segmentation
from monai_multirater.data.opening import check_fit, image_channels, level_frequencies, list_images, open_manifest
from monai_multirater.data.phantom_shapes import DEFAULT_RATERS, RaterStyle
from monai_multirater.data.phantoms import make_phantoms
from monai_multirater.data.problems import ManifestError, Problem
from monai_multirater.data.readers import (
    ImageData,
    ImageHeader,
    ReadError,
    read_header,
    read_image,
    read_mask,
)
from monai_multirater.data.splits import split_cases
from monai_multirater.data.writers import write_map, write_nrrd, write_slicer_segmentation

__all__ = [
    "DEFAULT_RATERS",
    "CaseRecord",
    "DicomSeries",
    "ImageData",
    "ImageHeader",
    "Manifest",
    "ManifestError",
    "Problem",
    "RaterStyle",
    "ReadError",
    "SeededDataset",
    "Segment",
    "build_manifest",
    "check_fit",
    "check_manifest",
    "datalist",
    "image_channels",
    "level_frequencies",
    "list_images",
    "make_phantoms",
    "multirater_collate",
    "open_manifest",
    "read_header",
    "read_image",
    "read_manifest",
    "read_mask",
    "read_series",
    "split_cases",
    "write_dicom_segmentation",
    "write_manifest",
    "write_map",
    "write_nrrd",
    "write_slicer_segmentation",
]
