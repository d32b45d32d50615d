# SPDX-License-Identifier: Apache-2.0
"""Write maps that a model made, in the format and geometry of the image they belong to."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from monai.config import KeysCollection
from monai.data import ITKWriter, MetaTensor, NibabelWriter
from monai.transforms import MapTransform
from PIL import Image

__all__ = ["SaveMaps", "SaveMapsd"]

NIFTI = (".nii", ".nii.gz")
ITK = (".nrrd", ".nhdr", ".mha", ".mhd")
PICTURES = {".png": ".png", ".jpg": ".png", ".jpeg": ".png", ".bmp": ".png", ".tif": ".tif", ".tiff": ".tif"}


class SaveMaps:
    """Write one map ``[1, *spatial]`` beside others of its case; the extension follows the image's.

    | image | map written as |
    |---|---|
    | NIfTI, NRRD, MetaImage | the same format, float32 (integers as uint8), with the image's affine |
    | TIFF | TIFF, float32 (integers as uint8) |
    | PNG, JPEG, BMP | PNG: probabilities as 16-bit gray, ``value = gray / 65535``; integers as 8-bit gray |

    JPEG would change the values, so its maps are PNG. Files are written under a temporary name and renamed. Pictures
    are expected in the axis order (row, column), which ``PILReader(reverse_indexing=False)`` gives.

    Args:
        output_dir: where the files go; created when missing.
    """

    def __init__(self, output_dir: str | Path) -> None:
        self.output_dir = Path(output_dir)

    def __call__(self, values: Any, *, source: str | Path, name: str, reference: Any = None) -> Path:
        """Write ``output_dir/<stem of source>_<name><extension>`` and return its path.

        Args:
            values: ``[1, *spatial]``; floating-point maps must lie in [0, 1] to be written as PNG.
            source: path of the image.
            name: what the map is, for example ``probability``.
            reference: the image as ``MetaTensor``, whose affine volumes get.

        Raises:
            ValueError: for an image format without rule, or a picture map that is not in [0, 1] or not 2D.
        """
        stem, suffix = split_suffix(Path(source))
        array = np.asarray(values.detach().cpu() if isinstance(values, torch.Tensor) else values)
        extension = PICTURES.get(suffix, suffix)
        if suffix not in (*NIFTI, *ITK, *PICTURES):
            raise ValueError(f"SaveMaps: no rule for images of format {suffix!r} ({source}).")
        target = self.output_dir / f"{stem}_{name}{extension}"
        self.output_dir.mkdir(parents=True, exist_ok=True)
        temporary = target.with_name(f".{stem}_{name}.tmp{extension}")
        if suffix in PICTURES:
            _picture(array, extension, source).save(temporary)
        else:
            _write_volume(array, temporary, NibabelWriter if suffix in NIFTI else ITKWriter, reference)
        temporary.replace(target)
        return target


def split_suffix(path: Path) -> tuple[str, str]:
    """Return stem and lower-case extension, ``.nii.gz`` counting as one."""
    name = path.name
    suffix = ".nii.gz" if name.lower().endswith(".nii.gz") else path.suffix.lower()
    return name[: len(name) - len(suffix)], suffix


def _picture(array: npt.NDArray[Any], extension: str, source: str | Path) -> Image.Image:
    plane = array[0]
    if plane.ndim != 2:
        raise ValueError(f"SaveMaps: a map of {source} must be 2D. Got shape {array.shape} instead.")
    if not np.issubdtype(plane.dtype, np.floating):
        return Image.fromarray(plane.astype(np.uint8))
    if extension == ".tif":
        return Image.fromarray(plane.astype(np.float32))
    if not (plane.min() >= 0 and plane.max() <= 1):
        raise ValueError(
            f"SaveMaps: values for PNG must lie in [0, 1]. Got [{plane.min()}, {plane.max()}] for {source}."
        )
    return Image.fromarray(np.rint(plane * 65535).astype(np.uint16))


def _write_volume(array: npt.NDArray[Any], target: Path, writer_class: Any, reference: Any) -> None:
    dtype = np.float32 if np.issubdtype(array.dtype, np.floating) else np.uint8
    writer = writer_class(output_dtype=dtype)
    writer.set_data_array(array, channel_dim=0)
    meta = {"affine": reference.affine.cpu().numpy()} if isinstance(reference, MetaTensor) else None
    writer.set_metadata(meta, resample=False)
    writer.write(target)


class SaveMapsd(MapTransform):
    """Dictionary form of :class:`SaveMaps`: writes every key of a sample under its name.

    Args:
        keys: maps to write.
        output_dir: where the files go.
        names: what to call the maps, one per key; the keys themselves by default.
        source: key of the image, whose meta data holds the path (``filename_or_obj``) and the affine.
        allow_missing_keys: leave out maps that a sample does not have.
    """

    def __init__(
        self,
        keys: KeysCollection,
        output_dir: str | Path,
        *,
        names: KeysCollection | None = None,
        source: Hashable = "image",
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.names = [str(n) for n in ([names] if isinstance(names, str) else names or self.keys)]
        if len(self.names) != len(self.keys):
            raise ValueError(f"SaveMapsd: {len(self.keys)} keys need as many names. Got {self.names} instead.")
        self.source = source
        self.saver = SaveMaps(output_dir)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Write the maps; the sample is returned unchanged."""
        image = data[self.source]
        path = image.meta["filename_or_obj"]
        for key, name in self.key_iterator(dict(data), self.names):
            self.saver(data[key], source=str(path), name=name, reference=image)
        return dict(data)
