# SPDX-License-Identifier: Apache-2.0
"""The bundle as a user runs it, from a shell. Reference: the same training in one process."""

import json
import shutil
from pathlib import Path

import bundle_runs as bundle
import numpy as np
import pandas as pd
import pytest
import torch

from monai_multirater.data import make_phantoms

pytestmark = pytest.mark.slow

OPTIONS = {
    "--max_epochs": "1",
    "--batch_size": "4",
    "--spatial_size": "[32,32]",
    "--phantoms#cases": "8",
    "--phantoms#size": "32",
    "--network_options#channels": "[4,8]",
    "--device": "cpu",
}


def words(**changes: str) -> list[str]:
    return [f"{key}={value}" for key, value in {**OPTIONS, **changes}.items()]


def test_outputs_land_in_the_bundle_from_the_repository_and_from_inside(tmp_path: Path) -> None:
    root = tmp_path / "bundles" / "rps"
    shutil.copytree(bundle.CONFIGS, root / "configs")
    # from the repository root, without data
    result = bundle.shell(["run", "training", "--config_file", "bundles/rps/configs/train.json", *words()], tmp_path)
    assert result.returncode == 0, result.stderr
    assert "No data set was given: making phantoms with known truth" in result.stdout
    assert "Validation, objective" in result.stdout
    assert {p.name for p in tmp_path.iterdir()} == {"bundles"}
    assert {p.name for p in root.iterdir()} == {"configs", "phantoms", "models", "runs"}
    stamp = (root / "phantoms" / "manifest.json").stat().st_mtime_ns
    # again, from inside: phantoms and model are there
    result = bundle.shell(["run", "training", "--config_file", "configs/train.json", *words()], root)
    assert result.returncode == 0, result.stderr
    assert "are used again" in result.stdout
    assert "after epoch 1" in result.stdout
    assert (root / "phantoms" / "manifest.json").stat().st_mtime_ns == stamp
    result = bundle.shell(["run", "evaluating", "--config_file", "configs/evaluate.json", "--device=cpu"], root)
    assert result.returncode == 0, result.stderr
    files = "bundles/rps/configs/inference.json"
    result = bundle.shell(["run", "inferring", "--config_file", files, "--device=cpu"], tmp_path)
    assert result.returncode == 0, result.stderr
    assert {p.name for p in tmp_path.iterdir()} == {"bundles"}
    assert {p.name for p in root.iterdir()} == {"configs", "phantoms", "models", "runs", "eval", "outputs"}
    assert len(list((root / "outputs").iterdir())) == 3 * 8
    assert {p.name for p in (root / "models").iterdir()} == {"model.pt", "model.json", "history.csv", "resume.pt"}


def test_two_processes_give_the_metrics_of_one(tmp_path: Path) -> None:
    """Both see the same global batches, since one seeded permutation is dealt out to the ranks.

    Sums of gradients are rounded in another order, and Adam divides by their size, so weights differ in the last
    digits and grow apart slowly: after two epochs 1e-8 was measured and 1e-5 is demanded. Three validation cases on
    two processes: one is repeated to fill up and counts once.
    """
    splits = (6 / 11, 3 / 11, 2 / 11)
    manifest = make_phantoms(tmp_path / "data", cases=11, size=32, raters=3, splits=splits, progress=False)
    bundle.train(manifest, tmp_path / "one", select_from_epoch=1)
    values = {"--datalist": str(manifest), "--output_dir": str(tmp_path / "two"), "--select_from_epoch": "1"}
    arguments = [word for word in words(**values, **{"--max_epochs": "2"}) if "phantoms" not in word]
    files = str(bundle.configs("train", "multi_gpu_train"))
    result = bundle.shell(
        ["--standalone", "--nproc_per_node=2", "-m", "monai.bundle", "run", "training", "--config_file", files]
        + [word for word in arguments if not word.startswith("--device")],
        tmp_path,
        module="torch.distributed.run",
        environment={"CUDA_VISIBLE_DEVICES": ""},
    )
    assert result.returncode == 0, result.stderr
    one, two = (pd.read_csv(tmp_path / name / "models" / "history.csv") for name in ("one", "two"))
    assert one["epoch"].tolist() == two["epoch"].tolist() == [1, 2]
    np.testing.assert_allclose(two["loss"].iloc[0], one["loss"].iloc[0], rtol=1e-6)  # before any step
    assert one["best"].tolist() == two["best"].tolist()
    np.testing.assert_allclose(two.drop(columns="best"), one.drop(columns="best"), atol=1e-5)
    left, right = (torch.load(tmp_path / name / "models" / "model.pt", weights_only=True) for name in ("one", "two"))
    assert left.keys() == right.keys()  # no prefix of the parallel wrapper
    names = [{p.name for p in (tmp_path / name / "models").iterdir()} for name in ("one", "two")]
    assert names[0] == names[1] == {"model.pt", "model.json", "history.csv", "resume.pt"}
    settings = [json.loads((tmp_path / name / "models" / "model.json").read_text()) for name in ("one", "two")]
    assert settings[0] == settings[1]
    logs = [sorted((tmp_path / name / "runs").iterdir()) for name in ("one", "two")]
    assert len(logs[0]) == len(logs[1])
    assert result.stdout.count("Validation, objective") == 1
    # what two processes trained is evaluated by one
    bundle.evaluate(manifest, tmp_path / "two")
    assert (tmp_path / "two" / "eval" / "summary.csv").is_file()
