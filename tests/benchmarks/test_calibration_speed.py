# SPDX-License-Identifier: Apache-2.0
"""Speed and memory of the calibration scores beside torchmetrics and scikit-learn; run with `--benchmark-only`.

80 images of 1024 x 1024 with 7 raters. A peer expands the (voxel, rater) pairs; it is timed on two images and its time
is scaled to 80 in proportion. One thread, and CPU time rather than wall time on both sides, so that other work on the
machine does not distort the ratios.
"""

import time

import numpy as np
import pytest
import torch
from peak import peak_mib
from sklearn.metrics import brier_score_loss, roc_auc_score
from torchmetrics.functional.classification import binary_calibration_error

from monai_multirater.calibration import ReliabilityTable, multirater_auc
from monai_multirater.calibration.inputs import as_case
from monai_multirater.calibration.ranking import rank_cases
from monai_multirater.calibration.stack import HistogramStack, case_entries
from monai_multirater.metrics.cases import RatedCase
from monai_multirater.metrics.rows import SCORES, RowLayout, case_row
from monai_multirater.resampling import bootstrap_auc, bootstrap_cases, case_weights

pytestmark = pytest.mark.benchmark(timer=time.process_time)

IMAGES, SIZE, RATERS, PEER_IMAGES = 80, 1024, 7, 2


