# SPDX-License-Identifier: Apache-2.0
"""Small helpers that bundle configurations call: where the bundle lies and what a trained model was made for."""

from __future__ import annotations

import ast
import json
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from monai_multirater.data import Manifest, ManifestError, Problem, open_manifest

__all__ = ["bundle_root", "check_raters", "open_data", "read_settings", "write_settings"]


def bundle_root(arguments: Sequence[str] | None = None) -> str:
    """Return the root of the bundle whose configuration is being run.

    By custom a bundle's root is ``"."``, which sends outputs to wherever the command was typed. This reads the first
    ``--config_file`` of the command line instead and returns the parent of its ``configs`` directory, so outputs land
    in the bundle's own directory from everywhere. Without such an argument (a workflow made in Python), ``"."``.

    Args:
        arguments: the command line, ``sys.argv`` by default.
    """
    words = list(sys.argv if arguments is None else arguments)
    for position, word in enumerate(words):
        flag, _, inline = word.partition("=")
        if flag.lstrip("-").replace("-", "_") != "config_file":
            continue
        value = inline or (words[position + 1] if position + 1 < len(words) else "")
        files = ast.literal_eval(value) if value.startswith(("[", "(")) else [value]
        configs = next((p for p in Path(str(files[0])).resolve().parents if p.name == "configs"), None)
        return "." if configs is None else os.path.relpath(configs.parent)
    return "."


def write_settings(path: str | os.PathLike[str], settings: Mapping[str, Any]) -> None:
    """Write what a model was trained for (raters, channels, objective, ...) as JSON beside its weights, atomically."""
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(target.name + ".tmp")
    temporary.write_text(json.dumps(dict(settings), indent=2) + "\n", encoding="utf-8")
    temporary.replace(target)


def read_settings(path: str | os.PathLike[str], defaults: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings written beside a model, over ``defaults`` for what is missing (all of it without a file).

    Raises:
        ValueError: the file is not a JSON object.
    """
    target = Path(path)
    if not target.is_file():
        return dict(defaults)
    found = json.loads(target.read_text(encoding="utf-8"))
    if not isinstance(found, dict):
        raise ValueError(f"read_settings: {target} must hold a JSON object. Got {type(found).__name__} instead.")
    return {**defaults, **found}


def open_data(path: str, *, raters: int | None = None, **options: Any) -> Manifest:
    """Open a data set for a bundle run; end the run with one plain message when something is wrong with it.

    Args:
        path: the manifest.
        raters: number of raters a trained model knows, when the job uses one.
        options: see :func:`monai_multirater.data.open_manifest`.

    Raises:
        SystemExit: with everything that is wrong with the data set. (MONAI wraps other exceptions of a configuration
            into its own, behind which the message would be hard to find.)
    """
    try:
        manifest = open_manifest(path, **options)
        return manifest if raters is None else check_raters(manifest, raters)
    except (ManifestError, FileExistsError) as error:
        raise SystemExit(f"Error in the data set: {error}") from error


def check_raters(manifest: Manifest, raters: int) -> Manifest:
    """Return the manifest when a model for ``raters`` raters can be evaluated on it.

    Raises:
        ManifestError: the data set has more raters than the model has vote levels for.
    """
    if len(manifest.raters) > raters:
        reason = f"has {len(manifest.raters)} raters; the model was trained for {raters}"
        raise ManifestError(manifest.root, [Problem(reason)])
    return manifest
