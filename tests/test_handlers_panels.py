# SPDX-License-Identifier: Apache-2.0
"""Pictures of validation cases. Reference: TensorBoard's own reader of what was written."""

from pathlib import Path
from typing import Any

import pytest
import torch
from ignite.engine import Engine, Events
from matplotlib.figure import Figure
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from monai_multirater.handlers import TensorBoardPanels
from monai_multirater.visualize import case_figure

CASES = ["a", "b", "c", "d"]


def outputs(names: list[str], *, missing: bool) -> tuple[list[Any], list[Any]]:
    """Decollated batch and output, as MONAI's evaluator leaves them."""
    generator = torch.Generator().manual_seed(0)
    batch, found = [], []
    for name in names:
        image = torch.rand(3, 16, 16, generator=generator)
        label: dict[str, Any] = {"ratings": (torch.rand(3, 16, 16, generator=generator) > 0.5).to(torch.uint8)}
        if missing:
            label["rater_mask"] = torch.tensor([True, False, True])
        else:
            label["truth"] = torch.rand(1, 16, 16, generator=generator) if name != "b" else None
        batch.append({"image": image, "case": name})
        found.append({"image": image, "pred": torch.rand(1, 16, 16, generator=generator), "label": label})
    return batch, found


def run(panels: TensorBoardPanels, epochs: list[int], *, missing: bool = False) -> None:
    engine = Engine(lambda *_: None)

    def fill(running: Engine) -> None:
        first = 2 * (running.state.iteration - 1) % 4
        running.state.batch, running.state.output = outputs(CASES[first : first + 2], missing=missing)

    engine.add_event_handler(Events.ITERATION_COMPLETED, fill)
    panels.attach(engine)
    for epoch in epochs:
        start = engine.add_event_handler(Events.STARTED, lambda e, epoch=epoch: setattr(e.state, "epoch", epoch - 1))
        engine.run([0, 1], max_epochs=epoch, epoch_length=2)
        start.remove()


def written(folder: Path) -> dict[str, list[int]]:
    reader = EventAccumulator(str(folder), size_guidance={"images": 0}).Reload()
    return {tag: [event.step for event in reader.Images(tag)] for tag in reader.Tags()["images"]}


@pytest.mark.parametrize("missing", [False, True], ids=["all-raters", "missing-rater"])
def test_the_first_cases_are_drawn_in_the_first_and_every_nth_epoch(tmp_path: Path, missing: bool) -> None:
    run(TensorBoardPanels(str(tmp_path), figure=case_figure, cases=3, interval=2), [1, 2, 3, 4], missing=missing)
    assert written(tmp_path) == {f"validation/{name}": [1, 2, 4] for name in "abc"}


def test_the_figure_gets_what_the_case_has(tmp_path: Path) -> None:
    calls: list[dict[str, Any]] = []

    def figure(image: torch.Tensor, ratings: torch.Tensor, **options: Any) -> Figure:
        calls.append({"image": image.shape, "ratings": ratings.shape, **options})
        return Figure()

    run(TensorBoardPanels(str(tmp_path), figure=figure, cases=1), [1], missing=True)
    assert len(calls) == 1
    assert calls[0]["image"] == (3, 16, 16)
    assert calls[0]["probability"].shape == (1, 16, 16)
    assert calls[0]["truth"] is None
    assert calls[0]["rater_mask"].tolist() == [True, False, True]
    assert calls[0]["title"] == "a"


def test_other_ranks_write_nothing(tmp_path: Path) -> None:
    run(TensorBoardPanels(str(tmp_path), figure=case_figure, disable=True), [1])
    assert not list(tmp_path.iterdir())
