# SPDX-License-Identifier: Apache-2.0
"""How the tests run the bundle `rps`: in this process with a tiny network, or as a user would from a shell."""

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from monai.bundle import ConfigWorkflow

REPOSITORY = Path(__file__).resolve().parents[1]
BUNDLE = REPOSITORY / "bundles" / "rps"
CONFIGS = BUNDLE / "configs"
TINY: dict[str, Any] = {"network_options": {"channels": [4, 8]}}  # evaluation and inference read it beside the model
SMALL_3D: dict[str, Any] = {"output_dir": "@bundle_root", "batch_size": 2, "spatial_size": [16, 16, 16]}


def configs(*names: str) -> list[str]:
    """Paths of configurations by name without extension."""
    return [str(CONFIGS / f"{name}.json") for name in names]


def workflow(files: Sequence[str], root: Path, kind: str | None = None, **overrides: Any) -> ConfigWorkflow:
    """A bundle whose outputs land in `root`; it is neither initialized nor run."""
    training = any(Path(file).name == "train.json" for file in files)
    options = {"bundle_root": str(root), "device": "cpu", **(TINY if training else {}), **overrides}
    return ConfigWorkflow(config_file=list(files), logging_file=False, workflow_type=kind, **options)


def run(files: Sequence[str], root: Path, kind: str | None = None, **overrides: Any) -> ConfigWorkflow:
    """Initialize, run and finalize; returns the workflow for a look at its parts."""
    made = workflow(files, root, kind, **overrides)
    made.initialize()
    try:
        made.run()
    finally:
        made.finalize()
    return made


def train(manifest: Path, root: Path, *overlays: str, **overrides: Any) -> ConfigWorkflow:
    """Train two epochs on images of 32 pixels a side, unless `overrides` say otherwise."""
    options = {"datalist": str(manifest), "max_epochs": 2, "batch_size": 4, "spatial_size": [32, 32], **overrides}
    return run(configs("train", *overlays), root, "train", **options)


def evaluate(manifest: Path, root: Path, *overlays: str, **overrides: Any) -> ConfigWorkflow:
    """Evaluate what `train` left in `root`."""
    options = {"datalist": str(manifest), "resamples": 50, **overrides}
    return run(configs("evaluate", *overlays), root, "infer", **options)


def infer(folder: Path, root: Path, *overlays: str, **overrides: Any) -> ConfigWorkflow:
    """Write the maps of the images in `folder`."""
    return run(configs("inference", *overlays), root, "infer", input_dir=str(folder), **overrides)


def load_network(root: Path) -> torch.nn.Module:
    """The network that was trained in `root`, for reference values."""
    made = workflow(configs("inference"), root).parser.get_parsed_content("network_def")
    state = torch.load(root / "models" / "model.pt", weights_only=True)
    made.load_state_dict(state.get("model", state))
    network: torch.nn.Module = made.eval()
    return network


def here(root: Path, output: str) -> dict[str, str]:
    """Where a 3D job finds the model that was trained with `SMALL_3D`, and writes to."""
    return {"model_dir": str(root / "models"), "output_dir": str(root / output)}


def pick_images(manifest: Path, folder: Path, count: int) -> Path:
    """Copy the first images of a set to a folder."""
    folder.mkdir()
    for path in sorted((manifest.parent / "images").iterdir())[:count]:
        shutil.copy(path, folder)
    return folder


def shell(
    arguments: Sequence[str],
    cwd: Path,
    *,
    module: str = "monai.bundle",
    environment: Mapping[str, str] | None = None,
    timeout: float = 240.0,
) -> subprocess.CompletedProcess[str]:
    """Run `python -m MODULE ARGUMENTS` in `cwd`, one thread."""
    variables = {**os.environ, "OMP_NUM_THREADS": "1", "MPLBACKEND": "Agg", **(environment or {})}
    command = [sys.executable, "-m", module, *arguments]
    return subprocess.run(command, cwd=cwd, env=variables, capture_output=True, text=True, timeout=timeout, check=False)
