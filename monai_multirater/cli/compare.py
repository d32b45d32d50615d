# SPDX-License-Identifier: Apache-2.0
"""Subcommand that compares ways to train."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from monai_multirater.cli.app import app, clean_errors

__all__ = ["compare"]


@app.command()
def compare(
    manifests: Annotated[list[Path], typer.Argument(help="Data sets, or several splits of one.")],
    out: Annotated[Path, typer.Option(help="Folder for runs and tables.")],
    methods: Annotated[
        list[str] | None,
        typer.Option(
            help="Overlays of the bundle in configs/targets or configs/objectives, or files; commas, or repeat. "
            "Default: rps,soft,soft-gaussian,majority,random,staple,simple,svls, the paper's eight."
        ),
    ] = None,
    bundle: Annotated[Path, typer.Option(help="The bundle.")] = Path("bundles/rps"),
    seeds: Annotated[int, typer.Option(min=1, help="Training seeds per manifest.")] = 1,
    epochs: Annotated[int | None, typer.Option(min=1, help="Epochs; default: the bundle's.")] = None,
    overlay: Annotated[list[Path] | None, typer.Option(help="Further configuration for all runs.")] = None,
    tune: Annotated[
        list[str] | None,
        typer.Option(
            help="[METHOD:]OPTION=VALUE,VALUE,... to try beside what the bundle says; repeat. Default: lambda of rps "
            "and sigma of soft-gaussian; 'none' for nothing."
        ),
    ] = None,
    choose_by: Annotated[str, typer.Option(help="Validation score that chooses: brier, mr_ece or auc.")] = "brier",
    calibrations: Annotated[
        list[str] | None,
        typer.Option(
            help="Post-hoc calibrators, fitted on the validation split, with which every run is evaluated too: "
            "temperature, platt, isotonic; commas, or repeat."
        ),
    ] = None,
    reference: Annotated[
        str | None,
        typer.Option(
            help="METHOD:RULE, such as rps_bce:majority, for paired differences. Default: the first method with the "
            "foreground rule of its overlay."
        ),
    ] = None,
    jobs: Annotated[int, typer.Option(min=1, help="Trainings side by side, one thread each.")] = 1,
) -> None:
    """Train every method on every manifest, evaluate on the untouched test split, write the tables.

    [bold]Examples[/bold]

      monai-multirater compare a.json --out study

      monai-multirater compare a.json --seeds 3 --epochs 30 --jobs 2 --methods soft,majority,staple --out study

      monai-multirater compare a.json b.json c.json --methods rps,corn --out study
      --tune learning_rate=0.002,0.01 --tune rps:loss_options#lambda_rps=0.3,3 --reference rps:majority

      torchrun --nproc_per_node=2 -m monai_multirater.cli compare a.json --out study

    The method rps is the paper's, objectives/rps_bce; objectives/rps is the score alone.
    Settings to tune are chosen on the validation split, anew for every run, one option after the other.
    A run that is finished is not repeated: after an interruption, give the same command again.
    """
    with clean_errors():
        from monai_multirater import studies

        first = studies.Ranks.of(os.environ).rank == 0
        overlays = studies.method_overlays(bundle, methods or studies.METHODS)
        names = [path.stem for path in overlays]
        against = reference and studies.reference_of(reference, names)
        tuned = studies.tuned_options(tune or (), names)
        for path in overlays if first else ():
            typer.echo(f"{path.stem}: {path}")
        runs = studies.compare_objectives(
            manifests,
            overlays,
            bundle=bundle,
            out=out,
            seeds=range(seeds),
            options={} if epochs is None else {"max_epochs": epochs},
            common=tuple(overlay or ()),
            tune=tuned,
            choose_by=choose_by,
            calibrations=[name.strip() for text in calibrations or () for name in text.split(",")],
            jobs=jobs,
        )
        if not first:
            return
        for path in studies.write_report(runs, out, reference=against or None):
            typer.echo(path)
