# SPDX-License-Identifier: Apache-2.0
"""Networks by name, so that a configuration and the file beside a model can say which one it is."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pydoc import ErrorDuringImport, locate
from typing import Any

from torch import nn

from monai_multirater.networks.fpn import OrdinalFPN
from monai_multirater.networks.unet import OrdinalUNet

__all__ = ["NETWORKS", "make_network"]

NETWORKS: dict[str, Callable[..., nn.Module]] = {"OrdinalFPN": OrdinalFPN, "OrdinalUNet": OrdinalUNet}


def make_network(
    name: str,
    *,
    spatial_dims: int,
    in_channels: int,
    raters: int,
    family: str,
    options: Mapping[str, Any] | None = None,
) -> nn.Module:
    """Network of a name.

    Args:
        name: key of ``NETWORKS``, or the dotted path of a class or function that takes ``spatial_dims``,
            ``in_channels``, ``raters`` and ``family``, for example ``my_package.MyNetwork``.
        spatial_dims: 2 or 3.
        in_channels: number of image channels.
        raters: largest number of raters R.
        family: key of :data:`monai_multirater.ordinal.FAMILIES`.
        options: further arguments of the network, for example ``{"backbone": "resnet34"}``.

    Raises:
        ValueError: there is no network of that name, or its module fails to import.
        TypeError: an option that the network does not have, or a result that is no network.
    """
    try:
        network = NETWORKS.get(name) or (locate(name) if "." in name else None)
    except ErrorDuringImport as error:
        raise ValueError(f"make_network: 'name' {name!r} cannot be imported: {error}") from error
    if not callable(network):
        raise ValueError(
            f"make_network: 'name' must be one of {sorted(NETWORKS)} or the dotted path of a network. Got {name!r}."
        )
    made = network(spatial_dims=spatial_dims, in_channels=in_channels, raters=raters, family=family, **(options or {}))
    if not isinstance(made, nn.Module):
        raise TypeError(f"make_network: {name!r} made a {type(made).__name__}, which is no torch.nn.Module.")
    return made
