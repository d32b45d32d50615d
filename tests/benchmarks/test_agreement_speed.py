# SPDX-License-Identifier: Apache-2.0
"""Speed and memory of the agreement of pairs beside loops over MONAI's and medpy's Dice; run with `--benchmark-only`.

Synthetic ellipses, drawn by each rater with an offset and a size of their own, whose boundary wobbles. One thread on
both sides, medians of processor time, so that other work on the machine does not distort the ratios; the peers are
timed between the rounds of ours, and get their masks in the type and shape that they want.
"""

import itertools
import time

import numpy as np
import pytest
import torch
from drawn import draw_raters
from medpy.metric.binary import dc
from monai.metrics import compute_dice
from peak import peak_mib

from monai_multirater.agreement import fleiss_kappa, group_agreement, pair_overlap, pairwise_dice, upper_pairs

pytestmark = pytest.mark.benchmark(timer=time.process_time)

IMAGES = 2394
VOLUME = (128, 512, 512)
LEAST = {4: 35, 7: 55, 15: 100}
PEER_IMAGES = {4: 120, 7: 40, 15: 10}


def _stack(raters):
    """2394 images; 40 different ones, each moved by whole voxels."""
    drawn = torch.stack([draw_raters(raters, (256, 256), seed) for seed in range(40)])
    return torch.stack([drawn[k % 40].roll(k // 40, dims=-1) for k in range(IMAGES)])


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def _seconds(call):
    start = time.process_time()
    call()
    return time.process_time() - start


def _interleaved(benchmark, ours, peers, *, rounds, turns, scale=1.0):
    """Benchmark ours in turns with the peers; the ratios of the medians. A peer's time counts ``scale`` times."""
    ours()
    seconds = {name: [] for name in (*peers, "ours")}
    for _ in range(turns):
        for name, peer in peers.items():
            seconds[name].append(scale * _seconds(peer))
        seconds["ours"] += [_seconds(ours) for _ in range(rounds)]
    benchmark.pedantic(ours, rounds=rounds)
    middle = {name: float(np.median(found)) for name, found in seconds.items()}
    ratios = {name: middle[name] / middle["ours"] for name in peers}
    benchmark.extra_info |= {f"{name}_ms": 1000 * value for name, value in middle.items()}
    benchmark.extra_info |= {f"times_{name}": ratio for name, ratio in ratios.items()}
    return ratios


def _loop(measure, cases):
    """The measure of every pair of every case."""
    return [[measure(a, b) for a, b in itertools.combinations(case, 2)] for case in cases]


@pytest.mark.parametrize("raters", LEAST)
def test_dice_of_all_pairs_of_2394_images(benchmark, raters):
    """The peers do a share of the images, whose time is taken as many times; they cost the same for each."""
    stack = _stack(raters)
    few = PEER_IMAGES[raters]
    for_monai = [[mask[None, None].float() for mask in case] for case in stack[:few]]
    for_medpy = [list(case.bool().numpy()) for case in stack[:few]]
    found = upper_pairs(pairwise_dice(stack, batched=True))
    np.testing.assert_array_equal(found[:few], _loop(dc, for_medpy))
    np.testing.assert_allclose(found[:few], _loop(lambda a, b: float(compute_dice(a, b)), for_monai), rtol=1e-6)
    found_mib = IMAGES * raters**2 * 8 / 2**20
    flat = stack[-3:].flatten(2).long()
    assert torch.equal(pair_overlap(stack, batched=True).gram[-3:], flat @ flat.mT)
    ratios = _interleaved(
        benchmark,
        lambda: pairwise_dice(stack, batched=True),
        {"monai": lambda: _loop(compute_dice, for_monai), "medpy": lambda: _loop(dc, for_medpy)},
        rounds=5,
        turns=3,
        scale=IMAGES / few,
    )
    benchmark.extra_info["peak_mib"] = peak_mib(lambda: pairwise_dice(stack, batched=True))
    assert ratios["monai"] >= LEAST[raters]
    assert ratios["medpy"] >= 1
    assert not benchmark.extra_info["peak_mib"] > 8 + 6 * found_mib


@pytest.mark.parametrize("dtype", [torch.uint8, torch.bool], ids=str)
def test_dice_of_all_pairs_of_a_volume(benchmark, dtype):
    stack = draw_raters(4, VOLUME, seed=4).to(dtype)
    for_monai = [mask[None, None].float() for mask in stack]
    for_medpy = list(stack.bool().numpy())
    np.testing.assert_array_equal(upper_pairs(pairwise_dice(stack)), _loop(dc, [for_medpy])[0])
    ratios = _interleaved(
        benchmark,
        lambda: pairwise_dice(stack),
        {"monai": lambda: _loop(compute_dice, [for_monai]), "medpy": lambda: _loop(dc, [for_medpy])},
        rounds=5,
        turns=3,
    )
    read = float(np.median([_seconds(stack.numpy().view(np.uint8).max) for _ in range(9)]))
    benchmark.extra_info |= {"read_once_ms": 1000 * read, "peak_mib": peak_mib(lambda: pairwise_dice(stack))}
    assert ratios["monai"] >= 120
    assert ratios["medpy"] >= 1
    assert not benchmark.extra_info["peak_mib"] > 8


def test_group_measures_of_a_volume(benchmark):
    """Beside the share of agreeing pairs and of votes in float32, the usual code."""
    stack = draw_raters(4, VOLUME, seed=4)

    def usual():
        votes = stack.float().sum(0)
        agree = ((votes * (votes - 1) + (4 - votes) * (3 - votes)) / 12).mean(dtype=torch.float64)
        share = votes.mean(dtype=torch.float64) / 4
        chance = share**2 + (1 - share) ** 2
        return float((agree - chance) / (1 - chance))

    assert fleiss_kappa(stack) == pytest.approx(usual(), rel=1e-6)
    ratios = _interleaved(benchmark, lambda: group_agreement(stack), {"usual": usual}, rounds=3, turns=3)
    benchmark.extra_info["peak_mib"] = peak_mib(lambda: group_agreement(stack))
    assert ratios["usual"] >= 1
    assert not benchmark.extra_info["peak_mib"] > stack[0].numel() / 2**20 + 8


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("raters", [4, 15])
def test_a_volume_on_a_gpu(benchmark, raters):
    stack = draw_raters(raters, VOLUME, seed=raters)
    there = stack.cuda()
    assert torch.equal(pair_overlap(there).gram, pair_overlap(stack).gram)
    benchmark.pedantic(lambda: pair_overlap(there), rounds=10, warmup_rounds=3)
