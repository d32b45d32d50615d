# SPDX-License-Identifier: Apache-2.0
"""What bundle configurations call: where the bundle lies, do data and model fit, what a model was trained for."""

from __future__ import annotations

import ast
import ctypes
import hashlib
import json
import os
import pickle
import platform
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from monai_multirater.calibration import CALIBRATORS, CalibrationRecord, Calibrator, file_digest
from monai_multirater.data import Manifest, check_fit, list_images, open_manifest
from monai_multirater.losses import VoteLoss, make_loss, objective_family
from monai_multirater.networks import make_network
from monai_multirater.transforms import check_target

__all__ = [
    "build_loss",
    "build_network",
    "bundle_root",
    "check_checkpoint",
    "describe_data",
    "family_of",
    "keep_freed_memory",
    "open_data",
    "open_images",
    "read_calibrator",
    "read_settings",
    "start_training",
    "write_settings",
]


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


def open_data(
    path: str,
    *,
    raters: int | None = None,
    channels: int | None = None,
    spatial_dims: int | None = None,
    **options: Any,
) -> Manifest:
    """Open a data set for a bundle run; end the run with one plain message when something is wrong with it.

    Args:
        path: the manifest.
        raters: number of raters a trained model knows, when the job uses one.
        channels: image channels of a trained model.
        spatial_dims: 2 or 3, what the configuration is for.
        options: see :func:`monai_multirater.data.open_manifest`.

    Raises:
        SystemExit: with everything that is wrong with the data set. (MONAI wraps other exceptions of a configuration
            into its own, behind which the message would be hard to find.)
    """
    try:
        manifest = open_manifest(path, **options)
        return check_fit(manifest, raters=raters, channels=channels, spatial_dims=spatial_dims)
    except (ValueError, OSError) as error:
        raise SystemExit(f"Error in the data set: {error}") from error


def open_images(folder: str, *, channels: int, spatial_dims: int) -> list[dict[str, str]]:
    """Return the images of a folder after opening each; end the run with one message when one cannot be used.

    Args:
        folder: where the images are.
        channels: image channels of the model.
        spatial_dims: 2 or 3, what the configuration is for.

    Raises:
        SystemExit: with everything that is wrong, see :func:`monai_multirater.data.list_images`.
    """
    try:
        return list_images(folder, channels=channels, spatial_dims=spatial_dims)
    except (ValueError, OSError) as error:
        raise SystemExit(f"Error in the images: {error}") from error


def family_of(objective: str) -> str:
    """Return the family of an objective; end the run with one message when there is no such objective.

    Raises:
        SystemExit: see :func:`monai_multirater.losses.objective_family`.
    """
    try:
        return objective_family(objective)
    except ValueError as error:
        raise SystemExit(f"Error in the objective: {error}") from error


def build_loss(objective: str, raters: int, options: Mapping[str, Any], **target: Any) -> VoteLoss:
    """Return the loss of an objective; end the run with one message when it has no such option or target.

    Raises:
        SystemExit: see :func:`monai_multirater.losses.make_loss` and :func:`monai_multirater.transforms.check_target`.
    """
    try:
        check_target(objective, **{"target": "votes", "raters": raters, **target})
        return make_loss(objective, raters=raters, **options)
    except (ValueError, TypeError) as error:
        raise SystemExit(f"Error in the loss of {objective}: {error}") from error


def build_network(name: str, options: Mapping[str, Any], **known: Any) -> nn.Module:
    """Return a network by name; end the run with one message when there is no such network or option.

    Args:
        name: the network.
        options: its options.
        known: what the data set and the objective decide, see :func:`monai_multirater.networks.make_network`.

    Raises:
        SystemExit: naming the network and the reason.
    """
    try:
        return make_network(name, options=options, **known)
    except (ValueError, TypeError, ImportError) as error:
        raise SystemExit(f"Error in the network {name}: {error}") from error


