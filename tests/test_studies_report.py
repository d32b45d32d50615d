# SPDX-License-Identifier: Apache-2.0
"""Tables and pictures of a comparison, from hand-made runs. References: plain loops over drawn cases, scikit-learn."""

import json
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import f1_score
from study_runs import RATERS, RULES, cases, evaluate, finished_run
from test_studies_formats import numbers, read_latex, read_markdown
from typer.testing import CliRunner

from monai_multirater import studies
from monai_multirater.cli import app
from monai_multirater.metrics import CaseStatistics
from monai_multirater.metrics.rows import RowLayout
from monai_multirater.resampling import case_weights
from monai_multirater.studies import Run, differences, tabulate
from monai_multirater.studies.evidence import Resampling, evaluations, own_rule, summarize
from monai_multirater.studies.layouts import protocol, row_names
from monai_multirater.studies.raters import CEILINGS, MEAN, rater_table
from monai_multirater.studies.report import write_report
from monai_multirater.studies.truth import closest_sentence, closest_to_truth

BUNDLE = Path(__file__).resolve().parents[1] / "bundles" / "rps"
CONSENSUS, OTHERS = CEILINGS["consensus"], CEILINGS["others"]
LAYOUT = RowLayout(5)
WEIGHTS = {"resamples": 40, "fraction": 0.6}


def drawn(count: int, number: int = 0) -> list[list[int]]:
    """Cases in each resample, as often as drawn; `number` is that of the data set."""
    weights = case_weights(count, **WEIGHTS, seed=np.random.default_rng([0, number])).astype(int)
    return [[case for case in range(count) for _ in range(draw[case])] for draw in weights]


def interval(values: Sequence[float]) -> tuple[float, float]:
    low, high = np.quantile([value for value in values if not np.isnan(value)], [0.025, 0.975])
    return float(low), float(high)


def mean(values: Sequence[float]) -> float:
    """Mean of the defined values, NaN without one."""
    defined = [value for value in values if not np.isnan(value)]
    return sum(defined) / len(defined) if defined else float("nan")


def brier(rows: list[np.ndarray]) -> float:
    """Brier score of the cases with these rows together."""
    errors = sum(row[LAYOUT["squared_error"]] for row in rows)
    return errors / sum(row[LAYOUT["positives"]] + row[LAYOUT["negatives"]] for row in rows)


def mr_ece(rows: list[np.ndarray]) -> float:
    """MR-ECE of the cases with these rows together."""
    gaps = sum(abs(sum(r[LAYOUT["votes"]][b] - r[LAYOUT["confidence"]][b] for r in rows)) for b in range(5))
    return gaps / sum(row[LAYOUT["pairs"]].sum() for row in rows)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[Run]:
    """Two methods, two seeds, two data sets of which one knows the truth; the second method uses the second rule."""
    folder = tmp_path_factory.mktemp("runs")
    return [
        finished_run(folder, method, seed, dataset=dataset, noise=noise, truth=dataset == "phantoms", own_rule=own)
        for dataset in ("skin", "phantoms")
        for method, noise, own in (("near", 0.02, None), ("far_off", 0.2, "majority"))
        for seed in (0, 1)
    ]


@pytest.fixture(scope="module")
def report(runs: list[Run], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Path]]:
    folder = tmp_path_factory.mktemp("report")
    return folder, write_report(runs, folder, reference=("near", "expected"), resamples=100)


def test_intervals_equal_a_loop_over_the_drawn_cases(runs: list[Run]) -> None:
    """Brier score and MR-ECE: sums of the drawn cases, averaged over two runs, in plain Python."""
    chosen = [run for run in runs if run.method == "near" and run.manifest.parent.name == "skin"]
    table = tabulate(chosen, scores=("brier", "mr_ece"), **WEIGHTS).set_index(["rule", "score"])
    for rule in RULES:
        loaded = [CaseStatistics.load(run.summary(rule).with_name("statistics.npz")) for run in chosen]
        for name, score in (("brier", brier), ("mr_ece", mr_ece)):
            values = [np.mean([score([s.rows[i] for i in draw]) for s in loaded]) for draw in drawn(7)]
            row = table.loc[rule, name]
            assert row["mean"] == pytest.approx(np.mean([score(list(s.rows)) for s in loaded]), rel=1e-9)
            assert (row["low"], row["high"]) == pytest.approx(interval(values), rel=1e-9)


