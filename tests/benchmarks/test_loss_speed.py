# SPDX-License-Identifier: Apache-2.0
"""Ordinal losses beside ``torch.nn.functional.cross_entropy``, one thread, same logits (CORN: one channel less).

Run with ``pytest tests/benchmarks/test_loss_speed.py -o addopts= -s``. As in the bundle's training, the process keeps
the memory it frees: otherwise glibc hands pages back, and every step of either loss pays for thousands of page faults,
a number that depends on where blocks happen to lie and differs between processes. Peer and ours alternate, times are
medians of the processor time of the thread, so that other programs on the machine matter little. Only exactness is
asserted.
"""

import statistics
import time

import pytest
import torch
from torch.nn.functional import binary_cross_entropy, binary_cross_entropy_with_logits, cross_entropy
from torch.profiler import ProfilerActivity, profile

from monai_multirater.bundles import keep_freed_memory
from monai_multirater.losses import make_loss, objective_family
from monai_multirater.networks import OrdinalUNet
from monai_multirater.ordinal import get_family

RATERS = 7
STEP_ROUNDS, STEP_REPEATS = 41, 3


@pytest.fixture(autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    keep_freed_memory()
    yield
    torch.set_num_threads(threads)


def interleaved_medians(functions, rounds):
    """Median processor seconds of each function, called in turns after one warm-up each."""
    times = [[] for _ in functions]
    for function in functions:
        function()
    for _ in range(rounds):
        for function, seconds in zip(functions, times, strict=True):
            start = time.thread_time()
            function()
            seconds.append(time.thread_time() - start)
    return [statistics.median(seconds) for seconds in times]


def peak_bytes(function):
    """Largest sum of allocations minus releases by torch during the call."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as recorded:
        function()
    events = [e for e in recorded.profiler.kineto_results.events() if e.name() == "[memory]"]
    held = peak = 0
    for event in sorted(events, key=lambda e: e.start_ns()):
        held += event.nbytes()
        peak = max(peak, held)
    return peak


def value_and_gradient(loss, outputs, target):
    leaf = outputs.detach().requires_grad_()
    value = loss(leaf, target)
    value.backward()
    return value.detach(), leaf.grad


def level_cross_entropy(outputs, votes):
    return cross_entropy(outputs, votes[:, 0])


def plain_reference(objective, logits, votes):
    """The formula in float64: conditional cross-entropies, or squares or logarithms of both sides of a softmax."""
    if objective == "corn":
        cuts = torch.arange(RATERS).view(1, -1, 1, 1)
        terms = binary_cross_entropy_with_logits(logits, (votes > cuts).double(), reduction="none")
        return (terms * (votes >= cuts)).sum(1).mean()
    probs = logits.softmax(1)
    below, above = probs.cumsum(1)[:, :-1], probs.flip(1).cumsum(1).flip(1)[:, 1:]
    is_above = votes > torch.arange(RATERS).view(1, -1, 1, 1)
    if objective.startswith("rps"):
        value = (below - (~is_above).double()).square().mean()
    else:
        value = -torch.where(is_above, above, below).log().mean()
    if objective.endswith("bce"):
        cut = RATERS // 2
        value = value + binary_cross_entropy(above[:, cut : cut + 1], (votes > cut).double())
    return value


def report(benchmark, **numbers):
    benchmark.extra_info.update(numbers)
    print("\n" + benchmark.name + ": " + ", ".join(f"{key} {value:.4g}" for key, value in numbers.items()))


@pytest.mark.parametrize("objective", ["rps_bce", "corn", "rps", "ranked_log", "ranked_log_bce"])
def test_fused_loss_beside_cross_entropy(benchmark, objective):
    generator = torch.Generator().manual_seed(0)
    logits = 3 * torch.randn(8, RATERS + 1, 256, 256, generator=generator)
    votes = torch.randint(0, RATERS + 1, (8, 1, 256, 256), generator=generator)
    loss = make_loss(objective, raters=RATERS)
    outputs = logits[:, : get_family(loss.family).channels(RATERS)].contiguous()

    value, gradient = value_and_gradient(loss, outputs, votes)
    exact, exact_gradient = value_and_gradient(lambda x, y: plain_reference(objective, x, y), outputs.double(), votes)
    torch.testing.assert_close(value.double(), exact, rtol=1e-6, atol=0)
    torch.testing.assert_close(gradient.double(), exact_gradient, rtol=0, atol=5e-6 * exact_gradient.abs().max().item())
    del gradient, exact_gradient

    def ours():
        return value_and_gradient(loss, outputs, votes)

    def peer():
        return value_and_gradient(level_cross_entropy, logits, votes)

    ours_s, peer_s = interleaved_medians([ours, peer], 61)
    ours_bytes, peer_bytes = peak_bytes(ours), peak_bytes(peer)
    report(
        benchmark,
        ours_ms=1e3 * ours_s,
        cross_entropy_ms=1e3 * peer_s,
        ratio=ours_s / peer_s,
        ours_peak_mib=ours_bytes / 2**20,
        cross_entropy_peak_mib=peer_bytes / 2**20,
        memory_ratio=ours_bytes / peer_bytes,
    )
    benchmark.pedantic(ours, rounds=3)


@pytest.mark.parametrize(
    "objective",
    ["rps_bce", "corn", "cumulative_probit", "coral", "ranked_log", "ranked_log_bce", "rps", "beta_binomial"],
)
def test_training_step_beside_cross_entropy(benchmark, objective):
    """A whole step of the bundle's network; both losses train one and the same network where channels agree.

    Two networks differ in speed by a few per cent for where their tensors happen to lie, which would hide the loss.
    """
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(8, 3, 128, 128, generator=generator)
    votes = torch.randint(0, RATERS + 1, (8, 1, 128, 128), generator=generator)

    def trainer(family):
        torch.manual_seed(0)
        network = OrdinalUNet(2, 3, RATERS, family)
        return network, torch.optim.AdamW(network.parameters())

    def step(network, optimizer, loss):
        optimizer.zero_grad()
        value = loss(network(images), votes)
        value.backward()
        optimizer.step()
        return value.detach()

    family = objective_family(objective)
    softmax = trainer("softmax")
    own = softmax if get_family(family).channels(RATERS) == RATERS + 1 else trainer(family)
    loss = make_loss(objective, raters=RATERS)
    assert step(*own, loss).isfinite()
    steps = [lambda: step(*own, loss), lambda: step(*softmax, level_cross_entropy)]
    pairs = [interleaved_medians(steps, STEP_ROUNDS) for _ in range(STEP_REPEATS)]
    ours_s, peer_s = (statistics.median(times) for times in zip(*pairs, strict=True))
    ratios = sorted(ours / peer for ours, peer in pairs)
    report(
        benchmark,
        ours_ms=1e3 * ours_s,
        cross_entropy_ms=1e3 * peer_s,
        ratio=statistics.median(ratios),
        lowest_ratio=ratios[0],
        highest_ratio=ratios[-1],
    )
    benchmark.pedantic(lambda: step(*own, loss), rounds=3)
