# SPDX-License-Identifier: Apache-2.0
"""What the README says must work: its Python runs, its commands and links exist."""

import re
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).resolve().parents[1]
PAGES = ("README.md", "bundles/rps/docs/README.md", "CONTRIBUTING.md")


def test_python_example_runs(capsys: pytest.CaptureFixture[str]) -> None:
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    assert len(blocks) == 1
    torch.manual_seed(0)
    exec(compile(blocks[0], "README.md", "exec"), {})
    error, auc = (float(value) for value in capsys.readouterr().out.split())
    assert 0 <= error <= 1
    assert 0 <= auc <= 1


def test_the_two_commands_install_then_train_or_test() -> None:
    blocks = re.findall(r"```bash\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    assert len(blocks) == 2, "the check script takes the first to train and the second to test"
    assert "monai.bundle run training" in blocks[0]
    assert "pytest" in blocks[1]


@pytest.mark.parametrize("page", PAGES)
def test_files_that_are_mentioned_exist(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    linked = [link for link in re.findall(r"\]\(([^)#]+)\)", text) if "://" not in link]
    missing = [link for link in linked if not ((ROOT / page).parent / link).exists()]
    configs = [name for name in re.findall(r"bundles/rps/configs/[\w/.]+\.json", text) if not (ROOT / name).is_file()]
    assert not missing + configs
