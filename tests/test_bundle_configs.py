# SPDX-License-Identifier: Apache-2.0
"""Every configuration of the bundle parses, trains, evaluates and infers. References: MONAI's own bundle checks."""

import importlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import bundle_runs as bundle
import numpy as np
import pandas as pd
import pytest
import torch
from monai.bundle import ckpt_export, verify_metadata, verify_net_in_out
from monai.transforms import Compose
from PIL import Image

from monai_multirater.bundles import read_settings
from monai_multirater.fusion import FUSIONS, fuse
from monai_multirater.losses import OBJECTIVES
from monai_multirater.networks import OrdinalFPN
from monai_multirater.transforms import check_target

FILES = sorted(p.relative_to(bundle.CONFIGS).as_posix() for p in bundle.CONFIGS.rglob("*.json"))
OVERLAYS = [name.removesuffix(".json") for name in FILES if name.startswith("objectives/")]
TARGETS = [name.removesuffix(".json") for name in FILES if name.startswith("targets/")]


def targets(content: Any) -> Iterator[str]:
    """All values of `_target_` in a configuration."""
    if isinstance(content, dict):
        yield from (value for key, value in content.items() if key == "_target_")
        content = list(content.values())
    if isinstance(content, list):
        for item in content:
            yield from targets(item)


@pytest.mark.parametrize("name", FILES)
def test_targets_are_full_paths_of_public_names(name: str) -> None:
    for target in targets(json.loads((bundle.CONFIGS / name).read_text())):
        module, _, attribute = target.rpartition(".")
        assert hasattr(importlib.import_module(module), attribute)
        assert not any(part.startswith("_") for part in target.split("."))


def test_every_objective_has_its_overlay() -> None:
    assert {Path(name).stem for name in OVERLAYS} == {*OBJECTIVES, "random_rater"} - {"consensus"}
    for name in OVERLAYS:
        content = json.loads((bundle.CONFIGS / f"{name}.json").read_text())
        assert content["objective"] == ("soft" if name.endswith("random_rater") else Path(name).stem)
        assert content["foreground_rule"] == OBJECTIVES[content["objective"]].foreground


def test_every_fusion_has_its_overlay() -> None:
    """But for the weighted vote, whose weights are of one data set."""
    assert {Path(name).stem.replace("-", "_") for name in TARGETS} == {*FUSIONS} - {"weighted"}
    for name in TARGETS:
        content = json.loads((bundle.CONFIGS / f"{name}.json").read_text())
        if content["objective"] == "consensus":
            assert content["target"] == Path(name).stem.replace("-", "_")
            check_target("consensus", content["target"], raters=4, target_options=content["target_options"])
        else:
            assert content == {"objective": "soft", "random_rater": True, "foreground_rule": "expected"}
        assert content["foreground_rule"] == "expected"


def test_the_default_agrees_with_its_overlay() -> None:
    train = json.loads((bundle.CONFIGS / "train.json").read_text())
    overlay = json.loads((bundle.CONFIGS / f"objectives/{train['objective']}.json").read_text())
    assert {key: train[key] for key in overlay} == overlay
    for name in ("evaluate", "inference"):
        defaults = json.loads((bundle.CONFIGS / f"{name}.json").read_text())["default_settings"]
        assert defaults["objective"] == train["objective"]
        assert defaults["foreground_rule"] == train["foreground_rule"]


def check_results(root: Path, case: str, suffix: str) -> None:
    history = pd.read_csv(root / "models" / "history.csv")
    assert np.isfinite(history[["loss", "mr_ece", "auc", "brier"]]).all(axis=None)
    scores = json.loads((root / "eval" / "summary.json").read_text())["scores"]["model"]
    for name in ("mr_ece", "auc", "brier", "truth_brier"):
        assert 0 <= scores[name]["low"] <= scores[name]["high"] <= 1
    maps = {p.name for p in (root / "outputs").iterdir() if p.name.startswith(case)}
    assert maps == {f"{case}_{name}{suffix}" for name in ("probability", "votes", "uncertainty")}


@pytest.mark.slow
@pytest.mark.parametrize("overlay", OVERLAYS)
def test_each_objective_trains_evaluates_and_infers(overlay: str, phantoms_2d: Path, tmp_path: Path) -> None:
    bundle.train(phantoms_2d, tmp_path, overlay, max_epochs=1)
    bundle.evaluate(phantoms_2d, tmp_path)
    settings = json.loads((tmp_path / "models" / "model.json").read_text())
    assert settings["objective"] == json.loads((bundle.CONFIGS / f"{overlay}.json").read_text())["objective"]
    images = bundle.pick_images(phantoms_2d, tmp_path / "images", 1)
    bundle.infer(images, tmp_path)
    check_results(tmp_path, "p000", ".png")
    with Image.open(tmp_path / "outputs" / "p000_probability.png") as picture:
        assert picture.size == (64, 64)