def test_dice_with_each_rater_equals_a_loop(runs: list[Run]) -> None:
    """Dice by case, rater and run from the files, means over drawn cases and runs in plain Python."""
    chosen = [run for run in runs if run.manifest.parent.name == "skin"]
    table = rater_table(chosen, **WEIGHTS).set_index(["method", "rule", "rater"])
    files = {
        (r.method, r.seed, rule): pd.read_csv(r.summary(rule).with_name("dice.csv")) for r in chosen for rule in RULES
    }
    names = sorted({name for file in files.values() for name in file["case"]})
    for method in ("near", "far_off"):
        for rule in RULES:
            lines, means = [], []
            for rater in RATERS:
                each = [files[method, seed, rule].set_index(["rater", "case"])["model"][rater] for seed in (0, 1)]
                row = table.loc[method, rule, rater]
                assert row["mean"] == pytest.approx(np.mean([mean(list(values)) for values in each]), rel=1e-12)
                lines.append([np.mean([mean([v.get(names[i], np.nan) for i in d]) for v in each]) for d in drawn(7)])
                assert (row["low"], row["high"]) == pytest.approx(interval(lines[-1]), rel=1e-9)
                means.append(row["mean"])
            row = table.loc[method, rule, MEAN]
            assert row["mean"] == pytest.approx(np.mean(means), rel=1e-12)
            assert (row["low"], row["high"]) == pytest.approx(
                interval([mean(c) for c in zip(*lines, strict=True)]), rel=1e-9
            )
            assert row["runs"] == 2


def test_human_ceiling_equals_scikit_learn(runs: list[Run]) -> None:
    """Each rater with the strict majority of the others and with each of them, by ``f1_score``."""
    table = rater_table(runs, **WEIGHTS).set_index(["dataset", "method", "rater"]).sort_index()
    labels = cases(len("skin"), 7, truth=False)
    for index, rater in enumerate(RATERS):
        consensus, others = [], []
        for label in labels:
            planes, present = label["ratings"].numpy(), label["rater_mask"].numpy()
            if present[index]:
                rest = planes[present & (np.arange(3) != index)]
                consensus.append(f1_score((rest.mean(0) > 0.5).ravel(), planes[index].ravel(), zero_division=np.nan))
                others.append(np.mean([f1_score(other.ravel(), planes[index].ravel()) for other in rest]))
        assert table.loc["skin", CONSENSUS, rater]["mean"] == pytest.approx(mean(consensus))
        assert table.loc["skin", OTHERS, rater]["mean"] == pytest.approx(mean(others))
    assert list(table.loc["skin", OTHERS].index) == [*RATERS, MEAN]


def test_one_rater_has_no_ceiling(tmp_path: Path) -> None:
    table = rater_table([finished_run(tmp_path, "a", raters=("only",))], resamples=10)
    assert set(table["method"]) == {"a"}
    assert list(table["rater"]) == ["only", MEAN] * 2


def test_names_of_raters_and_cases_are_text(tmp_path: Path) -> None:
    """``NA``, ``007`` and ``1.0`` are names, not missing values or numbers."""
    run = finished_run(tmp_path, "a", raters=("NA", "007", "1.0"))
    labels = [{**label, "case": f"0{index}"} for index, label in enumerate(cases(3, 4, truth=False))]
    for rule in RULES:
        outputs = [{"pred": label["votes"] / 3, "label": label} for label in labels]
        evaluate(outputs, run.summary(rule).parent, ("NA", "007", "1.0"))
    dice = evaluations([run])[0].dice()
    assert dice is not None
    assert dice.cases == ("00", "01", "02", "03")
    assert dice.raters == ("NA", "007", "1.0")
    assert list(rater_table([run], resamples=5)["rater"][:4]) == ["NA", "007", "1.0", MEAN]


