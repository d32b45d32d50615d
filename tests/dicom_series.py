# SPDX-License-Identifier: Apache-2.0
"""A small made CT series, slice by slice, and its geometry as SimpleITK reads it."""

from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk

LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
CT = "1.2.840.10008.5.1.4.1.1.2"
SPACING = (0.7, 0.8, 2.5)
ORIGIN = (-12.5, 30.0, 7.0)


def make_series(folder: Path, *, shape: tuple[int, int, int] = (7, 6, 5), angle: float = 0.3, seed: int = 0) -> Path:
    """Write a CT of (columns, rows, slices), turned about z by an angle, its files named in another order."""
    from pydicom.uid import generate_uid

    folder.mkdir(parents=True)
    c, s = np.cos(angle), np.sin(angle)
    row, column = np.array([c, s, 0.0]), np.array([-s, c, 0.0])
    study, series, frame = generate_uid(), generate_uid(), generate_uid()
    names = np.random.default_rng(seed).permutation(shape[2])
    for k in range(shape[2]):
        image = _slice(shape, k, np.array(ORIGIN) + k * SPACING[2] * np.cross(row, column))
        image.StudyInstanceUID, image.SeriesInstanceUID, image.FrameOfReferenceUID = study, series, frame
        image.ImageOrientationPatient = [float(v) for v in (*row, *column)]
        image.save_as(folder / f"{names[k]:03d}.dcm", enforce_file_format=True)
    return folder


def _slice(shape: tuple[int, int, int], k: int, position: np.ndarray) -> Any:
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian, generate_uid

    image = Dataset()
    image.file_meta = FileMetaDataset()
    image.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    image.SOPClassUID = image.file_meta.MediaStorageSOPClassUID = CT
    image.SOPInstanceUID = image.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    image.PatientName, image.PatientID, image.PatientBirthDate, image.PatientSex = "Phantom", "P1", "", ""
    image.StudyDate, image.StudyTime, image.StudyID, image.AccessionNumber = "20200101", "000000", "1", ""
    image.ReferringPhysicianName, image.Modality, image.SeriesNumber, image.InstanceNumber = "", "CT", 3, k + 1
    image.Columns, image.Rows = shape[:2]
    image.PixelSpacing, image.SliceThickness = [SPACING[1], SPACING[0]], SPACING[2]
    image.ImagePositionPatient = [float(v) for v in position]
    image.SamplesPerPixel, image.PhotometricInterpretation = 1, "MONOCHROME2"
    image.BitsAllocated, image.BitsStored, image.HighBit, image.PixelRepresentation = 16, 16, 15, 1
    image.RescaleIntercept, image.RescaleSlope = -1024, 1
    image.PixelData = np.full((shape[1], shape[0]), k, np.int16).tobytes()
    return image


def read_with_itk(folder: Path) -> sitk.Image:
    """Read the series as ITK sorts it."""
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(folder)))
    return reader.Execute()


def itk_affine(image: sitk.Image) -> np.ndarray:
    """Index to RAS millimeters of an ITK image."""
    lps = np.eye(4)
    lps[:3, :3] = np.array(image.GetDirection()).reshape(3, 3) * image.GetSpacing()
    lps[:3, 3] = image.GetOrigin()
    return LPS @ lps