def _image(seed):
    """A soft lesion: noisy probabilities of a network and the votes of seven raters with biased boundaries."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:SIZE, :SIZE].astype(np.float32) - SIZE / 2
    coarse = torch.from_numpy(rng.standard_normal((1, 1, 32, 32), dtype=np.float32))
    field = torch.nn.functional.interpolate(coarse, size=(SIZE, SIZE), mode="bicubic")[0, 0].numpy()
    logit = (SIZE * rng.uniform(0.12, 0.3) - np.hypot(x, y)) / (0.02 * SIZE) + field
    votes = np.zeros((SIZE, SIZE), np.uint8)
    for _ in range(RATERS):
        votes += logit + rng.normal(0, 0.7) + 0.5 * rng.standard_normal(logit.shape, dtype=np.float32) > 0
    noisy = logit * rng.uniform(0.8, 1.5) + 0.3 * rng.standard_normal(logit.shape, dtype=np.float32)
    return torch.sigmoid(torch.from_numpy(noisy.astype(np.float32)))[None], torch.from_numpy(votes)[None]


@pytest.fixture(scope="module")
def images():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield [_image(seed) for seed in range(IMAGES)]
    torch.set_num_threads(threads)


def _ours(p, votes):
    table = ReliabilityTable.from_case(p, votes, RATERS, log_loss=False)
    return table.compute(), multirater_auc(p, votes, RATERS), table.brier_score()


def _expand(p, votes):
    ratings = torch.stack([votes > rater for rater in range(RATERS)]).reshape(-1)
    return p.reshape(1, -1).expand(RATERS, -1).reshape(-1), ratings


def _peer(p, votes):
    confidence, target = _expand(p, votes)
    error = binary_calibration_error(confidence, target.long(), n_bins=15, norm="l1", validate_args=False)
    truth, scores = target.numpy(), confidence.numpy()
    return float(error), float(roc_auc_score(truth, scores)), float(brier_score_loss(truth, scores))


def _reference(p, votes):
    """Float64 over expanded pairs: bins by comparison, scikit-learn for the AUC."""
    confidence, target = (x.double().numpy() for x in _expand(p, votes))
    index = np.searchsorted(np.arange(1, 15) / 15, confidence, side="left")
    gaps = np.bincount(index, weights=target, minlength=15) - np.bincount(index, weights=confidence, minlength=15)
    brier = float(np.mean((confidence - target) ** 2))
    return float(np.abs(gaps).sum()) / len(target), float(roc_auc_score(target, confidence)), brier


def _seconds(call, items):
    start = time.process_time()
    for item in items:
        call(*item)
    return time.process_time() - start


def test_scores_of_80_images(benchmark, images):
    for image in images[:PEER_IMAGES]:
        assert _ours(*image) == pytest.approx(_reference(*image), abs=1e-9)
    peer = _seconds(_peer, images[:PEER_IMAGES]) * IMAGES / PEER_IMAGES
    benchmark.pedantic(lambda: [_ours(*image) for image in images], rounds=3, warmup_rounds=1)
    ratio = peer / benchmark.stats.stats.median
    benchmark.extra_info |= {
        "peer_seconds_scaled_from_2_images": peer,
        "ratio": ratio,
        "peak_mib": peak_mib(lambda: _ours(*images[0])),
        "peer_peak_mib": peak_mib(lambda: _peer(*images[0])),
    }
    assert ratio >= 80


@pytest.mark.parametrize("score", ["mr_ece_brier", "auc"])
def test_one_score_of_80_images(benchmark, images, score):
    def ours(p, votes):
        if score == "auc":
            return multirater_auc(p, votes, RATERS)
        return ReliabilityTable.from_case(p, votes, RATERS, log_loss=False).compute()

    def peer(p, votes):
        confidence, target = _expand(p, votes)
        if score == "auc":
            return roc_auc_score(target.numpy(), confidence.numpy())
        brier_score_loss(target.numpy(), confidence.numpy())
        return binary_calibration_error(confidence, target.long(), n_bins=15, norm="l1", validate_args=False)

    seconds = _seconds(peer, images[:PEER_IMAGES]) * IMAGES / PEER_IMAGES
    benchmark.pedantic(lambda: [ours(*image) for image in images], rounds=3, warmup_rounds=1)
    benchmark.extra_info |= {"peer_seconds_scaled_from_2_images": seconds}
    benchmark.extra_info |= {"ratio": seconds / benchmark.stats.stats.median}


@pytest.fixture(scope="module")
def evidence(images):
    layout = RowLayout(15)
    cases = [as_case(p, votes, RATERS, function="benchmark") for p, votes in images]
    rows = np.stack([case_row(RatedCase(case), layout) for case in cases])
    return cases, np.nan_to_num(rows), HistogramStack.from_entries([case_entries(c) for c in cases])


def test_bootstrap_of_mr_ece_and_auc(benchmark, images, evidence):
    cases, rows, stack = evidence
    layout = RowLayout(15)

    def bootstrap():
        weights = case_weights(IMAGES, resamples=1000, fraction=0.6, seed=0)
        error = bootstrap_cases(rows, lambda sums: SCORES["mr_ece"](sums, layout), weights=weights)
        return error, bootstrap_auc(stack.concordance(), *stack.totals(), weights=weights)

    error, auc = benchmark.pedantic(bootstrap, rounds=7, warmup_rounds=1)
    drawn = [cases[i] for i in np.repeat(np.arange(IMAGES), case_weights(IMAGES, seed=0)[0].astype(int))]
    exact = rank_cases(drawn).auc
    assert auc.distribution[0] == pytest.approx(exact, abs=1e-6)
    assert stack.auc_error_bound() < 1e-6
    again = _seconds(_ours, images[:4]) / 4 * 0.6 * IMAGES * 1000
    benchmark.extra_info |= {
        "by_reading_the_images_again_seconds": again,
        "ratio": again / benchmark.stats.stats.median,
        "auc_error_bound": stack.auc_error_bound(),
        "peak_mib": peak_mib(bootstrap),
    }
    assert not np.isnan(error.distribution).any()
    assert benchmark.stats.stats.median < 0.1


def test_everything_a_case_leaves_behind(benchmark, images):
    """Row with log loss and exact ranking, and the histogram: what the summary metric does per image."""
    layout = RowLayout(15)
    case = as_case(*images[0], RATERS, function="benchmark")
    benchmark(lambda: (case_row(RatedCase(case), layout), case_entries(case)))
