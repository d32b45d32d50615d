# SPDX-License-Identifier: Apache-2.0
"""Agreement studies made from random numbers, for tests of the report: full, poor, awkward, and of one group."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from monai_multirater.agreement import factor_tests, omnibus_tests, plan_study, stochastic_dominance
from monai_multirater.studies.agreement.result import AgreementStudy, Gallery

AWKWARD = '<b onclick="x">O\'Brien & Söhne</b> $x_1$ {{ 7*7 }} 医師'
OTHERS = ("iou", "kappa", "sensitivity", "specificity", "volume_difference")
SURFACES = ("hausdorff", "hausdorff95", "assd", "surface_dice")
FEW_ARE_WITHOUT = ("iou", "specificity", "specificity_reverse", "volume_difference", "hausdorff95", "surface_dice")
GROUP = ("krippendorff_alpha", "conformity", "entropy")
PROBLEM_COLUMNS = ["kind", "case", "rater", "detail"]


def full_study(folder: Path, *, cases: int = 60, seed: int = 0) -> AgreementStudy:
    """Eight raters with tools and skills, two groups in which skill acts in opposite directions, every table filled."""
    raters = pd.DataFrame(
        {"rater": [f"R{i}" for i in range(1, 9)], "tool": list("TTTTUUUU"), "skill": list("ENENENEN")}
    )
    pairs, table = _measured(raters, cases=cases, present=5, seed=seed)
    tests = factor_tests(
        pairs,
        factors=["tool", "skill"],
        group="malignant",
        measures=["dice", "hausdorff95"],
        resamples=50,
        permutations=99,
    )
    problems = pd.DataFrame(
        [
            ("empty", "case003", "R2", "no voxel marked"),
            ("flipped", "case007", "R5", "flip axis 0: Dice 0.12 to 0.91"),
            ("duplicate", "case009", "R1, R3", "812 voxels"),
            ("outlier rater", "", "R8", "0.21 below the others"),
            *(("one rater", f"single{i}", "R4", "") for i in range(3)),
        ],
        columns=PROBLEM_COLUMNS,
    )
    request = {"manifest": "skin.json", "factors": ["tool", "skill"], "group": "malignant", "seed": 0}
    plan = plan_study(pairs, raters=(2, 5, 9), cases=(10, 100), resamples=100).to_dict("records")
    return AgreementStudy(
        name="Skin lesions", unit="mm", pairs=pairs, cases=table, raters=_raters(raters, pairs, seed), tests=tests,
        dominance=_dominance(pairs), mixed=_mixed(), problems=problems,
        summary={
            "plan": plan, "remarks": ["Nothing was left out."], "request": request, "version": "0.1.0",
            "group_column": "malignant",
        },
        galleries=_galleries(folder, table),
    )  # fmt: skip


def pair_table_study(*, cases: int = 12) -> AgreementStudy:
    """What an existing table of pairs gives: Dice, no surfaces, no ceiling, no pictures, nothing compared."""
    pairs, table = _measured(_plain(3), cases=cases, present=3, seed=1)
    pairs = pairs[["case", "rater_a", "rater_b", "dice"]]
    raters = pd.DataFrame({"rater": ["R1", "R2", "R3"], "cases": cases, "mean_dice": [0.7, 0.8, np.nan]})
    return AgreementStudy(
        name="Pairs", unit="voxels", pairs=pairs, cases=table[["case", "raters", "mean_dice", "min_dice"]],
        raters=raters, tests=pd.DataFrame(), dominance=pd.DataFrame(), mixed=pd.DataFrame(),
        problems=pd.DataFrame(columns=PROBLEM_COLUMNS),
    )  # fmt: skip


def awkward_study(folder: Path, *, seed: int = 3) -> AgreementStudy:
    """Sixteen raters with long names and special characters, many undefined values, 150 problems, a missing picture."""
    raters = _plain(16)
    raters["rater"] = [f"Dr. Bartholomew Featherstonehaugh-Cholmondeley (reader {i})" for i in range(1, 16)] + [AWKWARD]
    raters["tool <kind>"] = [f"{AWKWARD} {i % 2}" for i in range(16)]
    pairs, table = _measured(raters, cases=25, present=4, seed=seed, few=True)
    pairs.loc[::3, ["hausdorff", "assd", "dice"]] = np.nan
    pairs["kappa"] = np.nan
    table.loc[::4, ["mean_dice", "fleiss_kappa", "size"]] = np.nan
    table.loc[1, "case"] = AWKWARD
    tests = factor_tests(pairs, factors=["tool <kind>"], measures=["dice"], resamples=50, permutations=99)
    kinds = ["empty", "outlier mask", "unreadable"]
    problems = pd.DataFrame(
        [(kinds[i % 3], f"{AWKWARD}{i}", None if i % 2 else AWKWARD, np.nan) for i in range(150)],
        columns=PROBLEM_COLUMNS,
    )
    described = _raters(raters, pairs, seed).astype({"outlier": object})
    described.loc[0, ["ceiling_dice", "ceiling_dice_low", "size_bias", "outlier"]] = np.nan
    missing = Gallery(AWKWARD, folder / "missing.png", f"Outlines of {AWKWARD}")
    return AgreementStudy(
        name=AWKWARD, unit="voxels", pairs=pairs, cases=table, raters=described, tests=tests, dominance=pd.DataFrame(),
        mixed=_mixed().assign(term=AWKWARD, p=np.nan), problems=problems,
        summary={"remarks": ["A remark.", f"On {AWKWARD}."], "request": {AWKWARD: [1, None]}},
        galleries=(missing,),
    )  # fmt: skip


def one_group_study() -> AgreementStudy:
    """One case, two raters, one pair; tests without enough values."""
    pairs, table = _measured(_plain(2), cases=1, present=2, seed=4, few=True)
    values = pd.DataFrame([_empty_test(pairs)])
    return AgreementStudy(
        name="One case", unit="voxels", pairs=pairs, cases=table, raters=_raters(_plain(2), pairs, 4), tests=values,
        dominance=pd.DataFrame(), mixed=pd.DataFrame(), problems=pd.DataFrame(columns=PROBLEM_COLUMNS),
    )  # fmt: skip


def many_factors_study(*, seed: int = 10) -> AgreementStudy:
    """Skills with five levels, a group, and four factors of cases of which one goes with agreement."""
    raters = _plain(10).assign(skill=[f"S{i % 5}" for i in range(10)])
    pairs, table = _measured(raters, cases=60, present=4, seed=seed, few=True)
    generator = np.random.default_rng(seed)
    names = {"site": ["arm", "leg", "back", "head"], "sex": ["f", "m"], "device": ["D1", "D2"], "year": [1, 2, 3]}
    for name, levels in names.items():
        values = dict(zip(table["case"], generator.choice(levels, len(table)), strict=True))
        pairs[name], table[name] = pairs["case"].map(values), table["case"].map(values)
    pairs.loc[pairs["site"] == "leg", "dice"] /= 2
    factors = ["skill", *names]
    tests = factor_tests(pairs, factors=factors, group="malignant", resamples=50, permutations=99)
    drawn = pd.concat([_dominance(pairs), _dominance(pairs).assign(comparison="sex: f and m, pairs")])
    return AgreementStudy(
        name="Many factors", unit="voxels", pairs=pairs, cases=table, raters=_raters(raters, pairs, seed), tests=tests,
        dominance=drawn, mixed=pd.DataFrame(), problems=pd.DataFrame(columns=PROBLEM_COLUMNS),
        summary={"group_column": "malignant"}, omnibus=omnibus_tests(pairs, factors=["skill", "site", "year"]),
    )  # fmt: skip


def _plain(number: int) -> pd.DataFrame:
    return pd.DataFrame({"rater": [f"R{i}" for i in range(1, number + 1)]})


def _measured(
    raters: pd.DataFrame, *, cases: int, present: int, seed: int, few: bool = False
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Pairs and cases; skill and group act on the agreement together. ``few`` leaves out most measures."""
    generator = np.random.default_rng(seed)
    rows, table = [], []
    for index in range(cases):
        case, malignant = f"case{index:03d}", bool(index % 3 == 0)
        size = float(np.exp(generator.normal(7, 1)))
        chosen = raters.iloc[np.sort(generator.choice(len(raters), present, replace=False))]
        own = [
            {"case": case, "malignant": malignant, "size": size}
            | {f"{name}_a": a[name] for name in raters}
            | {f"{name}_b": b[name] for name in raters}
            for a, b in itertools.combinations(chosen.to_dict("records"), 2)
        ]
        for row in own:
            same = "skill_a" in row and row["skill_a"] == row["skill_b"]
            shift = (0.08 if same else -0.08) * (1 if malignant else -0.4)
            center = 0.78 + shift - 0.07 * malignant + 0.03 * (np.log(size) - 7)
            row.update(_values(float(np.clip(generator.normal(center, 0.12), 0, 1)), generator))
        rows += own
        table.append(_case(case, malignant, size, present, own, generator))
    pairs, cases_ = pd.DataFrame(rows).drop(columns="size"), pd.DataFrame(table)
    if not few:
        return pairs, cases_
    return pairs.drop(columns=list(FEW_ARE_WITHOUT)), cases_.drop(columns=list(GROUP))


