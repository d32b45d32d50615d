# SPDX-License-Identifier: Apache-2.0
"""A comparison under torchrun, and one whose processes are killed. References: the same comparison by one process."""

import json
import signal
import subprocess
from pathlib import Path

import bundle_runs as bundle
import pandas as pd
import pytest

from monai_multirater.data import make_phantoms
from monai_multirater.studies import compare_objectives, method_overlays

pytestmark = pytest.mark.slow
TINY = {"spatial_size": [32, 32], "augment": [], "network_options": {"channels": [4, 8]}}


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Manifest of 8 phantoms of 32 x 32 with 3 raters."""
    folder = tmp_path_factory.mktemp("data") / "skin"
    return make_phantoms(folder, cases=8, size=32, raters=3, splits=(0.5, 0.25, 0.25), progress=False)


def compare(manifest: Path, root: Path, *words: str, ranks: int = 1) -> subprocess.CompletedProcess[str]:
    """Run the command as a user would; several ranks by torchrun."""
    root.mkdir(exist_ok=True)
    (root / "tiny.json").write_text(json.dumps(TINY))
    words = ("compare", str(manifest), "--out", str(root / "out"), "--bundle", str(bundle.BUNDLE), *words)
    words = (*words, "--epochs", "1", "--overlay", str(root / "tiny.json"))
    if ranks == 1:
        return bundle.shell(words, root, module="monai_multirater.cli", environment={"COLUMNS": "300"})
    launch = ("--standalone", f"--nproc_per_node={ranks}", "-m", "monai_multirater.cli")
    return bundle.shell([*launch, *words], root, module="torch.distributed.run", environment={"COLUMNS": "300"})


def test_ranks_share_the_runs_and_give_the_same_tables(manifest: Path, tmp_path: Path) -> None:
    words = ("--methods", "rps,staple", "--tune", "none")
    alone, shared = compare(manifest, tmp_path / "one", *words), compare(manifest, tmp_path / "two", *words, ranks=2)
    assert alone.returncode == 0, alone.stderr
    assert shared.returncode == 0, shared.stderr
    tables = [(tmp_path / side / "out" / "scores.csv").read_text() for side in ("one", "two")]
    assert tables[0] == tables[1]
    assert set(pd.read_csv(tmp_path / "two" / "out" / "scores.csv")["method"]) >= {"rps_bce", "staple"}
    assert shared.stdout.count("objectives/rps_bce.json") == shared.stdout.count("scores.csv") == 1
    logs = list((tmp_path / "two" / "out").rglob("log.txt"))
    assert len(logs) == 2
    models = [json.loads(path.read_text()) for path in (tmp_path / "two" / "out").rglob("model.json")]
    assert {model["objective"] for model in models} == {"rps_bce", "consensus"}


def test_a_failure_on_one_rank_ends_all_after_the_others_are_done(manifest: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken.json"
    broken.write_text('{"objective": "no_such_objective"}')
    result = compare(manifest, tmp_path, "--methods", f"corn,{broken}", ranks=2)
    assert result.returncode != 0
    assert "objective must be one of" in result.stderr
    assert (tmp_path / "out" / "corn" / "skin-manifest-0" / "eval_expected" / "summary.json").is_file()
    assert not (tmp_path / "out" / "scores.csv").exists()


def test_a_killed_run_is_tried_again_and_takes_no_other_with_it(manifest: Path, tmp_path: Path) -> None:
    def dying(name: str, unless: str) -> Path:
        """Overlay that kills the process that trains with it."""
        kill = f"(pathlib.Path({str(marker)!r}).touch(), os.kill(os.getpid(), {int(signal.SIGKILL)}))"
        (tmp_path / f"{name}.json").write_text(
            json.dumps({"objective": "soft", "batch_size": f"$4 if {unless} else {kill}"})
        )
        return tmp_path / f"{name}.json"

    marker = tmp_path / "marker"
    once = dying("once", f"os.path.exists({str(marker)!r})")
    overlays = [once, dying("always", "False"), *method_overlays(bundle.BUNDLE, ["corn"])]
    out, options = tmp_path / "out", {**TINY, "max_epochs": 1}
    with pytest.raises(RuntimeError, match=r"1 of 3 runs failed:\n.*always.*died 2 times") as failure:
        compare_objectives([manifest], overlays, bundle=bundle.BUNDLE, out=out, options=options)
    assert "out/once" not in str(failure.value)
    done = {path.parents[2].name for path in out.rglob("eval_majority/summary.json")}
    assert done == {"once", "corn"}
