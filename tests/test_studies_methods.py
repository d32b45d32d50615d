# SPDX-License-Identifier: Apache-2.0
"""Names of methods: which file each means, and what is tuned by default. Reference: the files of the bundle."""

import json
import re
from pathlib import Path

import pytest

from monai_multirater.studies import (
    METHODS,
    TunedOption,
    default_tuning,
    method_overlays,
    reference_of,
    tuned_options,
)

CONFIGS = Path(__file__).resolve().parents[1] / "bundles" / "rps" / "configs"


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("rps", "objectives/rps_bce.json"),
        ("rps_bce", "objectives/rps_bce.json"),
        ("objectives/rps", "objectives/rps.json"),
        ("soft", "targets/soft.json"),
        ("objectives/soft", "objectives/soft.json"),
        ("soft-gaussian", "targets/soft-gaussian.json"),
        ("corn", "objectives/corn.json"),
        (" staple ", "targets/staple.json"),
    ],
)
def test_a_name_means_a_file(name: str, file: str) -> None:
    assert method_overlays(CONFIGS.parent, [name]) == [CONFIGS / file]


def test_names_are_separated_by_commas_or_given_one_by_one() -> None:
    expected = method_overlays(CONFIGS.parent, METHODS)
    assert method_overlays(CONFIGS.parent, [",".join(METHODS)]) == expected
    assert method_overlays(CONFIGS.parent, ["rps,soft", ",".join(METHODS[2:])]) == expected
    assert len({path.stem for path in expected}) == 8


def test_a_file_is_a_method(tmp_path: Path) -> None:
    (tmp_path / "mine.json").write_text("{}")
    assert method_overlays(CONFIGS.parent, [str(tmp_path / "mine.json")]) == [tmp_path / "mine.json"]


@pytest.mark.parametrize("names", [["rps,nonsense"], ["rps_bce", "nonsense"]], ids=["commas", "repeated"])
def test_an_unknown_method_lists_the_known_ones(names: list[str]) -> None:
    message = r"'nonsense'.*known are .*beta_binomial.*rps.*rps_bce.*soft-gaussian.*staple"
    with pytest.raises(ValueError, match=message):
        method_overlays(CONFIGS.parent, names)


@pytest.mark.parametrize("names", ["soft,soft", "rps,rps_bce"])
def test_a_method_is_compared_once(names: str) -> None:
    with pytest.raises(ValueError, match="is given twice"):
        method_overlays(CONFIGS.parent, [names])


def test_lambda_and_sigma_are_tuned_by_default() -> None:
    names = [path.stem for path in method_overlays(CONFIGS.parent, METHODS)]
    weight = TunedOption("loss_options#lambda_rps", (0.3, 3), ("rps_bce",))
    sigma = TunedOption("target_options#sigma", (1, 3), ("soft-gaussian",))
    assert tuned_options([], names) == default_tuning(names) == [weight, sigma]
    assert tuned_options([], ["soft", "soft-gaussian"]) == [sigma]
    assert tuned_options([], ["soft"]) == []
    overlay = json.loads((CONFIGS / "targets" / "soft-gaussian.json").read_text())
    assert overlay["target_options"]["sigma"] == 2


def test_tuning_is_switched_off_or_replaced() -> None:
    assert tuned_options(["none"], ["rps_bce"]) == []
    assert tuned_options(["lr=1"], ["rps_bce"]) == [TunedOption("lr", (1,))]
    assert tuned_options(["rps:lr=1"], ["rps_bce"]) == [TunedOption("lr", (1,), ("rps_bce",))]
    assert tuned_options(["rps:lr=1"], ["rps"]) == [TunedOption("lr", (1,), ("rps",))]
    with pytest.raises(ValueError, match=re.escape("must be given as [METHOD")):
        tuned_options(["none", "lr=1"], ["rps_bce"])


@pytest.mark.parametrize("text", ["rps", "rps:", "rps:mean", "soft:expected"])
def test_an_impossible_reference_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="The reference must be METHOD:RULE"):
        reference_of(text, ["rps"])


def test_a_reference_is_a_method_or_its_alias() -> None:
    assert reference_of("rps:majority", ["rps"]) == ("rps", "majority")
    assert reference_of("rps:majority", ["rps_bce"]) == ("rps_bce", "majority")
