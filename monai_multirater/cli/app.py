# SPDX-License-Identifier: Apache-2.0
"""The command itself: what all subcommands share."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

import typer
from rich.console import Console
from rich.logging import RichHandler

from monai_multirater import __version__

__all__ = ["app", "clean_errors"]


app = typer.Typer(
    name="monai-multirater",
    help="Medical images that several experts annotated: check data sets, fuse raters, compare ways to train.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
)


@contextmanager
def clean_errors() -> Iterator[None]:
    """Log remarks; turn an expected error into one message and exit status 1."""
    console = Console(stderr=True, soft_wrap=True)
    handler = RichHandler(console=console, show_time=False, show_path=False)
    logger = logging.getLogger("monai_multirater")
    level, propagate = logger.level, logger.propagate
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    logger.propagate = False
    try:
        yield
    except (ValueError, OSError, RuntimeError) as error:
        console.print("Error", style="bold red", end=" ")
        console.print(str(error), markup=False, highlight=False)
        raise typer.Exit(1) from None
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)
        logger.propagate = propagate


def _print_version(value: bool) -> None:
    if value:
        typer.echo(__version__)
        raise typer.Exit


@app.callback()
def _main(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Medical images that several experts annotated: check data sets, fuse raters, compare ways to train."""
