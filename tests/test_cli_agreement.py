# SPDX-License-Identifier: Apache-2.0
"""The commands agreement and plan. Reference: the studies that they call."""

import re
from pathlib import Path

import pandas as pd
import pytest
from fusing_data import make_dataset
from typer.testing import CliRunner, Result

from monai_multirater.cli import app

QUICK = ("--no-report", "--pictures", "0")


def _run(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def _text(result: Result) -> str:
    return re.sub(r"\s+", " ", re.sub(r"\x1b\[[0-9;]*m", "", result.output))


def test_tables_are_written_and_the_main_numbers_shown(tmp_path: Path) -> None:
    manifest, out = make_dataset(tmp_path, suffix=".png", shape=(40, 32), cases=5), tmp_path / "out"
    result = _run("agreement", manifest, "--out", out, "--pictures", "1")
    assert result.exit_code == 0, result.output
    text = _text(result)
    assert "15 pairs of 5 cases, 3 raters; distances in voxels" in text
    assert re.search(r"5 cases in \d+\.\d s: reading \d+ %, overlap \d+ %, surfaces \d+ %, raters \d+ %, writing", text)
    mean = pd.read_csv(out / "pairs.csv")["dice"].mean()
    assert re.search(rf"dice \W* {mean:.3f}", text)
    for name in ("pairs.csv", "ceiling.csv", "plan.csv", "agreement.json", "report.html"):
        assert (out / name).is_file()
        assert f"{out}/{name}" in result.output.replace("\n", "")
    again = _run("agreement", manifest, "--out", out, *QUICK)
    assert "5 were measured before" in _text(again)
    assert not (out / "report.html").exists()


def test_options_reach_the_study(tmp_path: Path) -> None:
    manifest, out = make_dataset(tmp_path, suffix=".png", shape=(40, 32), cases=6), tmp_path / "out"
    table = "key,kind\n" + "".join(f"c{k},{'xy'[k % 2]}\n" for k in range(6))
    (tmp_path / "kinds.csv").write_text(table)
    result = _run(
        "agreement", manifest, "--out", out, *QUICK, "--measure", "overlap", "--size", "20x16", "--factors",
        tmp_path / "kinds.csv", "--factor-key", "key", "--factor", "kind", "--group", "kind=x", "--test", "iou",
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    tests = pd.read_csv(out / "tests.csv")
    assert (set(tests["measure"]), set(tests["first"])) == ({"iou"}, {"x"})
    assert "hausdorff" not in pd.read_csv(out / "pairs.csv")


def test_an_existing_table_of_pairs_and_a_plan(tmp_path: Path) -> None:
    rows = "".join(f"i{k}.png,a,{b},0.{5 + (k + len(b)) % 5},{k % 2}\n" for k in range(8) for b in ("b", "ST"))
    (tmp_path / "pairs.csv").write_text("image,one,two,dice,kind\n" + rows)
    columns = ("--case-column", "image", "--rater-columns", "one,two", "--exclude", "ST")
    out = tmp_path / "out"
    arguments = ("--from-pairs", tmp_path / "pairs.csv", *columns, "--out", out, "--group", "kind", *QUICK)
    result = _run("agreement", *arguments)
    assert result.exit_code == 0, result.output
    assert "8 pairs of 8 cases, 2 raters" in _text(result)
    assert "8 of 16 rows name ST and are left out." in _text(result)
    plan = _run("plan", out, "--width", "0.1", "--raters", "2", "--raters", "3")
    assert plan.exit_code == 0, plan.output
    assert "not available" in _text(plan)  # three raters


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("agreement", "--out", "{out}"), "agreement: give a manifest or --from-pairs, one of them."),
        (("agreement", "{manifest}", "--out", "{out}", "--size", "wide"), "--size must be N or HxW"),
        (
            ("agreement", "{manifest}", "--out", "{out}", "--group", "sex"),
            "group must name a factor of cases. Got 'sex'",
        ),
        (("agreement", "{manifest}", "--out", "{out}", "--factors", "{out}/no.csv"), "no.csv"),
        (("agreement", "--from-pairs", "{out}/no.csv", "--out", "{out}"), "No such file"),
        (
            ("agreement", "--from-pairs", "{out}/no.csv", "--out", "{out}", "--size", "8"),
            "agreement: --size is an option of a manifest only.",
        ),
        (
            ("agreement", "{manifest}", "--out", "{out}", "--rater-columns", "a,b"),
            "agreement: --rater-columns is an option of --from-pairs only.",
        ),
        (("plan", "{out}"), "must hold a finished agreement study. There is no pairs.csv."),
    ],
    ids=["nothing", "size", "group", "factors", "pairs", "of-masks", "of-pairs", "plan"],
)
def test_errors_are_one_message_and_exit_status_1(tmp_path: Path, arguments: tuple[str, ...], message: str) -> None:
    manifest = make_dataset(tmp_path, suffix=".png", shape=(40, 32))
    result = _run(*(a.format(manifest=manifest, out=tmp_path / "out") for a in arguments))
    assert result.exit_code == 1
    assert _text(result).count("Error") == 1
    assert message in _text(result)
    assert "Traceback" not in result.output


def test_an_unreadable_mask_is_named_at_the_end_and_all_else_is_written(tmp_path: Path) -> None:
    manifest, out = make_dataset(tmp_path, suffix=".png", shape=(40, 32)), tmp_path / "out"
    (tmp_path / "ben" / "c1.png").write_bytes(b"no picture")
    result = _run("agreement", manifest, "--out", out, *QUICK)
    assert result.exit_code == 1
    said = "Error agreement: 1 problem; all else is measured and written: - case c1, rater ben: ben/c1.png"
    assert said in _text(result)
    assert len(pd.read_csv(out / "pairs.csv")) == 10


@pytest.mark.parametrize("command", ["agreement", "plan"])
def test_help_shows_examples(command: str) -> None:
    result = _run(command, "--help")
    assert result.exit_code == 0
    assert f"monai-multirater {command} lesions/" in _text(result)
