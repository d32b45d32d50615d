# SPDX-License-Identifier: Apache-2.0
"""Subcommand that fuses the raters of a data set."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from monai_multirater.cli.app import app, clean_errors

__all__ = ["fuse"]


@app.command()
def fuse(
    path: Annotated[Path, typer.Argument(metavar="MANIFEST", help="The manifest.")],
    method: Annotated[
        str, typer.Option(help="staple, simple, majority, soft, ...; an unknown name lists the known ones.")
    ],
    out: Annotated[Path, typer.Option(help="Folder for consensus, probability and tables.")],
    option: Annotated[
        list[str] | None, typer.Option(metavar="NAME=VALUE", help="Option of the method, such as sigma=2; repeat.")
    ] = None,
    split: Annotated[list[str] | None, typer.Option(help="Split; repeat. Default: all.")] = None,
    format: Annotated[
        str, typer.Option(help="same as the masks; nrrd: .seg.nrrd for 3D Slicer; dicom-seg, of a DICOM series.")
    ] = "same",
    rater_view: Annotated[
        bool, typer.Option("--rater-view", help="Compare raters with each other: size, boundary, outliers.")
    ] = False,
    pictures: Annotated[
        int, typer.Option(min=0, help="Draw so many of the most disputed cases, to look at, into OUT/pictures.")
    ] = 0,
    seed: Annotated[int, typer.Option(min=0, help="Seed of methods that draw.")] = 0,
    jobs: Annotated[int, typer.Option(min=1, help="Processes side by side.")] = 1,
    dask: Annotated[
        str | None, typer.Option(metavar="SCHEDULER|N", help="Dask cluster instead: its address, or N workers here.")
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace what another method or option left in the folder.")
    ] = False,
) -> None:
    """Fuse the raters of every case: consensus, probability map and how each rater performs.

    [bold]Examples[/bold]

      monai-multirater fuse lesions/manifest.json --method staple --out lesions/staple

      monai-multirater fuse lesions/manifest.json --method soft-gaussian --option sigma=1.5 --option unit=mm
      --out lesions/soft --split test

      monai-multirater fuse scans/manifest.json --method simple --out scans/simple --jobs 8 --rater-view
      --pictures 20

      monai-multirater fuse scans/manifest.json --method majority --out scans/seg --format dicom-seg --dask 4

    Maps have the format and geometry of the masks. A finished case is not fused again: after an interruption, give
    the same command again. A damaged mask or a worker that dies costs its case only; the exit status says so.
    """
    with clean_errors():
        from monai_multirater import studies

        summary = studies.fuse_manifest(
            path,
            method=method,
            out=out,
            options=studies.read_options(option or ()),
            splits=split or (),
            form=format,
            rater_view=rater_view,
            pictures=pictures,
            seed=seed,
            jobs=jobs,
            dask=dask,
            overwrite=overwrite,
            progress=True,
        )
        for file in summary.files:
            typer.echo(file)
