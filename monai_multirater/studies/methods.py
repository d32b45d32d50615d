# SPDX-License-Identifier: Apache-2.0
"""Methods of a comparison by name: the overlay of each, the settings tuned unless a user says otherwise."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from monai_multirater.studies.runs import FOREGROUND_RULES, TunedOption

__all__ = ["METHODS", "default_tuning", "method_overlays", "reference_of", "tuned_options"]

METHODS = ("rps", "soft", "soft-gaussian", "majority", "random", "staple", "simple", "svls")
"""The eight strategies of the calibration paper's tables."""

ALIASES = {"rps": "rps_bce"}
"""Names of the paper for objectives that are called otherwise; ``objectives/rps`` is the score alone."""

TUNING = ("rps_bce:loss_options#lambda_rps=0.3,3", "soft-gaussian:target_options#sigma=1,3")
"""What the paper chooses on the validation split; the overlays' own values, 1 and 2, compete too."""

FOLDERS = ("targets", "objectives")


def method_overlays(bundle: Path, methods: Sequence[str]) -> list[Path]:
    """Return the overlay file of each method.

    Args:
        bundle: the bundle's directory.
        methods: names of files in the bundle's ``configs/targets`` or else ``configs/objectives`` without ``.json``
            (``soft``; ``objectives/soft`` where both folders have it), or paths of files; several in one text are
            separated by commas. ``rps`` is the paper's ``rps_bce``, and ``objectives/rps`` the score alone.

    Raises:
        ValueError: naming the unknown method and the known ones; no method, or one given twice.
    """
    configs = bundle / "configs"
    files = [path for folder in FOLDERS for path in sorted((configs / folder).glob("*.json"))]
    by_path = {f"{path.parent.name}/{path.stem}": path for path in files}
    known = {**by_path, **{path.stem: path for path in reversed(files)}}
    known |= {alias: known[name] for alias, name in ALIASES.items() if name in known}
    overlays = []
    for method in (name.strip() for text in methods for name in text.split(",")):
        path = known.get(method, Path(method))
        if not path.is_file():
            names = ", ".join(sorted(name for name in known if "/" not in name))
            raise ValueError(f"There is no method {method!r}; known are {names}, or give a file.")
        if path in overlays:
            raise ValueError(f"Method {method!r} is given twice ({path}).")
        overlays.append(path)
    return overlays


def tuned_options(texts: Sequence[str], methods: Sequence[str]) -> list[TunedOption]:
    """Read the options to tune; see :meth:`TunedOption.parse`.

    Args:
        texts: one option each; none for what the paper chooses, as far as it is compared, and ``"none"`` for nothing.
        methods: the methods compared.

    Raises:
        ValueError: another form, or ``"none"`` beside others.
    """
    if not texts:
        return default_tuning(methods)
    if list(texts) == ["none"]:
        return []
    options = [TunedOption.parse(text) for text in texts]
    return [TunedOption(o.option, o.values, tuple(_called(name, methods) for name in o.methods)) for o in options]


def default_tuning(methods: Sequence[str]) -> list[TunedOption]:
    """Return the options that the paper chooses on the validation split, for those of its methods that are compared."""
    return [option for option in map(TunedOption.parse, TUNING) if set(option.methods) <= set(methods)]


def reference_of(text: str, methods: Sequence[str]) -> tuple[str, str]:
    """Read ``METHOD:RULE``, the method and foreground rule that others are compared with.

    Raises:
        ValueError: the method is not compared, or there is no such rule.
    """
    name, _, rule = text.rpartition(":")
    method = _called(name, methods)
    if method not in methods or rule not in FOREGROUND_RULES:
        raise ValueError(
            f"The reference must be METHOD:RULE, a method among {', '.join(methods)} and a rule among "
            f"{', '.join(FOREGROUND_RULES)}. Got {text!r}."
        )
    return method, rule


def _called(name: str, methods: Sequence[str]) -> str:
    """Name of a method in tables: the stem of its overlay, which an alias may stand for."""
    return name if name in methods else ALIASES.get(name, name)