def _values(dice: float, generator: np.random.Generator) -> dict[str, float]:
    distance = float(20 * (1 - dice) * generator.lognormal(0, 0.4))
    undefined = dice == 0
    return {
        "dice": dice, "iou": dice / (2 - dice), "kappa": dice - 0.02, "sensitivity": min(1.0, dice + 0.03),
        "sensitivity_reverse": max(0.0, dice - 0.05), "specificity": 0.99, "specificity_reverse": 0.98,
        "volume_difference": float(generator.normal(0, 0.2)),
        "hausdorff": np.nan if undefined else 2 * distance, "hausdorff95": np.nan if undefined else 1.5 * distance,
        "assd": np.nan if undefined else 0.4 * distance, "surface_dice": min(1.0, 0.9 * dice + 0.1),
        "volume_a": 100.0, "volume_b": 110.0,
    }  # fmt: skip


def _case(case: str, malignant: bool, size: float, present: int, own: list, generator: np.random.Generator) -> dict:
    frame = pd.DataFrame(own)
    mean = float(frame["dice"].mean())
    union = size * 1.4
    volumes = {f"volume_at_least_{k}": union * (1 - 0.45 * (k - 1) / present) for k in range(1, present + 1)}
    measures = {f"mean_{name}": float(frame[name].mean()) for name in ("dice", *OTHERS, *SURFACES)}
    return {
        "case": case, "raters": present, **measures, "min_dice": float(frame["dice"].min()),
        "fleiss_kappa": mean - 0.01, "krippendorff_alpha": mean - 0.01, "conformity": mean / (2 - mean),
        "entropy": float(generator.uniform(0.2, 0.6)), "size": size, "undefined_distances": 0,
        "malignant": malignant, **volumes,
    }  # fmt: skip