def check_checkpoint(path: str, network: nn.Module, *, key: str = "model") -> None:
    """End the run with one message when the weights that it needs are missing, damaged or of another network.

    Args:
        path: the checkpoint.
        network: the network that will load it.
        key: entry of the checkpoint that holds the weights.

    Raises:
        SystemExit: naming the file and the reason.
    """
    if not Path(path).is_file():
        raise SystemExit(f"Error: there is no trained model at {path}. Train one first, or give --checkpoint.")
    try:
        found = torch.load(path, map_location="cpu", weights_only=True)
        found = {name: tuple(value.shape) for name, value in found.get(key, found).items()}
    except (OSError, EOFError, RuntimeError, ValueError, LookupError, AttributeError, pickle.UnpicklingError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise SystemExit(f"Error: {path} cannot be read as a checkpoint (damaged or truncated?): {reason}") from error
    wanted = {name: tuple(value.shape) for name, value in network.state_dict().items()}
    wrong = sorted(name for name in wanted.keys() | found.keys() if wanted.get(name) != found.get(name))
    if wrong:
        first = f"{wrong[0]} is {found.get(wrong[0], 'missing')} there and {wanted.get(wrong[0], 'unknown')} here"
        raise SystemExit(
            f"Error: the weights in {path} are of another network: {len(wrong)} entries differ ({first}). "
            "Give the network options that the model was trained with."
        )


def read_calibrator(
    path: str, method: str | None, *, checkpoint: str, rule: str, ties: str = "background"
) -> Calibrator | str:
    """Return a calibrator that was fitted for this job, or ``none``; end the run with one message otherwise.

    Args:
        path: ``calibration.json``, see :class:`monai_multirater.handlers.FitCalibrators`.
        method: a name in ``monai_multirater.calibration.CALIBRATORS``, or ``none``: the file is not looked at.
        checkpoint: weights of this job.
        rule: foreground rule of this job.
        ties: its tie rule.

    Raises:
        SystemExit: naming the file and the reason.
    """
    if method is None or method == "none":
        return "none"
    if method not in CALIBRATORS:
        known = ", ".join(("none", *CALIBRATORS))
        raise SystemExit(f"Error: calibration must be one of {known}. Got {method!r} instead.")
    if not Path(path).is_file():
        raise SystemExit(
            f"Error: there is no calibration at {path}. Fit it first: run calibrating with calibrate.json."
        )
    try:
        record = CalibrationRecord.load(path)
        record.check(checkpoint=file_digest(checkpoint), rule=rule, ties=ties)
        return record.calibrator(method)
    except (ValueError, OSError) as error:
        raise SystemExit(f"Error: the calibration in {path} cannot be used: {error}") from error


def keep_freed_memory() -> bool:
    """Let this process keep the memory it frees, for training on CPU; return whether that was possible.

    glibc gives large freed blocks back to the system at once, and a training step, which frees and asks for the same
    tensors again, then spends up to a quarter of its time on page faults; how much depends on where blocks happen to
    lie, and changes from run to run. Afterwards the process stays as large as its largest step. Does nothing without
    glibc, or where the environment already says how ``malloc`` is to behave.
    """
    told = any(name == "GLIBC_TUNABLES" or name.startswith("MALLOC_") for name in os.environ)
    if told or platform.libc_ver()[0] != "glibc":
        return False
    mallopt = ctypes.CDLL(None).mallopt
    trim_threshold, mmap_threshold = -1, -3  # names in malloc.h: M_TRIM_THRESHOLD, M_MMAP_THRESHOLD
    most = 1 << 30
    return bool(mallopt(trim_threshold, most) and (mallopt(mmap_threshold, most) or mallopt(mmap_threshold, 1 << 25)))


def describe_data(manifest: Manifest, splits: Sequence[str] = ("training", "validation")) -> str:
    """Return a short description that changes when cases or their raters change: name, number of cases, digest."""
    records = [(split, r.case, sorted(r.ratings)) for split in splits for r in manifest.splits[split]]
    digest = hashlib.sha256(repr((manifest.raters, records)).encode()).hexdigest()
    return f"{manifest.name}, {len(records)} cases, {digest[:12]}"


def start_training(
    model_dir: str, settings: Mapping[str, Any], training: Mapping[str, Any], *, resume: bool = True
) -> None:
    """Write ``model.json`` for a training that starts; refuse to go on from one that had other settings.

    Args:
        model_dir: where ``resume.pt`` of an interrupted training may be; created when missing.
        settings: what users of the model need to know (raters, channels, objective, ...).
        training: what else decides the result (seed, epochs, data, ...), stored under ``training``.
        resume: when False, an earlier training in ``model_dir`` is removed and the new one starts over.

    Raises:
        SystemExit: an earlier training in ``model_dir`` had other settings; names them.
    """
    folder = Path(model_dir)
    now = json.loads(json.dumps({**settings, "training": dict(training)}))
    if not resume:
        for name in ("resume.pt", "model.pt", "history.csv"):
            (folder / name).unlink(missing_ok=True)
    elif (folder / "resume.pt").is_file() and (folder / "model.json").is_file():
        then = read_settings(folder / "model.json", {})
        changes = _changes({**then, **then.get("training", {})}, {**now, **now["training"]})
        if changes:
            raise SystemExit(
                f"Error: {folder} holds a training with other settings ({'; '.join(changes)}). "
                "Give another --output_dir, or start over with --resume False."
            )
    write_settings(folder / "model.json", now)


def _changes(then: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    shared = [name for name in now if name in then and name != "training"]
    return [f"{name} was {then[name]}, is {now[name]}" for name in shared if then[name] != now[name]]
