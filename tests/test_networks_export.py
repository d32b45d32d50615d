# SPDX-License-Identifier: Apache-2.0
"""Networks as TorchScript and torch.export programs give what the modules give, also saved and loaded."""

import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from test_networks_architectures import NETWORKS, images

FAMILIES = ("softmax", "coral", "cumulative_logit", "beta_binomial")


@pytest.fixture(autouse=True)
def quiet_torch() -> Iterator[None]:
    """Tracing and scripting announce their own deprecation."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("name", NETWORKS)
def test_scripted_network(name: str, family: str, tmp_path: Path) -> None:
    net = NETWORKS[name](2, 3, family).eval()
    torch.jit.script(net).save(tmp_path / "net.ts")
    loaded = torch.jit.load(tmp_path / "net.ts")
    for size in ((32, 32), (33, 21)):
        torch.testing.assert_close(loaded(images(2, size)), net(images(2, size)), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("dims", [2, 3], ids=["2d", "3d"])
@pytest.mark.parametrize("name", NETWORKS)
def test_traced_network(name: str, dims: int, tmp_path: Path) -> None:
    net = NETWORKS[name](dims).eval()
    x = images(dims, (33, 21, 17))
    torch.jit.trace(net, x).save(tmp_path / "net.ts")
    loaded = torch.jit.load(tmp_path / "net.ts")
    torch.testing.assert_close(loaded(x), net(x), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("dims", [2, 3], ids=["2d", "3d"])
@pytest.mark.parametrize("name", NETWORKS)
def test_exported_network_takes_any_batch_size(name: str, dims: int, tmp_path: Path) -> None:
    net = NETWORKS[name](dims).eval()
    batch = torch.export.Dim("batch", min=1, max=16)
    program = torch.export.export(net, (images(dims, (33, 21, 17)),), dynamic_shapes=({0: batch},))
    torch.export.save(program, tmp_path / "net.pt2")
    loaded = torch.export.load(tmp_path / "net.pt2").module()
    for size in (1, 3):
        x = images(dims, (33, 21, 17), batch=size)
        torch.testing.assert_close(loaded(x), net(x), rtol=1e-4, atol=1e-5)
