# SPDX-License-Identifier: Apache-2.0
"""Speed and memory of stochastic dominance beside PySDTest; run with `--benchmark-only`.

As many values as the pairs of the skin lesion study, 2,317 and 786, synthetic. Medians of processor time; the peer is
timed once, before.
"""

import time

import numpy as np
import pytest
from peak import peak_mib

from monai_multirater.agreement import stochastic_dominance

pytestmark = pytest.mark.benchmark(timer=time.process_time)

RESAMPLES = 1000


@pytest.fixture(scope="module")
def sets():
    rng = np.random.default_rng(0)
    return 1 - rng.beta(0.9, 3.2, 2317), 1 - rng.beta(1, 3.2, 786)


def test_a_thousand_resamples_of_3103_values(benchmark, sets):
    start = time.process_time()
    package = stochastic_dominance(*sets, resamples=RESAMPLES, method="pysdtest")
    package_seconds = time.process_time() - start
    found = stochastic_dominance(*sets, resamples=RESAMPLES)
    assert abs(found.statistic - package.statistic) < 1e-12
    assert abs(found.p_value - package.p_value) < 0.1
    peak = peak_mib(lambda: stochastic_dominance(*sets, resamples=RESAMPLES))
    benchmark.pedantic(lambda: stochastic_dominance(*sets, resamples=RESAMPLES), rounds=15, warmup_rounds=1)
    ratio = package_seconds / benchmark.stats.stats.median
    benchmark.extra_info |= {
        "pysdtest_s": package_seconds,
        "ours_ms": 1000 * benchmark.stats.stats.median,
        "ratio": ratio,
        "peak_mib": peak,
    }
    assert ratio >= 200
    assert not peak > 100
