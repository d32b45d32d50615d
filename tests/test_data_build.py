# SPDX-License-Identifier: Apache-2.0
"""Building manifests from folders."""

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
from PIL import Image

from monai_multirater.data import ManifestError, build_manifest, check_manifest, read_manifest
from monai_multirater.data.readers import read_image, read_mask
from monai_multirater.data.scan import NameRule


def _png(path: Path, value: int = 255, shape: tuple[int, int] = (8, 9)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.zeros(shape, np.uint8)
    pixels[:4, : 2 + len(path.stem) % 5] = value
    Image.fromarray(pixels).save(path)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Twelve cases of four patients; rater B marked half of them."""
    root = tmp_path / "lesions"
    for index in range(12):
        case = f"pat{index % 4}_{index:02d}"
        for sub in ("images", "A", *(["B"] if index % 2 else [])):
            _png(root / sub / f"{case}.png")
    return root


def test_folders_become_a_manifest(folder: Path) -> None:
    path = build_manifest(folder, split=(0.5, 0.25, 0.25))
    assert path == folder / "manifest.json"
    manifest = read_manifest(path)
    assert manifest.name == "lesions"
    assert manifest.raters == ("A", "B")
    assert {name: len(cases) for name, cases in manifest.splits.items()} == {
        "training": 6,
        "validation": 3,
        "test": 3,
    }
    for case in manifest.cases:
        assert case.ratings.keys() == ({"A", "B"} if int(case.case[-2:]) % 2 else {"A"})
        assert case.image == f"images/{case.case}.png"
    assert check_manifest(manifest, level="full") == ("Raters A and B have identical masks in all 6 shared cases.",)


def test_same_seed_same_file_and_overwrite_is_asked_for(folder: Path) -> None:
    path = build_manifest(folder)
    first = path.read_bytes()
    with pytest.raises(FileExistsError, match="overwrite"):
        build_manifest(folder)
    assert build_manifest(folder, overwrite=True).read_bytes() == first
    assert build_manifest(folder, overwrite=True, seed=1).read_bytes() != first


def test_number_of_raters_is_stratified(folder: Path) -> None:
    manifest = read_manifest(build_manifest(folder, split=(0.5, 0.25, 0.25), seed=3))
    both = {name: sum(len(c.ratings) == 2 for c in cases) for name, cases in manifest.splits.items()}
    assert both["training"] == 3
    assert 1 <= both["validation"] <= 2
    assert 1 <= both["test"] <= 2


def test_patients_stay_together(folder: Path) -> None:
    manifest = read_manifest(build_manifest(folder, group_regex=r"^(pat\d)_", split=(0.5, 0.25, 0.25)))
    homes = [{case.group for case in cases} for cases in manifest.splits.values()]
    assert sorted(group for home in homes for group in home) == ["pat0", "pat1", "pat2", "pat3"]


def test_group_pattern_that_does_not_occur(folder: Path) -> None:
    with pytest.raises(ManifestError, match=r"case pat0_00: the group pattern"):
        build_manifest(folder, group_regex="subject")
    with pytest.raises(ValueError, match="not a regular expression"):
        build_manifest(folder, group_regex="(")


def test_table_adds_group_diagnosis_and_more(folder: Path, tmp_path: Path) -> None:
    rows = [f"pat{i % 4}_{i:02d},g{i % 3},{i % 2},{'1.5' if i else ''},00{i}x" for i in range(12)]
    table = tmp_path / "cases.csv"
    table.write_text("\ufeffcase,group,diagnosis,age,site\n" + "\n".join(rows), encoding="utf-8")
    cases = {c.case: c for c in read_manifest(build_manifest(folder, table=table)).cases}
    assert cases["pat1_01"].group == "g1"
    assert cases["pat1_01"].diagnosis == 1
    assert cases["pat1_01"].extra == {"age": 1.5, "site": "001x"}
    assert cases["pat0_00"].extra == {"site": "000x"}


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("name,group\na,b\n", "must have a column 'case'"),
        ("case\npat0_00\npat0_00\n", "case pat0_00: is listed twice"),
        ("case\npat0_00\n", "case pat1_01: is not in the table"),
        ("case,image\npat0_00,x\n", "may not be called 'image'"),
        (None, "cannot be read as CSV"),
    ],
    ids=["column", "twice", "absent", "reserved", "missing"],
)
def test_wrong_table(folder: Path, tmp_path: Path, text: str | None, reason: str) -> None:
    if text is not None:
        (tmp_path / "t.csv").write_text(text, encoding="utf-8")
    with pytest.raises(ManifestError, match=reason):
        build_manifest(folder, table=tmp_path / "t.csv")


@pytest.mark.parametrize(
    ("rule", "name", "case"),
    [
        (NameRule(), "a_1.nii.gz", "a_1"),
        (NameRule(("_seg", "_mask_seg")), "a_mask_seg.png", "a"),
        (NameRule(("_seg",)), "a_segment.png", "a_segment"),
        (NameRule(match=r"(\d{3})"), "ISIC_042_x.png", "042"),
        (NameRule(match=r"\d+"), "ISIC_042_x.png", "042"),
        (NameRule(match=r"(\d{3})"), "readme.png", None),
        (NameRule(("a",)), "a.png", None),
    ],
    ids=str,
)
def test_file_names_become_cases(rule: NameRule, name: str, case: str | None) -> None:
    assert rule.case(name) == case


def test_suffixes_are_stripped(tmp_path: Path) -> None:
    for index in range(4):
        _png(tmp_path / "images" / f"c{index}.png")
        _png(tmp_path / "A" / f"c{index}_A_seg.png")
    manifest = read_manifest(build_manifest(tmp_path, strip=["_A_seg"]))
    assert {c.case for c in manifest.cases} == {"c0", "c1", "c2", "c3"}


def test_no_matching_names_shows_both_sides(tmp_path: Path) -> None:
    _png(tmp_path / "images" / "x1.png")
    _png(tmp_path / "A" / "y1.png")
    with pytest.raises(ManifestError, match="images are called x1, masks of A y1; see the options strip and match"):
        build_manifest(tmp_path)


def test_unmatched_files_are_listed_or_skipped(folder: Path) -> None:
    _png(folder / "images" / "lonely.png")
    _png(folder / "B" / "stray.png")
    with pytest.raises(ManifestError) as caught:
        build_manifest(folder)
    assert {(p.case, p.rater) for p in caught.value.problems} == {("lonely", ""), ("stray", "B")}
    assert len(read_manifest(build_manifest(folder, skip_unmatched=True)).cases) == 12


def test_two_files_of_one_case(folder: Path) -> None:
    _png(folder / "A" / "pat0_00.tif")
    with pytest.raises(ManifestError, match=r"case pat0_00, A/pat0_00\.tif: is also A/pat0_00\.png"):
        build_manifest(folder)


def test_missing_folders_are_all_named(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match="the folder does not exist"):
        build_manifest(tmp_path / "nowhere")
    with pytest.raises(ManifestError, match="no folder of masks"):
        build_manifest(tmp_path)
    with pytest.raises(ManifestError) as caught:
        build_manifest(tmp_path, raters=["A", "B"])
    assert [p.path for p in caught.value.problems] == [str(tmp_path / n) for n in ("images", "A", "B")]


def test_damaged_data_write_nothing(folder: Path) -> None:
    _png(folder / "A" / "pat1_05.png", value=128)
    with pytest.raises(ManifestError, match=r"case pat1_05, rater A, A/pat1_05\.png: is not binary"):
        build_manifest(folder)
    assert not (folder / "manifest.json").exists()


def test_manifest_above_the_data(folder: Path) -> None:
    path = build_manifest(folder, out=folder.parent / "m.json")
    assert read_manifest(path).cases[0].image.startswith("lesions/images/")


def test_manifest_elsewhere_needs_a_transfer(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    with pytest.raises(ValueError, match="use transfer='copy' or 'link'"):
        build_manifest(folder, out=tmp_path / "other" / "m.json")


def test_folder_marked_read_only_is_left_alone(folder: Path) -> None:
    """Also for the superuser, whom the file system would not stop."""
    folder.chmod(0o555)
    try:
        with pytest.raises(ValueError, match="cannot be written"):
            build_manifest(folder)
    finally:
        folder.chmod(0o755)
    assert not (folder / "manifest.json").exists()


@pytest.mark.parametrize("transfer", ["copy", "link"])
def test_transfer_brings_the_files(folder: Path, tmp_path: Path, transfer: str) -> None:
    path = build_manifest(folder, out=tmp_path / "new" / "set" / "m.json", transfer=transfer)
    manifest = read_manifest(path)
    check_manifest(manifest, level="full")
    assert manifest.path(manifest.cases[0].image).is_symlink() == (transfer == "link")
    assert sorted(p.name for p in (tmp_path / "new").iterdir()) == ["set"]
    with pytest.raises(FileExistsError, match="is not empty"):
        build_manifest(folder, out=path, transfer=transfer)


def test_failed_transfer_leaves_nothing(folder: Path, tmp_path: Path) -> None:
    _png(folder / "A" / "pat1_05.png", value=128)
    with pytest.raises(ManifestError, match="is not binary"):
        build_manifest(folder, out=tmp_path / "new" / "m.json", transfer="copy")
    assert [p.name for p in tmp_path.iterdir()] == ["lesions"]


def test_threshold_rewrites_gray_masks(folder: Path, tmp_path: Path) -> None:
    _png(folder / "A" / "pat1_05.png", value=128)
    (folder / "B" / "pat1_05.png").unlink()
    Image.fromarray(np.full((8, 9), 90, np.uint8)).save(folder / "B" / "pat1_05.jpg")
    with pytest.raises(ValueError, match="needs transfer='copy'"):
        build_manifest(folder, threshold=100)
    path = build_manifest(folder, out=tmp_path / "new" / "m.json", transfer="copy", threshold=100)
    manifest = read_manifest(path)
    (case,) = (c for c in manifest.cases if c.case == "pat1_05")
    assert case.ratings["B"] == "B/pat1_05.png"
    assert read_mask(manifest.path(case.ratings["A"])).array.any()
    assert not read_mask(manifest.path(case.ratings["B"])).array.any()


@pytest.mark.parametrize("suffix", [".nii.gz", ".nrrd", ".mha"])
def test_volumes_keep_their_geometry_when_thresholded(tmp_path: Path, suffix: str) -> None:
    root, generator = tmp_path / "scans", np.random.default_rng(0)
    affine = np.array([[-0.5, 0, 0, 3], [0, -0.7, 0, 4], [0, 0, 2, 5], [0, 0, 0, 1.0]])
    expected = {}
    for index in range(3):
        for sub in ("images", "A"):
            (root / sub).mkdir(parents=True, exist_ok=True)
            array = generator.random((5, 6, 7)).astype(np.float32)
            expected[sub, index] = array
            path = root / sub / f"s{index}{suffix}"
            if suffix == ".nii.gz":
                nib.save(nib.Nifti1Image(array, affine), path)
            else:
                image = sitk.GetImageFromArray(np.ascontiguousarray(array.T))
                image.SetSpacing([0.5, 0.7, 2.0])
                image.SetOrigin([-3, -4, 5])
                sitk.WriteImage(image, str(path))
    path = build_manifest(root, out=tmp_path / "new" / "m.json", transfer="copy", threshold=0.5)
    manifest = read_manifest(path)
    for case in manifest.cases:
        mask = read_mask(manifest.path(case.ratings["A"]))
        np.testing.assert_array_equal(mask.array, expected["A", int(case.case[1])] > 0.5)
        np.testing.assert_allclose(mask.affine, affine, atol=1e-5)
        np.testing.assert_allclose(read_image(manifest.path(case.image)).affine, affine, atol=1e-5)


def test_one_rater_and_truth(tmp_path: Path) -> None:
    for index in range(5):
        _png(tmp_path / "images" / f"c{index}.png")
        _png(tmp_path / "A" / f"c{index}.png")
        (tmp_path / "truth").mkdir(exist_ok=True)
        np.save(tmp_path / "truth" / f"c{index}.npy", np.zeros((8, 9), np.float32))
    manifest = read_manifest(build_manifest(tmp_path, truth="truth", split=(0.8, 0.2, 0)))
    assert manifest.raters == ("A",)
    assert set(manifest.splits) == {"training", "validation"}
    assert manifest.cases[0].truth == f"truth/{manifest.cases[0].case}.npy"


def test_relative_root(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder.parent)
    assert build_manifest("lesions") == folder / "manifest.json"
    (folder / "manifest.json").unlink()
    assert build_manifest("lesions", out="m.json") == folder.parent / "m.json"


@pytest.mark.parametrize(("name", "cases", "raters"), [("bubil/ds1", 35, 10), ("drive", 20, 2)])
def test_real_data_sets(shared_data: Path, tmp_path: Path, name: str, cases: int, raters: int) -> None:
    options = {"raters": ["rater1", "rater2"]} if name == "drive" else {}
    path = build_manifest(shared_data / name, out=tmp_path / "set" / "m.json", transfer="link", **options)
    manifest = read_manifest(path)
    assert len(manifest.cases) == cases
    assert len(manifest.raters) == raters
