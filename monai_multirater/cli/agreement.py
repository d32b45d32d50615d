# SPDX-License-Identifier: Apache-2.0
"""Subcommands that measure how raters agree and plan another study."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from monai_multirater.cli.app import app, clean_errors

if TYPE_CHECKING:
    from monai_multirater.studies.agreement import AgreementStudy

__all__ = ["agreement", "plan"]

_OF_MASKS = ("split", "measure", "tolerance", "hd95", "size", "voxels")
_OF_PAIRS = ("exclude", "case_column", "rater_columns", "unit")


@app.command()
def agreement(
    context: typer.Context,
    out: Annotated[Path, typer.Option(help="Folder for tables, report and pictures.")],
    path: Annotated[Path | None, typer.Argument(metavar="MANIFEST", help="The manifest of the masks.")] = None,
    from_pairs: Annotated[
        Path | None, typer.Option(metavar="CSV", help="Start from a table of pairs that exists, not from masks.")
    ] = None,
    title: Annotated[str, typer.Option(help="Name of the data set in the report.")] = "",
    factors: Annotated[
        list[Path] | None, typer.Option(metavar="CSV", help="Table with a column case, rater or both; repeat.")
    ] = None,
    factor_key: Annotated[str | None, typer.Option(metavar="COLUMN", help="Column of --factors with the case.")] = None,
    factor: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="Factor to analyse; repeat. Default: all with few levels.")
    ] = None,
    group: Annotated[
        str | None, typer.Option(metavar="COLUMN[=VALUE]", help="Divide the cases, or set a value against the rest.")
    ] = None,
    split: Annotated[list[str] | None, typer.Option(help="Split; repeat. Default: all.")] = None,
    measure: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="all, overlap, surface, group, dice, assd, ...; repeat.")
    ] = None,
    test: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="Measure to compare by factors; repeat. Default: dice.")
    ] = None,
    tolerance: Annotated[float, typer.Option(min=0, help="Of the surface Dice, in mm or voxels.")] = 1.0,
    hd95: Annotated[str, typer.Option(help="Definition of HD95: larger, pooled or area.")] = "larger",
    size: Annotated[
        str | None, typer.Option(metavar="N|HxW", help="Resample 2D masks to this grid first, nearest neighbor.")
    ] = None,
    voxels: Annotated[bool, typer.Option("--voxels", help="Measure in voxels, not in mm.")] = False,
    exclude: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="With --from-pairs: leave out a rater; repeat. '' for nobody."),
    ] = None,
    case_column: Annotated[str | None, typer.Option(metavar="COLUMN", help="With --from-pairs: the case.")] = None,
    rater_columns: Annotated[
        str | None, typer.Option(metavar="A,B", help="With --from-pairs: columns of the two raters.")
    ] = None,
    unit: Annotated[str, typer.Option(help="With --from-pairs: unit of distances, voxels or mm.")] = "voxels",
    pictures: Annotated[int, typer.Option(min=0, help="Draw so many of the most disputed cases.")] = 12,
    seed: Annotated[int, typer.Option(min=0, help="Seed of bootstrap and permutations.")] = 0,
    resamples: Annotated[int, typer.Option(min=1, help="Bootstrap samples of the tests of dominance.")] = 1000,
    permutations: Annotated[int, typer.Option(min=1, help="Permutations of each test that draws them.")] = 9999,
    jobs: Annotated[int, typer.Option(min=1, help="Processes side by side.")] = 1,
    dask: Annotated[
        str | None, typer.Option(metavar="SCHEDULER|N", help="Dask cluster instead: its address, or N workers here.")
    ] = None,
    no_report: Annotated[bool, typer.Option("--no-report", help="Write no report.html.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace what another request left in OUT.")] = False,
) -> None:
    """Measure how the raters agree on every case and pair, what goes with it, and report it.

    [bold]Examples[/bold]

      monai-multirater agreement lesions/manifest.json --out lesions/agreement --group diagnosis

      monai-multirater agreement scans/manifest.json --factors readers.csv --factor experience --jobs 8
      --out scans/agreement

      monai-multirater agreement lesions/manifest.json --measure overlap --size 256 --out lesions/overlap

      monai-multirater agreement scans/manifest.json --split test --test dice --test assd --tolerance 2
      --hd95 pooled --dask tcp://10.0.0.5:8786 --out scans/agreement

      monai-multirater agreement --from-pairs pairs.csv --case-column scan --rater-columns reader_x,reader_y
      --unit mm --factors scans.csv --factor-key scan_id --out published

      monai-multirater agreement --from-pairs pairs.csv --exclude ST --exclude MV --factors images.csv
      --group benign_malignant=malignant --out published

    A measured case is not measured again: after an interruption, give the same command again. A mask that cannot be
    read counts as missing, and the exit status says so; cases with one rater are left out. OUT/problems.csv lists both.
    """
    with clean_errors():
        from monai_multirater.studies import agreement as studies

        shared: dict[str, Any] = {
            "out": out,
            "title": title,
            "factor_tables": factors or (),
            "factor_key": factor_key,
            "factors": factor,
            "group": group,
            "tested": test or ("dice",),
            "seed": seed,
            "resamples": resamples,
            "permutations": permutations,
            "report": not no_report,
            "overwrite": overwrite,
        }
        if from_pairs is not None and path is None:
            _refuse(context, _OF_MASKS, "a manifest")
            study = studies.agreement_from_pairs(
                from_pairs,
                case_column=case_column,
                rater_columns=rater_columns.split(",") if rater_columns else None,
                exclude=exclude,
                unit=unit,
                **shared,
            )
        elif path is not None and from_pairs is None:
            _refuse(context, _OF_PAIRS, "--from-pairs")
            study = studies.agreement_study(
                path,
                splits=split or (),
                measures=measure or "all",
                tolerance=tolerance,
                hd95=hd95,
                size=_grid(size),
                voxels=voxels,
                pictures=pictures,
                jobs=jobs,
                dask=dask,
                progress=True,
                **shared,
            )
        else:
            raise ValueError("agreement: give a manifest or --from-pairs, one of them.")
        _print(study, out)
        if missing := studies.incomplete(study):
            raise RuntimeError(missing)


@app.command()
def plan(
    out: Annotated[Path, typer.Argument(metavar="OUT", help="Folder of a finished agreement study.")],
    width: Annotated[float, typer.Option(help="Width of the 95 % interval of the mean.")] = 0.05,
    measure: Annotated[str, typer.Option(help="Measure of pairs.")] = "dice",
    raters: Annotated[list[int] | None, typer.Option(help="Raters per case; repeat. Default: 2, 3, 5.")] = None,
    same_raters: Annotated[
        bool, typer.Option("--same-raters", help="The same raters mark all cases: they are a sample, too.")
    ] = False,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the simulation.")] = 0,
) -> None:
    """Say how many cases another study needs for an interval of some width, from the pairs of a finished one.

    [bold]Examples[/bold]

      monai-multirater plan lesions/agreement --width 0.05

      monai-multirater plan lesions/agreement --width 0.02 --raters 2 --raters 4 --same-raters
    """
    with clean_errors():
        from monai_multirater.studies import agreement as studies

        rows = studies.plan_from_study(
            out, width, measure=measure, raters=tuple(raters or (2, 3, 5)), same_raters=same_raters, seed=seed
        )
        table = Table(*("raters", "cases", f"width of {measure}", "cases to draw from", "remark"))
        for row in rows.to_dict("records"):
            cases = "" if math.isnan(row["cases"]) else str(int(row["cases"]))
            table.add_row(str(row["raters"]), cases, _number(row["width"]), str(row["pilot_cases"]), str(row["remark"]))
        Console().print(table)


def _refuse(context: typer.Context, names: Sequence[str], place: str) -> None:
    """Refuse options that would change nothing, because they belong to the other way to start."""
    for name in names:
        source = context.get_parameter_source(name)
        if source is not None and source.name != "DEFAULT":
            raise ValueError(f"agreement: --{name.replace('_', '-')} is an option of {place} only.")


def _grid(size: str | None) -> list[int] | None:
    """``N`` or ``HxW``."""
    if size is None:
        return None
    parts = size.lower().split("x")
    if len(parts) > 2 or not all(part.isdecimal() for part in parts):
        raise ValueError(f"agreement: --size must be N or HxW, for example 256 or 240x320. Got {size!r}.")
    return [int(part) for part in (parts * 2)[:2]]


def _print(study: AgreementStudy, out: Path) -> None:
    """The main numbers, then the files."""
    table = Table("measure", "mean", "95 % interval", "pairs or cases", "undefined")
    for name, row in study.summary["measures"].items():
        interval = f"{_number(row['low'])} to {_number(row['high'])}"
        count = row.get("pairs", row.get("cases"))
        table.add_row(name, _number(row["mean"]), interval, str(count), str(row["undefined"]))
    console = Console()
    counts = f"{len(study.pairs)} pairs of {len(study.cases)} cases, {len(study.raters)} raters"
    console.print(f"{counts}; distances in {study.unit}")
    console.print(table)
    for file in study.summary["files"]:
        typer.echo(out / file)


def _number(value: float) -> str:
    return "" if math.isnan(value) else f"{value:.3f}"
