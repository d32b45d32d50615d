# SPDX-License-Identifier: Apache-2.0
"""Subcommands that build and check data sets."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from monai_multirater.cli.app import app, clean_errors

__all__ = ["check", "manifest", "phantoms"]


@app.command()
def manifest(
    root: Annotated[Path, typer.Argument(help="Folder with images/ and one folder of masks per rater.")],
    images: Annotated[str, typer.Option(help="Folder of the images.")] = "images",
    rater: Annotated[
        list[str] | None,
        typer.Option(help="Folder of one rater's masks; repeat. Default: every other folder."),
    ] = None,
    truth: Annotated[str | None, typer.Option(help="Folder of true vote probabilities.")] = None,
    strip: Annotated[
        list[str] | None, typer.Option(help="Ending to remove from file names, such as _mask; repeat.")
    ] = None,
    match: Annotated[str | None, typer.Option(help="Regular expression; its first group is the case.")] = None,
    skip_unmatched: Annotated[
        bool, typer.Option("--skip-unmatched", help="Leave out images without mask, masks without image.")
    ] = False,
    split: Annotated[tuple[float, float, float], typer.Option(help="Shares of training, validation and test.")] = (
        0.7,
        0.1,
        0.2,
    ),
    seed: Annotated[int, typer.Option(min=0, help="Seed of the split.")] = 0,
    group_regex: Annotated[str | None, typer.Option(help="Its first group in the case name is the patient.")] = None,
    table: Annotated[
        Path | None,
        typer.Option(help="CSV with a column 'case' and optionally 'group', 'diagnosis', others."),
    ] = None,
    name: Annotated[str | None, typer.Option(help="Name of the data set.")] = None,
    out: Annotated[Path | None, typer.Option(help="The manifest; default ROOT/manifest.json.")] = None,
    copy: Annotated[bool, typer.Option("--copy", help="Copy the files into the folder of --out.")] = False,
    link: Annotated[bool, typer.Option("--link", help="Link the files into the folder of --out.")] = False,
    threshold: Annotated[
        float | None, typer.Option(help="Binarize masks: foreground above this value; needs --copy.")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an existing manifest.")] = False,
) -> None:
    """Build the manifest of a data set: match names, open every file, split by patient.

    [bold]Examples[/bold]

      monai-multirater manifest lesions

      monai-multirater manifest lesions --rater anna --rater ben --split 0.6 0.2 0.2 --seed 1

      monai-multirater manifest scans --strip _seg --group-regex '^(patient[0-9]+)_'

      monai-multirater manifest /readonly/lesions --out data/lesions/manifest.json --link

      monai-multirater manifest lesions --out data/lesions/manifest.json --copy --threshold 127

    Paths in a manifest are relative and may not leave its folder. --link places symbolic links there, which
    may point anywhere; the originals have to stay where they are.
    """
    with clean_errors():
        from monai_multirater.data import build_manifest

        if copy and link:
            raise ValueError("manifest: choose one of --copy and --link.")
        path = build_manifest(
            root,
            images=images,
            raters=rater,
            truth=truth,
            strip=strip or (),
            match=match,
            skip_unmatched=skip_unmatched,
            split=split,
            seed=seed,
            group_regex=group_regex,
            table=table,
            name=name,
            out=out,
            transfer="copy" if copy else "link" if link else None,
            threshold=threshold,
            overwrite=overwrite,
            progress=True,
        )
        _print_summary(path)


@app.command()
def check(
    path: Annotated[Path, typer.Argument(metavar="MANIFEST", help="The manifest.")],
    headers: Annotated[
        bool, typer.Option("--headers", help="Read headers only: fast, finds no damaged or non-binary files.")
    ] = False,
) -> None:
    """Check a data set whole and list everything wrong with it.

    [bold]Example[/bold]

      monai-multirater check lesions/manifest.json
    """
    with clean_errors():
        from monai_multirater.data import check_manifest, read_manifest

        check_manifest(read_manifest(path), level="headers" if headers else "full", progress=True)
        _print_summary(path)


@app.command()
def phantoms(
    directory: Annotated[Path, typer.Argument(help="Folder to make.")],
    dimensions: Annotated[int, typer.Option(min=2, max=3, help="2: dermoscopy-like, 3: CT-like.")] = 2,
    cases: Annotated[int | None, typer.Option(min=1, help="Cases; default 120 in 2D, 40 in 3D.")] = None,
    size: Annotated[int | None, typer.Option(min=16, help="Side in voxels; default 128 in 2D, 48 in 3D.")] = None,
    raters: Annotated[int, typer.Option(min=1, max=8, help="Number of simulated raters.")] = 5,
    missing_rate: Annotated[
        float, typer.Option(min=0, max=0.999, help="Probability that a rater did not mark a case.")
    ] = 0.0,
    split: Annotated[tuple[float, float, float], typer.Option(help="Shares of training, validation and test.")] = (
        0.6,
        0.13,
        0.27,
    ),
    seed: Annotated[int, typer.Option(min=0, help="Same seed, same files.")] = 0,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace phantoms with other parameters.")] = False,
) -> None:
    """Make images with masks of simulated raters and the true vote probability beside them.

    [bold]Examples[/bold]

      monai-multirater phantoms data/phantoms

      monai-multirater phantoms data/nodules --dimensions 3 --cases 20 --raters 4 --seed 3
    """
    with clean_errors():
        from monai_multirater.data import make_phantoms

        path = make_phantoms(
            directory,
            dimensions=dimensions,
            cases=cases,
            size=size,
            raters=raters,
            missing_rate=missing_rate,
            splits=split,
            seed=seed,
            overwrite=overwrite,
        )
        _print_summary(path)


def _print_summary(path: Path) -> None:
    from monai_multirater.data import read_manifest

    content = read_manifest(path)
    console = Console(soft_wrap=True)
    table = Table(title=f"{content.name}: {len(content.cases)} cases")
    table.add_column("")
    for column in (*content.splits, "all"):
        table.add_column(column, justify="right")
    parts = [*content.splits.values(), content.cases]
    table.add_row("cases", *(str(len(records)) for records in parts))
    if any(record.group is not None for record in content.cases):
        table.add_row("groups", *(str(len({record.group for record in records})) for records in parts))
    for rater in content.raters:
        marked = [Counter(rater in record.ratings for record in records)[True] for records in parts]
        table.add_row(f"marked by {rater}", *(str(count) for count in marked))
    console.print(table)
    console.print(str(path), markup=False, highlight=False)
