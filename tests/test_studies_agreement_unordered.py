# SPDX-License-Identifier: Apache-2.0
"""Means that do not depend on who is named first. Reference: NumPy on the masks, and the same raters renamed."""

import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from fusing_data import make_dataset, planes

from monai_multirater.agreement.measures import MEASURES
from monai_multirater.studies.agreement import agreement_from_pairs, agreement_study
from monai_multirater.studies.agreement.unordered import has_unordered, unordered, unordered_values

QUICK: dict[str, Any] = {"report": False, "pictures": 0, "resamples": 20, "permutations": 20, "measures": "overlap"}
ORDERED = ("sensitivity", "specificity", "volume_difference")


def test_which_measures_have_an_order() -> None:
    assert tuple(name for name, measure in MEASURES.items() if not measure.symmetric) == ORDERED


def test_values_are_those_of_both_orders_of_the_masks(tmp_path: Path) -> None:
    manifest = make_dataset(tmp_path, cases=4)
    study = agreement_study(manifest, out=tmp_path / "out", **QUICK)
    found = unordered(study.pairs)
    for index, row in study.pairs.iterrows():
        masks = {name: mask.astype(bool) for name, mask in planes(manifest, row["case"]).items()}
        x, y = masks[row["rater_a"]], masks[row["rater_b"]]
        one, other = (x & y).sum() / y.sum(), (x & y).sum() / x.sum()
        assert (row["sensitivity"], row["sensitivity_reverse"]) == pytest.approx((one, other))
        assert found.loc[index, "sensitivity"] == pytest.approx((one + other) / 2)
        specific = ((~x & ~y).sum() / (~y).sum(), (~x & ~y).sum() / (~x).sum())
        assert found.loc[index, "specificity"] == pytest.approx(np.mean(specific))
        relative = 2 * (int(x.sum()) - int(y.sum())) / (int(x.sum()) + int(y.sum()))
        assert row["volume_difference"] == pytest.approx(relative)
        assert found.loc[index, "volume_difference"] == pytest.approx(abs(relative))
    means = found.groupby("case", sort=False)[list(ORDERED)].mean()
    for name in ORDERED:
        np.testing.assert_allclose(study.cases[f"mean_{name}"], means[name])
        assert study.summary["measures"][name]["mean"] == pytest.approx(found[name].mean())


def test_another_order_of_the_raters_gives_the_same_summary(tmp_path: Path) -> None:
    manifest = make_dataset(tmp_path, cases=4)
    content = json.loads(manifest.read_text())
    other = tmp_path / "other.json"
    other.write_text(json.dumps(content | {"raters": content["raters"][::-1]}))
    one, two = (agreement_study(path, out=tmp_path / path.stem, **QUICK) for path in (manifest, other))
    assert one.pairs["volume_difference"].mean() == pytest.approx(-two.pairs["volume_difference"].mean())
    for name in ORDERED:
        assert one.summary["measures"][name]["mean"] == pytest.approx(two.summary["measures"][name]["mean"])


def test_a_table_with_one_order_is_not_summarized(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    names = list(itertools.combinations("abc", 2))
    rows = [(f"c{k}", a, b, *rng.random(4)) for k in range(6) for a, b in names]
    columns = ["case", "rater_a", "rater_b", "dice", "sensitivity", "sensitivity_reverse", "volume_difference"]
    table = pd.DataFrame(rows, columns=columns)
    table.to_csv(tmp_path / "both.csv", index=False)
    table.drop(columns="sensitivity_reverse").to_csv(tmp_path / "one.csv", index=False)
    options = {"report": False, "resamples": 20, "permutations": 20}
    one = agreement_from_pairs(tmp_path / "one.csv", out=tmp_path / "one", **options)
    assert {"sensitivity", "volume_difference"} <= set(one.pairs)
    assert set(one.summary["measures"]) == {"dice"}
    assert not {"mean_sensitivity", "mean_volume_difference"} & set(one.cases)
    assert not has_unordered(one.pairs, "sensitivity")
    both = agreement_from_pairs(tmp_path / "both.csv", out=tmp_path / "both", **options)
    expected = (table["sensitivity"] + table["sensitivity_reverse"]) / 2
    np.testing.assert_allclose(unordered_values(both.pairs, "sensitivity"), expected)
    with pytest.raises(ValueError, match=r"tested must name measures of pairs. Got 'sensitivity'"):
        agreement_from_pairs(tmp_path / "one.csv", out=tmp_path / "one", tested=["sensitivity"], **options)
