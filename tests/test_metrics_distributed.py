# SPDX-License-Identifier: Apache-2.0
"""Metrics gathered over two gloo processes equal those of one process, bit for bit."""

import os
import socket
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.distributed as dist
from torch.multiprocessing import spawn

from monai_multirater.metrics import CaseStatistics, MultiRaterSummaryMetric, RaterDiceCollector


def _cases(count=5):
    generator = torch.Generator().manual_seed(0)
    cases = []
    for index in range(count):
        p = torch.rand(1, 9 + index, 8, generator=generator)
        raters = 2 + index % 3
        votes = torch.binomial(torch.full_like(p, raters), p, generator=generator).to(torch.uint8)
        cases.append((p, {"votes": votes, "n_raters": raters, "truth": p**2, "case": f"größe {index}"}))
    return cases


def _run(cases):
    metric = MultiRaterSummaryMetric()
    for p, label in cases:
        metric([p], [label])
    return metric


def _dice(cases):
    collector = RaterDiceCollector(("A", "B"))
    for p, label in cases:
        ratings = torch.stack([p[0] > 0.4, label["votes"][0] > 0]).to(torch.uint8)
        collector.update(p, {"ratings": ratings, "case": label["case"]})
    return collector.evidence()


def _shares(cases, split):
    if split == "padded":  # a sampler that repeats the first case to even out the ranks
        return [[*cases[::2]], [*cases[1::2], cases[0]]]
    return [cases, []] if split == "one_rank_empty" else [[], cases] if split == "first_empty" else [[], []]


SPLITS = ("padded", "one_rank_empty", "first_empty", "nothing")


def _worker(rank, port, folder):
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "RANK": str(rank)}
    os.environ |= {"WORLD_SIZE": "2", "LOCAL_RANK": str(rank)}
    torch.set_num_threads(1)
    dist.init_process_group("gloo", rank=rank, world_size=2)
    for split in SPLITS:
        metric = _run(_shares(_cases(), split)[rank])
        statistics = metric.case_statistics()
        assert np.array_equal(metric.aggregate().item(), statistics.score("mr_ece"), equal_nan=True)
        statistics.save(Path(folder) / f"{split}{rank}.npz")
        dice = _dice(_shares(_cases(), split)[rank])
        np.savez(Path(folder) / f"dice_{split}{rank}.npz", cases=np.array(dice.cases, str), values=dice.values)
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def gathered(tmp_path_factory):
    """Folder with what each of two processes gathered, for every way to share the cases."""
    folder = tmp_path_factory.mktemp("gathered")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    spawn(_worker, args=(port, str(folder)), nprocs=2)
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("split", SPLITS[:3])
def test_two_processes_equal_one(split, gathered):
    expected = _run(_cases()).compute_summary(resamples=30)
    for rank in range(2):
        found = CaseStatistics.load(gathered / f"{split}{rank}.npz")
        assert found.names == tuple(label["case"] for _, label in _cases())
        summary = found.compute_summary(resamples=30)
        assert summary.keys() == expected.keys()
        for name, result in expected.items():
            assert summary[name].estimate == result.estimate
            assert np.array_equal(summary[name].distribution, result.distribution)


@pytest.mark.slow
@pytest.mark.parametrize("split", SPLITS)
def test_dice_of_two_processes_is_that_of_one(split, gathered):
    expected = _dice([] if split == "nothing" else _cases())
    for rank in range(2):
        found = np.load(gathered / f"dice_{split}{rank}.npz")
        assert tuple(found["cases"]) == expected.cases
        np.testing.assert_array_equal(found["values"], expected.values)


@pytest.mark.slow
def test_two_processes_without_a_case_do_not_hang(gathered):
    assert [len(CaseStatistics.load(gathered / f"nothing{rank}.npz")) for rank in range(2)] == [0, 0]
