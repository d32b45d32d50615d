# SPDX-License-Identifier: Apache-2.0
"""Speed and memory of fusion beside SimpleITK and the usual code per rater; run with `--benchmark-only`.

Synthetic ellipsoids, drawn by each rater with an offset and a size of their own, whose boundary wobbles. One thread on
both sides, medians of processor time, so that other work on the machine does not distort the ratios; the peer is timed
between the rounds of ours.
"""

import time

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from drawn import draw_raters
from peak import peak_mib

from monai_multirater.fusion import majority, simple, staple, svls
from monai_multirater.votes import count_votes

pytestmark = pytest.mark.benchmark(timer=time.process_time)

IMAGES = 40
VOLUME = (128, 512, 512)


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def stacks():
    return {r: torch.stack([draw_raters(r, (256, 256), seed) for seed in range(IMAGES)]) for r in (3, 5, 7)}


def _itk(images):
    reference = sitk.STAPLEImageFilter()
    reference.SetForegroundValue(1)
    result = reference.Execute(images)
    return sitk.GetArrayViewFromImage(result), reference.GetElapsedIterations(), result


def _interleaved(benchmark, ours, peer, *, rounds, peer_rounds, label):
    """Benchmark ours, timing the peer before and after, and report the ratio of the medians."""
    seconds = [_processor_seconds(peer)]
    benchmark.pedantic(ours, rounds=rounds, warmup_rounds=1)
    seconds += [_processor_seconds(peer) for _ in range(peer_rounds - 1)]
    ratio = float(np.median(seconds)) / benchmark.stats.stats.median
    benchmark.extra_info |= {
        f"{label}_ms": 1000 * float(np.median(seconds)),
        "ours_ms": 1000 * benchmark.stats.stats.median,
        "ratio": ratio,
    }
    return ratio


def _processor_seconds(call):
    start = time.process_time()
    call()
    return time.process_time() - start


@pytest.mark.parametrize("raters", [3, 5, 7])
def test_staple_of_40_images(benchmark, stacks, raters):
    stack = stacks[raters]
    images = [[sitk.GetImageFromArray(plane.numpy()) for plane in case] for case in stack]
    found = staple(stack, batched=True)
    for case, planes in enumerate(images):
        probability, iterations, _ = _itk(planes)
        assert np.abs(found.probability[case, 0].numpy() - probability).max() < 1e-6
        assert found.iterations[case] == iterations
    ratio = _interleaved(
        benchmark,
        lambda: staple(stack, batched=True),
        lambda: [_itk(planes) for planes in images],
        rounds=15,
        peer_rounds=3,
        label="simpleitk",
    )
    assert ratio >= 75


@pytest.mark.parametrize("raters", [4, 7])
def test_staple_of_a_volume(benchmark, raters):
    stack = draw_raters(raters, VOLUME, seed=raters)
    images = [sitk.GetImageFromArray(plane.numpy()) for plane in stack]
    found = staple(stack)
    probability, iterations, _keep = _itk(images)
    assert np.abs(found.probability[0].numpy() - probability).max() < 1e-6
    assert found.iterations == iterations
    del found, probability, _keep
    ratio = _interleaved(
        benchmark, lambda: staple(stack), lambda: _itk(images), rounds=5, peer_rounds=2, label="simpleitk"
    )
    output = 4 * stack[0].numel() / 2**20
    benchmark.extra_info |= {"peak_mib": peak_mib(lambda: staple(stack)), "output_mib": output}
    assert ratio >= 40
    assert not benchmark.extra_info["peak_mib"] > output + 4  # beside the input stack: the output, and blocks


