# SPDX-License-Identifier: Apache-2.0
"""Compare ways to train on the same splits: train, choose settings, evaluate; resumable."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, TextIO

from tqdm.auto import tqdm

from monai_multirater.data import read_manifest
from monai_multirater.studies.ranks import Ranks
from monai_multirater.studies.runs import CRITERIA, Run, TunedOption, run_once
from monai_multirater.studies.workers import each_in_worker

__all__ = ["compare_objectives"]


def compare_objectives(
    manifests: Sequence[Path],
    overlays: Sequence[Path],
    *,
    bundle: Path,
    out: Path,
    seeds: Sequence[int] = (0,),
    options: Mapping[str, Any] | None = None,
    common: Sequence[Path] = (),
    tune: Sequence[TunedOption] = (),
    choose_by: str = "brier",
    calibrations: Sequence[str] = (),
    jobs: int = 1,
) -> list[Run]:
    """Train and evaluate every combination of manifest, overlay and seed; return the runs that are finished.

    A run whose process dies (killed, out of memory) is tried once more. Under ``torchrun`` the ranks share the runs,
    each with a GPU of its own where there are any, and return when all ranks are done.

    Args:
        manifests: data sets, or several splits of one.
        overlays: one configuration file per method.
        bundle: the bundle's directory.
        out: ``out/<method>/<manifest>-<seed>/`` gets each run and its log; a finished run is not repeated.
        seeds: training seeds per manifest.
        options: overrides for all trainings, for example ``{"max_epochs": 30}``.
        common: configuration files over ``train.json`` for all trainings.
        tune: options whose values are chosen on the validation split, anew for every run; see :class:`Run`.
        choose_by: validation score that decides, ``"brier"``, ``"mr_ece"`` or ``"auc"``.
        calibrations: post-hoc calibrators with which every run is evaluated too, fitted on its validation split.
        jobs: processes side by side, one torch thread each when more than one.

    Raises:
        ManifestError: a manifest is missing or wrong; nothing is started.
        ValueError: two runs would share a directory, a directory holds a run that was asked for something else, an
            unknown ``choose_by`` or calibration, or a tuned method that is not compared.
        RuntimeError: naming the runs that failed, after all others are done; under ``torchrun`` all of them on the
            first rank, and on the others their own.
    """
    for manifest in manifests:
        read_manifest(manifest)
    _check_choice(tune, choose_by, [overlay.stem for overlay in overlays])
    runs = [
        Run(
            manifest.resolve(),
            overlay.resolve(),
            seed,
            out.resolve() / overlay.stem / f"{manifest.parent.name}-{manifest.stem}-{seed}",
            dict(options or {}),
            tuple(path.resolve() for path in common),
            tuple(tune),
            choose_by,
            tuple(calibrations),
        )
        for seed in seeds
        for manifest in manifests
        for overlay in overlays
    ]
    if len({run.directory for run in runs}) < len(runs):
        raise ValueError(
            "compare_objectives: two runs would share a directory; manifests must differ in file or folder name, "
            f"overlays in file name. Got {[str(m) for m in manifests]} and {[str(o) for o in overlays]}."
        )
    for run in runs:
        run.check_directory()
    return _run_all(runs, bundle.resolve(), jobs)


def _check_choice(tune: Sequence[TunedOption], choose_by: str, methods: Sequence[str]) -> None:
    if choose_by not in CRITERIA:
        raise ValueError(f"compare_objectives: choose_by must be one of {', '.join(CRITERIA)}. Got {choose_by!r}.")
    for option in tune:
        unknown = sorted(set(option.methods) - set(methods))
        if unknown:
            raise ValueError(
                f"compare_objectives: {option.option} is to be tuned for {', '.join(unknown)}, which is not compared. "
                f"Compared are {', '.join(methods)}."
            )


def _run_logged(bundle: Path, threads: int | None, run: Run) -> None:
    """Run in a process of its own, with everything it prints going to ``log.txt`` in the run's directory."""
    run.directory.mkdir(parents=True, exist_ok=True)
    with (run.directory / "log.txt").open("a", encoding="utf-8") as log, _output_to(log):
        run_once(bundle, run, threads=threads)


@contextmanager
def _output_to(file: TextIO) -> Iterator[None]:
    """Send standard output and error to a file, also what logging handlers made earlier write."""
    streams = {1: sys.stdout, 2: sys.stderr}
    kept = {number: os.dup(number) for number in streams}
    try:
        for number, stream in streams.items():
            stream.flush()
            os.dup2(file.fileno(), number)
        yield
    finally:
        for number, stream in streams.items():
            stream.flush()
            os.dup2(kept[number], number)
            os.close(kept[number])


def _run_all(runs: Sequence[Run], bundle: Path, jobs: int) -> list[Run]:
    ranks, failures = Ranks.of(os.environ), dict[str, str]()
    work = partial(_run_logged, bundle, 1 if jobs > 1 else None)
    with ranks.joined() as group, ranks.hidden():
        mine = ranks.share([run for run in runs if not run.finished], group)
        bar = tqdm(total=len(mine), unit="run", desc="Comparing", disable=ranks.rank > 0)
        for run, error in each_in_worker(work, mine, jobs=jobs):
            bar.update()
            if error is not None:
                failures[str(run.directory)] = str(error) or type(error).__name__
                tqdm.write(f"{run.directory} failed: {failures[str(run.directory)]}", file=sys.stderr)
        bar.close()
        everywhere = ranks.gather(failures, group)
    if ranks.rank == 0:
        failures = {directory: error for found in everywhere for directory, error in found.items()}
    if failures:
        lines = [f"  {directory}: {error} (see log.txt there)" for directory, error in failures.items()]
        raise RuntimeError("\n".join([f"compare_objectives: {len(failures)} of {len(runs)} runs failed:", *lines]))
    return list(runs)
