# SPDX-License-Identifier: Apache-2.0
"""OrdinalUNet and OrdinalFPN: sizes, gradients, independence of the batch, references for the encoders."""

import urllib.request
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from monai_multirater.networks import OrdinalFPN, OrdinalUNet
from monai_multirater.networks.layers import crop_to, group_norm, pad_to_multiple, replace_batch_norm
from monai_multirater.ordinal import FAMILIES, level_probabilities

SIZES = {"even": (32, 48, 32), "odd": (33, 21, 17), "tiny": (5, 3, 2), "one-voxel": (1, 1, 1)}


def small_unet(dims: int, raters: int = 3, family: str = "softmax", **options: Any) -> OrdinalUNet:
    return OrdinalUNet(dims, 2, raters, family, channels=(4, 8, 12), **options)


def small_fpn(dims: int, raters: int = 3, family: str = "softmax", **options: Any) -> OrdinalFPN:
    options = {"backbone": "resnet10", "dropout": 0.0, **options}
    return OrdinalFPN(dims, 2, raters, family, pyramid_channels=16, segmentation_channels=8, **options)


NETWORKS: dict[str, Callable[..., nn.Module]] = {"unet": small_unet, "fpn": small_fpn}


def images(dims: int, size: tuple[int, ...], batch: int = 2, channels: int = 2) -> torch.Tensor:
    return torch.randn(batch, channels, *size[:dims], generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("size", SIZES.values(), ids=SIZES)
@pytest.mark.parametrize("dims", [2, 3], ids=["2d", "3d"])
@pytest.mark.parametrize("name", NETWORKS)
def test_any_size_goes_in_and_comes_out(name: str, dims: int, size: tuple[int, ...]) -> None:
    x = images(dims, size)
    outputs = NETWORKS[name](dims)(x)
    assert isinstance(outputs, torch.Tensor)
    assert outputs.shape == (2, 4, *x.shape[2:])
    assert torch.isfinite(outputs).all()


@pytest.mark.parametrize("family", sorted(FAMILIES))
@pytest.mark.parametrize("name", NETWORKS)
def test_every_family_trains_every_parameter(name: str, family: str) -> None:
    net = NETWORKS[name](2, 3, family)
    levels = level_probabilities(net(images(2, (32, 40))), family=family, raters=3)
    (levels * torch.linspace(0, 1, 4).reshape(1, -1, 1, 1)).square().sum().backward()
    without = [n for n, p in net.named_parameters() if p.grad is None or not torch.isfinite(p.grad).all()]
    assert not without
    touched = sum(bool(p.grad.abs().sum() > 0) for p in net.parameters() if p.grad is not None)
    assert touched > 0.9 * len(list(net.parameters()))


@pytest.mark.parametrize("dims", [2, 3], ids=["2d", "3d"])
@pytest.mark.parametrize("name", NETWORKS)
def test_prior_is_the_first_prediction(name: str, dims: int) -> None:
    net = NETWORKS[name](dims, 3, "cumulative_logit")
    net.set_prior([0.7, 0.15, 0.05, 0.1], weight_scale=0.0)
    levels = level_probabilities(net(images(dims, (20, 18, 16))), family="cumulative_logit", raters=3)
    expected = torch.tensor([0.7, 0.15, 0.05, 0.1]).reshape([1, -1] + [1] * dims)
    torch.testing.assert_close(levels, expected.expand_as(levels))


@pytest.mark.parametrize("name", NETWORKS)
def test_training_outputs_do_not_depend_on_the_batch(name: str) -> None:
    net = NETWORKS[name](2).train().double()
    x = images(2, (32, 32), batch=3).double()
    together = net(x)
    apart = torch.cat([net(x[i : i + 1]) for i in range(3)])
    torch.testing.assert_close(together, apart, rtol=1e-9, atol=1e-9)
    assert not any(isinstance(m, nn.modules.batchnorm._BatchNorm) for m in net.modules())


def test_same_seed_gives_the_same_network() -> None:
    torch.manual_seed(3)
    first = small_unet(2).state_dict()
    torch.manual_seed(3)
    second = small_unet(2).state_dict()
    assert all(torch.equal(first[key], second[key]) for key in first)


def test_default_unet_size() -> None:
    """Reference: the parameters of MONAI's UNet with the same channels, plus those of the head."""
    from monai.networks.nets import UNet

    norm = ("instance", {"affine": True})
    body = UNet(2, 3, 16, (16, 32, 64, 128, 256), (2, 2, 2, 2), num_res_units=1, act="LEAKYRELU", norm=norm)
    count = sum(p.numel() for p in OrdinalUNet(2, 3, 5).parameters())
    assert count == sum(p.numel() for p in body.parameters()) + (16 + 1) * 6


def test_unet_needs_two_levels() -> None:
    with pytest.raises(ValueError, match="at least two levels"):
        OrdinalUNet(2, 1, 3, channels=(8,))


def test_padding_repeats_the_border_and_crops_back() -> None:
    x = images(2, (5, 7))
    padded = pad_to_multiple(x, 4)
    assert padded.shape[2:] == (8, 8)
    assert torch.equal(padded[..., 5:, :7], x[..., -1:, :].expand(-1, -1, 3, -1))
    assert torch.equal(crop_to(padded, x), x)
    assert pad_to_multiple(padded, 4) is padded
    assert pad_to_multiple(x[..., :4, :4], 4).shape[2:] == (8, 4)


@pytest.mark.parametrize(("channels", "groups"), [(64, 32), (48, 16), (8, 4), (2, 1), (3, 1), (1, 1)])
def test_groups_hold_at_least_two_channels_where_possible(channels: int, groups: int) -> None:
    assert group_norm(channels).num_groups == groups


def test_unknown_replacement_norm_is_refused() -> None:
    with pytest.raises(ValueError, match="'group' or 'instance'"):
        replace_batch_norm(nn.Sequential(nn.BatchNorm2d(4)), "layer", 2)


@pytest.mark.parametrize("norm", ["group", "instance", "batch"])
def test_encoder_norm_is_a_choice(norm: str) -> None:
    kinds = {"group": nn.GroupNorm, "instance": nn.InstanceNorm2d, "batch": nn.BatchNorm2d}
    net = small_fpn(2, norm=norm)
    assert isinstance(net.encoder.bn1, kinds[norm])
    net(images(2, (64, 64)))


@pytest.mark.parametrize("backbone", ["resnet18", "resnet34", "resnet50"])
def test_encoder_is_the_one_of_torchvision(backbone: str) -> None:
    """Reference: torchvision's ResNet, its weights loaded by name, its intermediate features."""
    torchvision = pytest.importorskip("torchvision")
    theirs = torchvision.models.get_model(backbone, weights=None).eval()
    ours = OrdinalFPN(2, 3, 3, backbone=backbone, norm="batch", pyramid_channels=8, segmentation_channels=8).eval()
    keys = ours.encoder.load_state_dict(theirs.state_dict(), strict=False)
    assert not keys.missing_keys
    assert set(keys.unexpected_keys) == {"fc.weight", "fc.bias"}
    x = images(2, (64, 50), channels=3)
    expected = theirs.maxpool(theirs.relu(theirs.bn1(theirs.conv1(x))))
    for layer, feature in zip(("layer1", "layer2", "layer3", "layer4"), ours.encoder(x), strict=True):
        expected = getattr(theirs, layer)(expected)
        torch.testing.assert_close(feature, expected, rtol=1e-4, atol=1e-4)


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make every way of downloading weights an error."""

    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("a download was attempted")

    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", refuse)
    monkeypatch.setattr(torch.hub, "download_url_to_file", refuse)
    monkeypatch.setattr(urllib.request, "urlopen", refuse)
    monkeypatch.setattr("socket.socket.connect", refuse)


@pytest.mark.usefixtures("no_network")
@pytest.mark.parametrize("dims", [2, 3], ids=["2d", "3d"])
def test_nothing_is_downloaded_without_weights(dims: int) -> None:
    small_fpn(dims)


@pytest.mark.usefixtures("no_network")
@pytest.mark.parametrize("norm", [None, "batch"], ids=["group-norm", "batch-norm"])
@pytest.mark.parametrize("encoder", ["resnet18", "mobilenet_v2", "efficientnet-b0"])
def test_smp_encoders_without_weights(encoder: str, norm: str | None) -> None:
    pytest.importorskip("segmentation_models_pytorch")
    net = small_fpn(2, backbone=f"smp:{encoder}", norm=norm)
    assert net(images(2, (50, 37))).shape == (2, 4, 50, 37)
    batch = any(isinstance(m, nn.modules.batchnorm._BatchNorm) for m in net.modules())
    assert batch == (norm == "batch")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"backbone": "resnet17"}, "'backbone' must be one of"),
        ({"weights": "imagenet"}, "exist only for 'smp:NAME'"),
        ({"spatial_dims": 3, "backbone": "smp:resnet18"}, "backbones are 2D"),
        ({"norm": "layer"}, "'norm' must be"),
    ],
    ids=["backbone", "weights", "3d-smp", "norm"],
)
def test_bad_arguments_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        OrdinalFPN(**{"spatial_dims": 2, "in_channels": 1, "raters": 3, **options})


def test_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "segmentation_models_pytorch.encoders", None)
    with pytest.raises(ImportError, match=r"monai-multirater\[smp\]"):
        OrdinalFPN(2, 1, 3, backbone="smp:resnet18")


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
@pytest.mark.parametrize("dims", [2, 3], ids=["2d", "3d"])
@pytest.mark.parametrize("name", NETWORKS)
def test_cuda_agrees_with_cpu(name: str, dims: int) -> None:
    net, x = NETWORKS[name](dims).double(), images(dims, (33, 21, 17)).double()
    expected = net(x)
    torch.testing.assert_close(net.cuda()(x.cuda()).cpu(), expected)


@pytest.mark.slow
@pytest.mark.parametrize("family", ["softmax", "beta_binomial", "coral", "cumulative_probit"])
@pytest.mark.parametrize("name", NETWORKS)
def test_a_network_learns_a_ramp_of_votes(name: str, family: str) -> None:
    """Votes that a threshold on the image decides: the negative log-likelihood falls below half its start."""
    torch.manual_seed(0)
    net = small_fpn(2, 3, family) if name == "fpn" else OrdinalUNet(2, 2, 3, family, channels=(16, 32, 64))
    x = torch.linspace(-1, 1, 32).expand(4, 2, 32, 32) + 0.05 * images(2, (32, 32), batch=4)
    votes = ((x[:, :1] > -0.5).long() + (x[:, :1] > 0).long() + (x[:, :1] > 0.5).long()).clamp(0, 3)
    net.set_prior(torch.bincount(votes.flatten(), minlength=4))
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-2)
    losses = []
    for _ in range(60):
        log_levels = FAMILIES[family].log_levels(net(x), 3).clamp_min(-30)
        losses.append(-log_levels.gather(1, votes).mean())
        optimizer.zero_grad()
        losses[-1].backward()
        optimizer.step()
    assert losses[-1] < 0.5 * losses[0]
