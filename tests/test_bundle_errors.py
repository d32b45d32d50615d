# SPDX-License-Identifier: Apache-2.0
"""Bad input ends in one message that names case, rater, path and reason, before anything is written."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import bundle_runs as bundle
import nibabel as nib
import numpy as np
import pytest
from monai.bundle import run as run_bundle
from PIL import Image

from monai_multirater.losses import OBJECTIVES

Content = dict[str, Any]
FUSED: Content = {"objective": "consensus", "target": "staple"}
FLIP = {"_target_": "monai.transforms.RandFlipd", "keys": ["image", "votes"], "prob": 0.5}


@pytest.fixture
def copy_2d(phantoms_2d: Path, tmp_path: Path) -> Path:
    shutil.copytree(phantoms_2d.parent, tmp_path / "data")
    return tmp_path / "data" / "manifest.json"


@pytest.fixture
def copy_3d(phantoms_3d: Path, tmp_path: Path) -> Path:
    shutil.copytree(phantoms_3d.parent, tmp_path / "data")
    return tmp_path / "data" / "manifest.json"


def edit(manifest: Path, change: Callable[[Content], Any]) -> None:
    content = json.loads(manifest.read_text())
    change(content)
    manifest.write_text(json.dumps(content))


def mask_of(manifest: Path, split: str = "training", index: int = 0) -> tuple[str, str, Path]:
    """Case, first rater and absolute path of the rater's mask."""
    case = json.loads(manifest.read_text())[split][index]
    rater, path = next(iter(case["ratings"].items()))
    return case["case"], rater, manifest.parent / path


def remove_mask(manifest: Path) -> str:
    case, rater, path = mask_of(manifest)
    path.unlink()
    return f"case {case}, rater {rater}, {rater}/{path.name}: is missing"


def shrink_mask(manifest: Path) -> str:
    case, rater, path = mask_of(manifest)
    Image.fromarray(np.zeros((64, 63), np.uint8)).save(path)
    return f"case {case}, rater {rater}, {rater}/{path.name}: has shape (64, 63), its image has (64, 64)"


def gray_mask(manifest: Path) -> str:
    case, rater, path = mask_of(manifest, "test")
    Image.fromarray(np.arange(64 * 64, dtype=np.uint8).reshape(64, 64)).save(path)
    return f"case {case}, rater {rater}, {rater}/{path.name}: is not binary"


def truncate_image(manifest: Path) -> str:
    path = manifest.parent / "images" / "p001.png"
    path.write_bytes(path.read_bytes()[:200])
    return "case p001, images/p001.png: cannot be read (damaged or truncated?)"


def gray_image(manifest: Path) -> str:
    Image.fromarray(np.zeros((64, 64), np.uint8)).save(manifest.parent / "images" / "p001.png")
    return "case p001, images/p001.png: is 2D with 1 channels, most images are 2D with 3"


def no_rater(manifest: Path) -> str:
    edit(manifest, lambda c: c["training"][1].update(ratings={}))
    return "case p001: no rater marked it"


def empty_split(manifest: Path) -> str:
    edit(manifest, lambda c: c.update(validation=[]))
    return "split 'validation' is empty"


def absent_split(manifest: Path) -> str:
    edit(manifest, lambda c: c.pop("validation"))
    return "split 'validation' is needed and missing"


def duplicate_case(manifest: Path) -> str:
    edit(manifest, lambda c: c["validation"].append(c["training"][0]))
    return "case p000: is listed twice, in 'training' and 'validation'"


def partial_truth(manifest: Path) -> str:
    edit(manifest, lambda c: c["training"][0].pop("truth"))
    return "split 'training' has a truth for 5 of 6 cases; give all or none"


def leaving_path(manifest: Path) -> str:
    edit(manifest, lambda c: c["training"][0].update(image="../p000.png"))
    return "case p000, ../p000.png: leaves the manifest's folder"


def no_manifest(manifest: Path) -> str:
    manifest.unlink()
    return "the manifest does not exist"


DEFECTS_2D = [
    remove_mask,
    shrink_mask,
    gray_mask,
    truncate_image,
    gray_image,
    no_rater,
    empty_split,
    absent_split,
    duplicate_case,
    partial_truth,
    leaving_path,
    no_manifest,
]


@pytest.mark.parametrize("defect", DEFECTS_2D, ids=lambda d: d.__name__)
def test_a_defect_in_2d_ends_the_training_before_it_starts(
    defect: Callable[[Path], str], copy_2d: Path, tmp_path: Path
) -> None:
    message = defect(copy_2d)
    with pytest.raises(SystemExit, match=re.escape(message)) as caught:
        bundle.train(copy_2d, tmp_path / "out")
    assert str(caught.value).startswith("Error in the data set: ")
    assert not (tmp_path / "out").exists()


