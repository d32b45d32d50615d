# SPDX-License-Identifier: Apache-2.0
"""Ranks of a launcher: who runs what, and what the processes of a rank see. References: written out by hand."""

import pytest
import torch

from monai_multirater.studies import Ranks

LAUNCHED = {
    "RANK": "3",
    "WORLD_SIZE": "4",
    "LOCAL_RANK": "1",
    "LOCAL_WORLD_SIZE": "2",
    "GROUP_RANK": "1",
    "ROLE_NAME": "default",
    "MASTER_ADDR": "localhost",
    "MASTER_PORT": "29500",
    "TORCHELASTIC_RUN_ID": "none",
}


def test_without_a_launcher_there_is_one_rank() -> None:
    ranks = Ranks.of({"HOME": "/"})
    assert ranks == Ranks(0, 1, 0)
    with ranks.joined() as group:
        assert not torch.distributed.is_initialized()
        assert ranks.share("abc", group) == ["a", "b", "c"]
        assert ranks.gather({"x": 1}, group) == [{"x": 1}]


def test_a_launcher_says_the_ranks() -> None:
    assert Ranks.of(LAUNCHED) == Ranks(3, 4, 1)


@pytest.mark.parametrize(
    ("devices", "visible", "seen"),
    [
        (0, None, None),
        (2, None, "1"),
        (1, None, "0"),
        (2, "5,7", "7"),
        (2, "GPU-a,GPU-b", "GPU-b"),
    ],
    ids=["no-gpu", "own-gpu", "shared-gpu", "some-visible", "by-name"],
)
def test_processes_of_a_rank_see_no_launcher_and_one_gpu(
    devices: int, visible: str | None, seen: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: devices)
    before = {**LAUNCHED, "HOME": "/", **({} if visible is None else {"CUDA_VISIBLE_DEVICES": visible})}
    environment = dict(before)
    with Ranks.of(LAUNCHED).hidden(environment):
        assert environment == {"HOME": "/", **({} if seen is None else {"CUDA_VISIBLE_DEVICES": seen})}
    assert environment == before


def test_a_single_process_sees_all_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    environment = {"HOME": "/"}
    with Ranks().hidden(environment):
        assert environment == {"HOME": "/"}