@pytest.mark.slow
@pytest.mark.parametrize("target", ["staple", "svls", "soft-gaussian", "random"])
def test_a_fused_target_trains_evaluates_and_infers(target: str, phantoms_2d: Path, tmp_path: Path) -> None:
    test_each_objective_trains_evaluates_and_infers(f"targets/{target}", phantoms_2d, tmp_path)
    settings = json.loads((tmp_path / "models" / "model.json").read_text())
    content = json.loads((bundle.CONFIGS / f"targets/{target}.json").read_text())
    assert settings["training"]["target"] == content.get("target", "votes")
    assert settings["training"]["target_options"] == content.get("target_options", {})


@pytest.mark.slow
def test_a_fused_target_trains_on_volumes(phantoms_3d: Path, tmp_path: Path) -> None:
    bundle.train(phantoms_3d, tmp_path, "train_3d", "targets/staple", **bundle.SMALL_3D, max_epochs=1)
    assert np.isfinite(pd.read_csv(tmp_path / "models" / "history.csv")["loss"]).all()


def fused_samples(manifest: Path, root: Path, *overlays: str, **options: Any) -> tuple[Any, Any]:
    """A training data set by the configuration, and the same case by MONAI's loader and the fusion alone."""
    overrides = {"datalist": str(manifest), **options}
    parser = bundle.workflow(bundle.configs("train", *overlays), root, "train", **overrides).parser
    dataset = parser.get_parsed_content("train#dataset")
    return dataset, Compose(parser.get_parsed_content("load"))


@pytest.mark.parametrize(
    ("dimensions", "target"), [(2, "staple"), (2, "soft-gaussian"), (2, "majority"), (3, "staple")], ids=str
)
def test_the_consensus_is_made_once_at_the_size_of_the_training(
    dimensions: int, target: str, phantoms_2d: Path, phantoms_3d: Path, tmp_path: Path
) -> None:
    files = [*(["train_3d"] if dimensions == 3 else []), f"targets/{target}"]
    size = {} if dimensions == 3 else {"spatial_size": [32, 48]}
    manifest = phantoms_3d if dimensions == 3 else phantoms_2d
    dataset, load = fused_samples(manifest, tmp_path, *files, augment=[], **size)
    content = json.loads((bundle.CONFIGS / f"targets/{target}.json").read_text())
    for index in range(2):
        loaded, sample = load(dataset.data[index]), dataset[index]
        expected = fuse(loaded["ratings"].as_tensor(), content["target"], **content["target_options"]).probability
        assert torch.equal(sample["consensus"].as_tensor(), expected)
        assert sample["consensus"].shape == sample["image"][:1].shape == sample["votes"].shape
        assert "ratings" not in sample
    assert dataset._cache[0]["consensus"] is not None  # not made again every epoch


@pytest.mark.parametrize("dimensions", [2, 3])
def test_the_consensus_moves_with_image_and_votes(
    dimensions: int, phantoms_2d: Path, phantoms_3d: Path, tmp_path: Path
) -> None:
    """Union of the raters: the consensus is where there are votes, after flips, turns and crops exactly."""
    files = [*(["train_3d"] if dimensions == 3 else []), "targets/union"]
    size = {"spatial_size": [16, 16, 16] if dimensions == 3 else [64, 64]}
    dataset, _ = fused_samples(phantoms_3d if dimensions == 3 else phantoms_2d, tmp_path, *files, **size)
    changed = 0
    for epoch in range(12):
        dataset.set_epoch(epoch)
        sample = dataset[0][0] if dimensions == 3 else dataset[0]
        consensus, votes = sample["consensus"].as_tensor(), sample["votes"].as_tensor()
        changed += not torch.equal(votes, dataset._cache[0]["votes"].as_tensor())
        wrong = ((consensus > 0.5) != (votes > 0)).float().mean()
        assert wrong < 0.01  # interpolated by RandAffine, nearest against bilinear, on the border only
        assert consensus.min() >= -1e-5
        assert consensus.max() <= 1 + 1e-5
        if ((consensus == 0) | (consensus == 1)).all():
            assert wrong == 0
    assert changed > 6