def move_mask(manifest: Path) -> str:
    case, rater, path = mask_of(manifest)
    mask = nib.load(path)
    affine = mask.affine.copy()
    affine[0, 3] += 0.5
    nib.save(nib.Nifti1Image(np.asarray(mask.dataobj), affine), path)
    return f"case {case}, rater {rater}, {rater}/{path.name}: has an affine that differs by 0.5 from its image's"


def nan_image(manifest: Path) -> str:
    path = manifest.parent / "images" / "p000.nii.gz"
    image = nib.load(path)
    values = image.get_fdata(dtype=np.float32)
    values[1, 2, 3] = np.nan
    nib.save(nib.Nifti1Image(values, image.affine), path)
    return "case p000, images/p000.nii.gz: has 1 NaN or infinite values"


@pytest.mark.parametrize("defect", [move_mask, nan_image, remove_mask], ids=lambda d: d.__name__)
def test_a_defect_in_3d_ends_the_training_before_it_starts(
    defect: Callable[[Path], str], copy_3d: Path, tmp_path: Path
) -> None:
    message = defect(copy_3d)
    with pytest.raises(SystemExit, match=re.escape(message)):
        bundle.train(copy_3d, tmp_path / "out", "train_3d", **bundle.SMALL_3D)
    assert not (tmp_path / "out").exists()


def test_all_defects_are_listed_at_once(copy_2d: Path, tmp_path: Path) -> None:
    messages = [remove_mask(copy_2d), truncate_image(copy_2d), gray_mask(copy_2d)]
    with pytest.raises(SystemExit, match="3 problems") as caught:
        bundle.train(copy_2d, tmp_path / "out")
    assert all(message in str(caught.value) for message in messages)


@pytest.mark.parametrize("dimensions", [2, 3])
def test_data_of_the_other_dimension_are_refused(
    dimensions: int, phantoms_2d: Path, phantoms_3d: Path, tmp_path: Path
) -> None:
    manifest, overlays = (phantoms_3d, []) if dimensions == 2 else (phantoms_2d, ["train_3d"])
    reason = "is not a picture" if dimensions == 2 else "is not a volume"
    with pytest.raises(SystemExit, match=reason):
        bundle.train(manifest, tmp_path / "out", *overlays)
    assert not (tmp_path / "out").exists()


def use_model(job: str, manifest: Path, root: Path, **options: Any) -> None:
    if job == "evaluate":
        bundle.evaluate(manifest, root, **options)
    else:
        bundle.infer(manifest.parent / "images", root, **options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"objective": "rpsbce"}, r"Error in the objective: objective must be one of .* Got 'rpsbce'"),
        ({"loss_options": {"lambda": 3}}, "Error in the loss of .*: .* unexpected keyword argument 'lambda'"),
        ({"network_name": "UNet"}, r"Error in the network UNet: .* must be one of \['OrdinalFPN', 'OrdinalUNet'\]"),
        ({"network_options": {"depth": 3}}, "Error in the network OrdinalUNet: .* argument 'depth'"),
        ({**FUSED, "target": "median"}, "Error in the loss of consensus: .* one of .*staple.*Got 'median'"),
        ({**FUSED, "target": "random"}, "Error in the loss of consensus: .* use RandSelectRaterd"),
        (
            {**FUSED, "target_options": {"sigma": 2}},
            "Error in the loss of consensus: .* staple does not have the option sigma",
        ),
        ({"target": "staple"}, "Error in the loss of corn: .* Got target 'staple' with {} for objective 'corn'"),
        ({"objective": "consensus"}, "Error in the loss of consensus: .* Got target 'votes'"),
        ({**FUSED, "random_rater": True}, "Error in the loss of consensus: .*random_rater True"),
        ({**FUSED, "augment": [FLIP]}, "Error in the loss of consensus: .* Only votes: RandFlipd"),
    ],
    ids=[
        "objective",
        "loss-option",
        "network",
        "network-option",
        "target",
        "random-target",
        "target-option",
        "target-without-objective",
        "objective-without-target",
        "one-rater-to-fuse",
        "augmentation",
    ],
)
def test_a_choice_that_does_not_exist_ends_with_one_message(
    options: dict[str, Any], message: str, phantoms_2d: Path, tmp_path: Path
) -> None:
    with pytest.raises(SystemExit, match=message):
        bundle.train(phantoms_2d, tmp_path, **options)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("job", ["evaluate", "infer"])