def test_all_files_are_there_and_whole(report: tuple[Path, list[Path]]) -> None:
    folder, paths = report
    triples = ["table_mr_ece", "table_auc", "table_scores_skin", "table_scores_phantoms", "raters", "differences"]
    names = {f"{name}.{ending}" for name in triples for ending in ("csv", "md", "tex")}
    names |= {"scores.csv", "skin.md", "phantoms.md", "truth.csv", "reliability_skin.png", "reliability_phantoms.png"}
    assert {path.name for path in paths} == names
    assert {path.name for path in folder.iterdir()} == names
    assert (folder / "reliability_skin.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("score", ["mr_ece", "auc"])
def test_the_papers_tables_show_the_scores(score: str, runs: list[Run], report: tuple[Path, list[Path]]) -> None:
    """Every cell of CSV, Markdown and LaTeX is the value of ``scores.csv``, rounded; the best method is bold."""
    folder, _ = report
    values = pd.read_csv(folder / "scores.csv", keep_default_na=False).set_index(["dataset", "method", "rule", "score"])
    numbers_csv = pd.read_csv(folder / f"table_{score}.csv")
    keys = [("near", "expected"), ("far_off", "expected"), ("far_off", "majority"), ("single rater (mean, range)", "")]
    shown = ["near", "far_off (expected)", "far_off (majority)", "single rater (mean, range)"]
    assert numbers_csv["method"].tolist() == shown
    markdown = read_markdown((folder / f"table_{score}.md").read_text())
    (latex,) = read_latex((folder / f"table_{score}.tex").read_text())
    assert markdown[0] == latex[0] == ["method", "skin", "phantoms"]
    factor, places = (1, 4) if score == "auc" else (1000, 1)
    for index, key in enumerate(keys):
        for place, dataset in enumerate(("skin", "phantoms")):
            row = values.loc[(dataset, *key, score)]
            exact = [float(row[name]) for name in ("mean", "low", "high")]
            assert numbers_csv.loc[index, [dataset, f"{dataset}_low", f"{dataset}_high"]].tolist() == exact
            for form in (markdown, latex):
                found = numbers(form[1 + index][1 + place])
                assert found == pytest.approx([factor * value for value in exact], abs=0.5001 * 10**-places)
    bold = [line for line in (folder / f"table_{score}.md").read_text().splitlines() if "**" in line]
    assert [line.split(" | ")[0] for line in bold] == ["| near"]
    assert "runs: 2; manifests: 1; training seeds: 0, 1" in (folder / f"table_{score}.md").read_text()
    assert r"B = 100 resamples of 60 \% of the test cases" in (folder / f"table_{score}.tex").read_text()


def test_tables_of_a_data_set_hold_dice_and_truth_where_known(report: tuple[Path, list[Path]]) -> None:
    folder, _ = report
    skin = read_markdown((folder / "table_scores_skin.md").read_text())
    assert skin[0] == ["method", "Brier x 1000", "NLL x 1000", "Dice, each rater", "Dice, majority"]
    phantoms = read_markdown((folder / "table_scores_phantoms.md").read_text())
    assert phantoms[0][5:] == ["truth Brier x 1000", "truth MAE x 1000", "truth calibration x 1000"]
    raters = pd.read_csv(folder / "raters.csv").set_index(["dataset", "method", "rater"])
    human = np.mean([raters.loc[("skin", OTHERS, rater), "mean"].item() for rater in RATERS])
    assert numbers(skin[-1][3])[0] == pytest.approx(human, abs=0.00051)
    (latex,) = read_latex((folder / "table_scores_phantoms.tex").read_text())
    assert [row[1:] for row in latex[1:]] == [row[1:] for row in phantoms[1:]]


def test_raters_and_differences_stand_in_sections(report: tuple[Path, list[Path]]) -> None:
    folder, _ = report
    sections = (folder / "raters.md").read_text().split("## ")[1:]
    tables = read_latex((folder / "raters.tex").read_text())
    table = pd.read_csv(folder / "raters.csv", keep_default_na=False)
    for dataset, section, latex in zip(("skin", "phantoms"), sections, tables, strict=True):
        rows = read_markdown(section)
        assert rows[0] == ["method", *RATERS, MEAN]
        assert [row[1:] for row in latex[1:]] == [row[1:] for row in rows[1:]]
        here = table[(table["dataset"] == dataset) & (table["method"] == CONSENSUS)]
        assert [numbers(cell)[0] for cell in rows[4][1:]] == pytest.approx(here["mean"].tolist(), abs=0.00051)
    found = pd.read_csv(folder / "differences.csv")
    first = read_markdown((folder / "differences.md").read_text().split("## ")[1])
    assert first[1][:2] == ["near", "majority"]
    row = found[(found["rule"] == "majority") & (found["score"] == "brier")].iloc[0]
    cell = first[1][first[0].index("Brier x 1000")]
    assert numbers(cell) == pytest.approx([1000 * row[name] for name in ("difference", "low", "high")], abs=0.051)
    assert cell.startswith("+")
    assert "B = 10000" in (folder / "differences.md").read_text()


def test_the_closest_to_the_truth_is_named(runs: list[Run], report: tuple[Path, list[Path]]) -> None:
    """The interval of the paired difference by a loop over drawn cases; the sentence says what the table says."""
    phantoms = [run for run in runs if run.manifest.parent.name == "phantoms"]
    summaries = summarize(evaluations(phantoms), Resampling(**WEIGHTS))
    table = closest_to_truth(summaries, row_names(phantoms)).set_index("score")
    row = table.loc["truth_brier"]
    assert row[["closest", "runner_up", "distinguishable", "similar"]].tolist() == [
        "near",
        "far_off (expected)",
        True,
        "",
    ]
    gaps = []
    for draw in drawn(7):
        each = []
        for run in phantoms:
            rows = CaseStatistics.load(run.summary("expected").with_name("statistics.npz")).rows[draw]
            error = rows[:, LAYOUT["truth_squared"]].sum() / rows[:, LAYOUT["truth_voxels"]].sum()
            each.append(error if run.method == "far_off" else -error)
        gaps.append(sum(each) / 2)
    assert (row["low"], row["high"]) == pytest.approx(interval(gaps), rel=1e-9)
    page = (report[0] / "phantoms.md").read_text()
    assert page.count("Closest to the true vote probability: **near**") == 3
    assert "(Brier against truth x 1000:" in page
    assert "; the next, far_off (expected), is worse by +" in page
    assert "Closest" not in (report[0] / "skin.md").read_text()


def test_equal_methods_are_not_distinguished(tmp_path: Path) -> None:
    """The second method has the files of the first: all differences are 0."""
    run = finished_run(tmp_path, "a", truth=True)
    twin = replace(run, overlay=run.overlay.with_name("b.json"))
    summaries = summarize(evaluations([run, twin]), Resampling(**WEIGHTS))
    table = closest_to_truth(summaries, {("a", "expected"): "a", ("b", "expected"): "b"})
    assert table[["difference", "low", "high"]].to_numpy().tolist() == [[0.0] * 3] * 3
    assert not table["distinguishable"].any()
    sentence = closest_sentence(table.iloc[0].to_dict())
    assert "but not distinguishable from the next, b, whose difference +0.00 [+0.00, +0.00] includes 0." in sentence
    alone = closest_to_truth(summaries, {("a", "expected"): "a"})
    assert closest_sentence(alone.iloc[0].to_dict()).endswith("; nothing else was compared.")


def test_old_evaluations_are_tabulated_without_dice_by_rater(tmp_path: Path) -> None:
    """Evaluations of earlier versions have no ``dice.csv`` and no Dice among the raters; runs had no ``run.json``."""
    run = finished_run(tmp_path, "a", own_rule="majority")
    (run.directory / "run.json").unlink()
    for rule in RULES:
        (run.summary(rule).parent / "dice.csv").unlink()
        content = json.loads(run.summary(rule).read_text())
        for who in [f"rater {name}" for name in RATERS]:
            del content["scores"][who]["dice_raters"]
        run.summary(rule).write_text(json.dumps(content))
    names = {path.name for path in write_report([run], tmp_path / "out", resamples=10)}
    assert "raters.csv" not in names
    found = pd.read_csv(tmp_path / "out" / "differences.csv")
    assert set(found["rule"]) == {"expected"}, "the reference is the first method with its own rule"
    rows = read_markdown((tmp_path / "out" / "table_scores_skin.md").read_text())
    assert [row[0] for row in rows[1:3]] == ["a (expected)", "a (majority)"]
    assert len(numbers(rows[1][3])) == 3
    assert rows[-1][3] == ""
    assert len(numbers(rows[-1][4])) == 3


def test_the_rule_is_that_of_the_run(tmp_path: Path) -> None:
    """What the run was asked for counts, not what the overlay says later."""
    run = finished_run(tmp_path, "a", own_rule="majority", count=3)
    run.overlay.write_text("{}")
    assert own_rule(run) == "majority"
    (run.directory / "run.json").unlink()
    assert own_rule(run) == "expected"


def test_protocol_counts_runs_manifests_and_seeds(tmp_path: Path) -> None:
    run = Run(tmp_path / "a" / "m.json", tmp_path / "x.json", 0, tmp_path)
    more = [run, replace(run, seed=2), replace(run, manifest=tmp_path / "b" / "m.json")]
    text = protocol(more, Resampling(500, 0.5))
    assert "(runs: 1 to 2; manifests: 1; training seeds: 0, 2)" in text
    assert text.endswith("B = 500 resamples of 50 % of the test cases.")


def test_differences_to_the_only_row_are_none(tmp_path: Path) -> None:
    run = finished_run(tmp_path, "a", count=3)
    other = run.summary("majority").parent
    for file in other.iterdir():
        file.write_bytes((run.summary("expected").parent / file.name).read_bytes())
    assert not len(differences([run], ("a", "expected"), scores=("no_such_score",), resamples=5))


def test_calibrated_evaluations_are_methods_of_their_own(tmp_path: Path) -> None:
    """A copy of each evaluation stands for the calibrated one: its rows come behind those of the method, and equal."""
    runs = [
        replace(finished_run(tmp_path, method, own_rule=own), calibrations=("temperature",))
        for method, own in (("a", None), ("b", "majority"))
    ]
    for run in runs:
        for rule in RULES:
            shutil.copytree(run.summary(rule).parent, run.summary(rule, "temperature").parent)
    write_report(runs, tmp_path / "report", resamples=10)
    rows = read_markdown((tmp_path / "report" / "table_mr_ece.md").read_text())[1:]
    names = ["a", "a + temperature", "b (expected)", "b (majority)"]
    names += ["b + temperature (expected)", "b + temperature (majority)"]
    assert [row[0] for row in rows[:-1]] == names
    assert [rows[index][1] for index in (0, 2, 3)] == [rows[index][1] for index in (1, 4, 5)]
    assert "a + temperature" in pd.read_csv(tmp_path / "report" / "raters.csv")["method"].tolist()


def test_the_command_writes_the_report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runs = [finished_run(tmp_path, method) for method in ("soft", "majority")]
    monkeypatch.setattr(studies, "compare_objectives", lambda *_, **__: runs)
    arguments = ["compare", "m.json", "--methods", "soft,majority", "--out", str(tmp_path / "out")]
    result = CliRunner().invoke(app, [*arguments, "--bundle", str(BUNDLE), "--reference", "majority:expected"])
    assert result.exit_code == 0, result.output
    assert "table_mr_ece.tex" in result.output.replace("\n", "")
    assert set(pd.read_csv(tmp_path / "out" / "differences.csv")["method"]) == {"soft", "majority"}
    assert "Differences to majority:expected on skin" in (tmp_path / "out" / "differences.md").read_text()