@pytest.mark.slow
@pytest.mark.parametrize("overlay", ["ranked_log", "rps_bce", "cumulative_probit", "beta_binomial", "soft"])
def test_volumes_train_evaluate_and_infer(overlay: str, phantoms_3d: Path, tmp_path: Path) -> None:
    bundle.train(phantoms_3d, tmp_path, "train_3d", f"objectives/{overlay}", **bundle.SMALL_3D, max_epochs=1)
    bundle.evaluate(phantoms_3d, tmp_path, "evaluate_3d", **bundle.here(tmp_path, "eval"))
    images = bundle.pick_images(phantoms_3d, tmp_path / "images", 1)
    bundle.infer(images, tmp_path, "inference_3d", **bundle.here(tmp_path, "outputs"))
    check_results(tmp_path, "p000", ".nii.gz")


def test_the_default_network_learns_something(trained_2d: Path) -> None:
    """By its validation scores: an epoch of training is a single batch here, another one every time."""
    history = pd.read_csv(trained_2d / "models" / "history.csv")
    assert history["auc"].is_monotonic_increasing
    assert history["brier"].is_monotonic_decreasing


@pytest.mark.parametrize(
    ("name", "kind"), [("train", "train"), ("evaluate", "infer"), ("inference", "infer")], ids=lambda v: v
)
def test_monai_finds_all_required_properties(name: str, kind: str, trained_2d: Path, phantoms_2d: Path) -> None:
    data = {"input_dir": str(phantoms_2d.parent / "images")} if name == "inference" else {"datalist": str(phantoms_2d)}
    made = bundle.workflow(bundle.configs(name), trained_2d, kind, **data)
    made.initialize()
    assert made.check_properties() == []
    assert made.bundle_root == str(trained_2d)
    assert isinstance(made.network_def, torch.nn.Module)
    assert made.version == "0.1.0"
    made.finalize()


def test_metadata_follow_the_schema(capsys: pytest.CaptureFixture[str]) -> None:
    schema = bundle.BUNDLE / "docs" / "metadata_schema.json"
    verify_metadata(meta_file=str(bundle.CONFIGS / "metadata.json"), filepath=str(schema))
    assert schema.stat().st_size > 1000


def test_metadata_agree_with_the_network(tmp_path: Path) -> None:
    verify_net_in_out(
        net_id="network_def",
        meta_file=str(bundle.CONFIGS / "metadata.json"),
        config_file=bundle.configs("inference"),
        device="cpu",
        p=2,
        n=2,
        any=3,
        bundle_root=str(tmp_path),
    )


def test_evaluation_and_inference_know_the_network_of_the_training(phantoms_2d: Path, tmp_path: Path) -> None:
    options = {"backbone": "resnet10", "pyramid_channels": 16, "segmentation_channels": 8}
    bundle.train(phantoms_2d, tmp_path, max_epochs=1, network_name="OrdinalFPN", network_options=options)
    assert read_settings(tmp_path / "models" / "model.json", {})["network_options"] == options
    assert isinstance(bundle.load_network(tmp_path), OrdinalFPN)
    bundle.evaluate(phantoms_2d, tmp_path)
    bundle.infer(bundle.pick_images(phantoms_2d, tmp_path / "images", 1), tmp_path)
    assert (tmp_path / "eval" / "summary.json").is_file()
    assert len(list((tmp_path / "outputs").iterdir())) == 3


@pytest.mark.parametrize("way", ["script", "trace"])
@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")  # what a trace fixes: sizes that need no padding
def test_a_trained_network_is_exported_as_torchscript(way: str, trained_2d: Path, tmp_path: Path) -> None:
    trace = {"use_trace": True, "input_shape": [1, 3, 32, 32]}
    ckpt_export(
        net_id="network_def",
        filepath=str(tmp_path / "model.ts"),
        ckpt_file=str(trained_2d / "models" / "model.pt"),
        key_in_ckpt="model",
        meta_file=str(bundle.CONFIGS / "metadata.json"),
        config_file=bundle.configs("inference"),
        bundle_root=str(trained_2d),
        device="cpu",
        **(trace if way == "trace" else {}),
    )
    exported, network = torch.jit.load(tmp_path / "model.ts"), bundle.load_network(trained_2d)
    for size in [(32, 32), (64, 48), *([(45, 38)] if way == "script" else [])]:
        image = torch.rand(2, 3, *size, generator=torch.Generator().manual_seed(0))
        with torch.no_grad():
            torch.testing.assert_close(exported(image), network(image))


def test_a_trained_network_is_exported_by_torch_export(trained_2d: Path) -> None:
    network = bundle.load_network(trained_2d)
    image = torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    program = torch.export.export(network, (image,))
    with torch.no_grad():
        torch.testing.assert_close(program.module()(image), network(image))