@pytest.mark.parametrize(("shape", "most"), [("40 images", 5), ("volume", 3)])
def test_simple_beside_one_vote_pass(benchmark, stacks, shape, most):
    """Within 3 passes where memory decides; images in the cache are added faster than they are counted."""
    stack = stacks[7] if shape == "40 images" else draw_raters(7, VOLUME, seed=7)
    batched = shape == "40 images"
    votes = majority(stack, batched=batched)
    assert torch.equal(votes.squeeze(-3 if batched else 0), 2 * count_votes(stack, dim=int(batched)) > 7)
    ratio = _interleaved(
        benchmark,
        lambda: simple(stack, batched=batched),
        lambda: majority(stack, batched=batched),
        rounds=9,
        peer_rounds=9,
        label="majority",
    )
    allowed = (stack.numel() + stack.numel() / 7) / 2**20
    benchmark.extra_info |= {
        "times_a_vote": 1 / ratio,
        "peak_mib": peak_mib(lambda: simple(stack, batched=batched)),
        "stack_and_output_mib": allowed,
    }
    assert 1 / ratio <= most
    assert not benchmark.extra_info["peak_mib"] > allowed


class _PerRater:
    """SVLS as published: one-hot classes of one rater, replicated border, one dense convolution per class."""

    def __init__(self, dim, size=3, sigma=1.0):
        grids = torch.meshgrid(*[torch.arange(size, dtype=torch.float32) - size // 2] * dim, indexing="ij")
        kernel = torch.exp(-sum(g**2 for g in grids) / (2 * sigma**2))
        center = (size // 2,) * dim
        kernel[center] = 0
        kernel[center] = kernel.sum()
        kernel /= kernel[center].clone()
        self.kernel = kernel.expand(2, 1, *kernel.shape).contiguous()
        self.conv = torch.nn.functional.conv2d if dim == 2 else torch.nn.functional.conv3d
        self.pad = (size // 2,) * (2 * dim)

    def __call__(self, labels):
        one_hot = torch.nn.functional.one_hot(labels.long(), 2).movedim(-1, 1).float()
        wide = torch.nn.functional.pad(one_hot, self.pad, mode="replicate")
        smooth = self.conv(wide, self.kernel, groups=2)
        return smooth[:, 1:] / smooth.sum(1, keepdim=True)


@pytest.mark.parametrize(("dim", "least"), [(2, 25), (3, 15)], ids=["2D", "3D"])
def test_svls_of_seven_raters(benchmark, stacks, dim, least):
    stack = stacks[7] if dim == 2 else draw_raters(7, (64, 128, 128), seed=1)[None]
    peer = _PerRater(dim)

    def per_rater():
        return torch.stack([peer(stack[:, r]) for r in range(7)]).mean(0)

    assert torch.allclose(svls(stack, batched=True), per_rater(), rtol=0, atol=1e-6)
    ratio = _interleaved(
        benchmark, lambda: svls(stack, batched=True), per_rater, rounds=15, peer_rounds=5, label="per_rater"
    )
    benchmark.extra_info |= {
        "peak_mib": peak_mib(lambda: svls(stack, batched=True)),
        "per_rater_peak_mib": peak_mib(per_rater),
        "stack_and_output_mib": (stack.numel() + 4 * stack.numel() / 7) / 2**20,
    }
    assert ratio >= least
    assert not benchmark.extra_info["peak_mib"] > benchmark.extra_info["stack_and_output_mib"]


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("raters", [4, 7])
def test_staple_of_a_volume_on_a_gpu(benchmark, raters):
    """Beside the time to read the stack once and to write the output once at the memory's own speed."""
    stack = draw_raters(raters, VOLUME, seed=raters)
    expected = staple(stack).probability
    there = stack.cuda()

    def run():
        found = staple(there)
        torch.cuda.synchronize()
        return found

    assert torch.allclose(run().probability.cpu(), expected, rtol=0, atol=1e-6)
    copy = torch.empty(2**30, dtype=torch.uint8, device="cuda")
    start, stop = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    copy.clone()
    start.record()
    copy.clone()
    stop.record()
    torch.cuda.synchronize()
    bandwidth = 2 * copy.numel() / (start.elapsed_time(stop) / 1000)
    benchmark.pedantic(run, rounds=10, warmup_rounds=3)
    least = (stack.numel() + 4 * stack[0].numel()) / bandwidth
    benchmark.extra_info |= {"bandwidth_gb_s": bandwidth / 1e9, "times_the_limit": benchmark.stats.stats.median / least}