def test_without_a_model_nothing_starts(job: str, phantoms_2d: Path, tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match=r"there is no trained model at .*models/model\.pt"):
        use_model(job, phantoms_2d, tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("job", ["evaluate", "infer"])
def test_weights_of_another_network_are_refused(job: str, trained_2d: Path, phantoms_2d: Path, tmp_path: Path) -> None:
    options = {"model_dir": str(trained_2d / "models"), "network_options": {"channels": [4, 4]}}
    with pytest.raises(SystemExit, match="are of another network"):
        use_model(job, phantoms_2d, tmp_path, **options)
    assert not list(tmp_path.iterdir())


def test_more_raters_than_the_model_knows(trained_2d: Path, phantoms_missing: Path, tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="has 5 raters; the model was trained for 4"):
        bundle.evaluate(phantoms_missing, tmp_path, model_dir=str(trained_2d / "models"))
    assert not list(tmp_path.iterdir())


def test_a_split_that_does_not_exist(trained_2d: Path, phantoms_2d: Path) -> None:
    with pytest.raises(SystemExit, match="split 'holdout' is needed and missing"):
        bundle.evaluate(phantoms_2d, trained_2d, split="holdout")


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("gray.png", np.zeros((9, 9), np.uint8), "gray.png: has 1 channels; the model was trained for 3"),
        ("alpha.png", np.zeros((9, 9, 4), np.uint8), "alpha.png: has 4 channels; the model was trained for 3"),
        ("broken.png", b"\x89PNG\r\n\x1a\n and then nothing", "broken.png: cannot be read"),
        ("scan.nii.gz", b"no volume", "scan.nii.gz: cannot be read"),
        (None, None, "holds no image"),
    ],
    ids=["gray", "alpha", "unreadable", "unreadable-volume", "empty-folder"],
)
def test_images_that_cannot_be_inferred(
    trained_2d: Path, tmp_path: Path, name: str | None, content: Any, reason: str
) -> None:
    folder = tmp_path / "images"
    folder.mkdir()
    Image.fromarray(np.zeros((9, 9, 3), np.uint8)).save(folder / "fine.png") if name else None
    if isinstance(content, bytes):
        (folder / str(name)).write_bytes(content)
    elif name:
        Image.fromarray(content).save(folder / name)
    with pytest.raises(SystemExit, match=reason):
        bundle.infer(folder, tmp_path, model_dir=str(trained_2d / "models"))
    assert not (tmp_path / "outputs").exists()


def one_rater(manifest: Path) -> Path:
    def keep_first(content: Content) -> None:
        content["raters"] = content["raters"][:1]
        for case in (*content["training"], *content["validation"], *content["test"]):
            case["ratings"] = {content["raters"][0]: case["ratings"][content["raters"][0]]}

    edit(manifest, keep_first)
    return manifest


@pytest.mark.slow
@pytest.mark.parametrize("objective", [name for name in OBJECTIVES if name != "consensus"] + ["staple"])
def test_one_rater_is_a_segmentation_without_agreement(objective: str, copy_2d: Path, tmp_path: Path) -> None:
    """R = 1: every objective trains; nobody is compared with other raters, so the report has the model only."""
    manifest = one_rater(copy_2d)
    chosen = {"objective": "consensus", "target": objective} if objective == "staple" else {"objective": objective}
    bundle.train(manifest, tmp_path, max_epochs=1, **chosen)
    bundle.evaluate(manifest, tmp_path)
    scores = json.loads((tmp_path / "eval" / "summary.json").read_text())["scores"]
    assert list(scores) == ["model"]
    assert 0 <= scores["model"]["brier"]["value"] <= 1


@pytest.mark.slow
def test_the_command_line_shows_the_message_without_a_traceback(copy_2d: Path, tmp_path: Path) -> None:
    messages = [remove_mask(copy_2d), gray_image(copy_2d)]
    arguments = ["run", "training", "--config_file", *bundle.configs("train")]
    result = bundle.shell([*arguments, "--datalist", str(copy_2d), "--output_dir", str(tmp_path / "out")], tmp_path)
    assert result.returncode == 1
    assert all(message in result.stderr for message in messages)
    assert "Traceback" not in result.stderr
    assert not (tmp_path / "out").exists()


def test_running_by_name_ends_with_the_message_too(phantoms_2d: Path, tmp_path: Path) -> None:
    options = {"input_dir": str(phantoms_2d.parent / "images"), "model_dir": str(tmp_path), "logging_file": False}
    with pytest.raises(SystemExit, match="there is no trained model at"):
        run_bundle(run_id="inferring", config_file=bundle.configs("inference"), **options)