def _raters(raters: pd.DataFrame, pairs: pd.DataFrame, seed: int) -> pd.DataFrame:
    generator = np.random.default_rng(seed)
    n = len(raters)
    ceiling = generator.uniform(0.7, 0.9, n)
    means = [pairs.loc[(pairs["rater_a"] == r) | (pairs["rater_b"] == r), "dice"].mean() for r in raters["rater"]]
    return pd.DataFrame(
        {
            "rater": raters["rater"], "cases": 40, "empty_masks": generator.integers(0, 3, n), "mean_dice": means,
            "ceiling_dice": ceiling, "ceiling_dice_low": ceiling - 0.03, "ceiling_dice_high": ceiling + 0.02,
            "ceiling_sensitivity": ceiling + 0.02, "ceiling_specificity": 0.99,
            "size_bias": generator.normal(0, 0.1, n), "boundary_bias": generator.normal(0, 0.5, n),
            "outlier": [*([False] * (n - 1)), n > 2],
        }
    )  # fmt: skip


def _dominance(pairs: pd.DataFrame) -> pd.DataFrame:
    found = stochastic_dominance(
        pairs.loc[pairs["malignant"], "dice"], pairs.loc[~pairs["malignant"], "dice"], resamples=50
    )
    columns = {"value": found.grid, "first": found.first_cdf, "second": found.second_cdf}
    return pd.DataFrame({"comparison": "malignant: malignant and not malignant, pairs", "measure": "dice", **columns})


def _mixed() -> pd.DataFrame:
    rows = [("skill same", 0.021, 0.002, 0.041, 0.031), ("malignant", -0.048, -0.09, -0.006, 0.0004)]
    rows += [("variance of cases", 0.0081, np.nan, np.nan, np.nan)]
    table = pd.DataFrame(rows, columns=["term", "estimate", "low", "high", "p"])
    return table.assign(model="dice ~ skill + malignant + (1 | case)")[["model", *table]]


def _galleries(folder: Path, cases: pd.DataFrame) -> tuple[Gallery, ...]:
    worst = cases.sort_values("mean_dice").head(3)
    found = []
    for index, case in enumerate(worst["case"]):
        y, x = np.mgrid[0:220, 0:640]
        array = (128 + 60 * np.sin(x / (9 + index)) * np.cos(y / 13)).astype(np.uint8)
        path = folder / f"{case}.png"
        Image.fromarray(np.stack([array, array // 2, array // 3], -1)).save(path)
        found.append(
            Gallery(case, path, f"Case {case}: outlines of five raters and the map of votes, few of which overlap.")
        )
    return tuple(found)


def _empty_test(pairs: pd.DataFrame) -> dict:
    numbers = ("mean", "std", "median")
    row = {"analysis": "group", "factor": "site", "stratum": "all", "measure": "dice", "level": "pairs"}
    row |= {"first": "a", "second": "b", "n_first": len(pairs), "n_second": 0}
    row |= {f"{name}_{side}": np.nan for name in numbers for side in ("first", "second")}
    others = ("mann_whitney_u", "p_mann_whitney", "p_permutation", "p_holm", "cohens_d", "cliffs_delta")
    return row | dict.fromkeys((*others, "p_dominance_first", "p_dominance_second"), np.nan)
