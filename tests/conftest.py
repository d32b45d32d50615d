# SPDX-License-Identifier: Apache-2.0
"""Shared fixtures: real data where present, small phantom sets made once."""

from pathlib import Path

import pytest
import torch

torch.set_num_threads(1)  # sums are rounded in another order with more threads; tests compare bit by bit
REPOSITORY = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of the real data sets beside the repository; skips where it is absent."""
    folder = REPOSITORY.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("real data sets are not on this machine")
    return folder


@pytest.fixture(scope="session")
def phantoms_2d(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Manifest of 10 RGB phantoms of 64 x 64 with 4 raters, splits 6 / 2 / 2."""
    from monai_multirater.data import make_phantoms

    folder = tmp_path_factory.mktemp("phantoms") / "small_2d"
    return make_phantoms(folder, cases=10, size=64, raters=4, splits=(0.6, 0.2, 0.2), seed=7, progress=False)


@pytest.fixture(scope="session")
def phantoms_missing(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Manifest of 10 RGB phantoms of 64 x 64, 5 raters of whom about 40 % are missing per case."""
    from monai_multirater.data import make_phantoms

    folder = tmp_path_factory.mktemp("phantoms") / "missing_2d"
    return make_phantoms(
        folder, cases=10, size=64, raters=5, missing_rate=0.4, splits=(0.6, 0.2, 0.2), seed=8, progress=False
    )


@pytest.fixture(scope="session")
def phantoms_3d(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Manifest of 5 CT-like phantoms of 24 x 24 x 24 with 3 raters, splits 3 / 1 / 1."""
    from monai_multirater.data import make_phantoms

    folder = tmp_path_factory.mktemp("phantoms") / "small_3d"
    return make_phantoms(
        folder, dimensions=3, cases=5, size=24, raters=3, splits=(0.6, 0.2, 0.2), seed=9, progress=False
    )


@pytest.fixture(scope="session")
def trained_2d(phantoms_2d: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder where the bundle `rps` trained a tiny network for three epochs on `phantoms_2d`."""
    import bundle_runs

    root = tmp_path_factory.mktemp("trained_2d")
    bundle_runs.train(phantoms_2d, root, max_epochs=3)
    return root


@pytest.fixture(scope="session")
def trained_3d(phantoms_3d: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder where the bundle `rps` trained a tiny 3D network for two epochs on `phantoms_3d`."""
    import bundle_runs

    root = tmp_path_factory.mktemp("trained_3d")
    bundle_runs.train(phantoms_3d, root, "train_3d", **bundle_runs.SMALL_3D)
    return root
