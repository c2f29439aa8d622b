"""Drawn faces: the lists, the images where the packages are installed, and a whole run on what
stands in for them.
"""

import io
import json
import shlex
import sys
from pathlib import Path

import numpy as np
import pytest
from command import ROOT, SHORT, run
from PIL import Image

from unrelearn.config.sweep import validated
from unrelearn.data.avatars import Avatars
from unrelearn.errors import UsageError

sys.path.insert(0, str(ROOT / "scripts"))
import make_avatars
from make_avatars import FREE, PARTS, SHOWN, SIDE, Face, draw, lists, main, make

REGION = slice(16, 44), slice(2, 62)  # rows and columns of the eyes: conf/eval/outside_region.yaml


def blocks(face: Face, side: int) -> bytes:
    """In place of a drawing: a block for each attribute, glasses at the eyes."""
    pixels = np.full((side, side, 3), 10 * int(20 * face.chances["background"]), np.uint8)
    for place, name in enumerate(list(SHOWN)[1:]):
        pixels[48:, 12 * place : 12 * place + 8] = 255 * face.attributes[name]
    if face.attributes["Eyeglasses"]:
        pixels[20:36, 12:52] = 0, 0, 255
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "png")
    return stream.getvalue()


def contents(root: Path) -> dict[str, bytes]:
    return {str(p.relative_to(root)): p.read_bytes() for p in root.rglob("*") if p.is_file()}


# ---------------------------------------------------------------------------------------- the lists


def test_attributes_are_even_and_independent():
    tossed = [list(draw(0, k).attributes.values()) for k in range(1, 2001)]
    columns = np.array(tossed, dtype=float).T
    assert np.abs(np.corrcoef(columns) - np.eye(len(SHOWN))).max() < 0.05
    assert np.abs(columns.mean(1) - 0.5).max() < 0.03


def test_what_shows_an_attribute_is_never_drawn_without_it():
    for _, without, worn in SHOWN.values():
        assert without and worn and not {*without} & {*worn}
    assert len(set(PARTS)) == len(PARTS)


def test_a_face_with_another_attribute_is_the_same_but_for_one_part():
    for k in range(1, 50):
        face = draw(3, k)
        other = face.but(Eyeglasses=not face.attributes["Eyeglasses"])
        assert {p for p in PARTS if face.parts[p] != other.parts[p]} == {"accessory"}
    assert draw(0, 1) == draw(0, 1) != draw(1, 1)


def test_twelve_faces_are_read_as_they_were_tossed(tmp_path: Path):
    assert make(tmp_path, 12, 0, blocks) == 12
    dataset = Avatars(str(tmp_path), ["No_Beard", "Smiling"], image_size=64)
    assert dataset.check() != []  # of so few no test image has every class
    images, labels, partition = dataset._images
    assert images == [f"{k:06d}.png" for k in (*range(1, 9), 10, 11, 12)]  # 9 is for validation
    assert partition.tolist() == [0] * 8 + [2] + [0] * 2
    tossed = [draw(0, int(name[:6])).attributes for name in images]
    assert labels.tolist() == [2 * one["No_Beard"] + one["Smiling"] for one in tossed]
    pixels = np.empty((3, 64, 64), np.uint8)
    assert dataset.square.read(tmp_path / "img_align_celeba" / "000001.png", pixels) is None
    written = Image.open(io.BytesIO(blocks(draw(0, 1), SIDE)))
    assert (pixels == np.asarray(written).transpose(2, 0, 1)).all()


def test_the_lists_are_celebas():
    first, names, row, *_ = lists(12, 0)["list_attr_celeba.txt"].split("\n")
    assert (first, names) == ("12", " ".join(SHOWN) + " ")
    assert row.split()[0] == "000001.png" and set(row.split()[1:]) == {"1", "-1"}
    assert len(row) == len("000001.png") + 3 * len(SHOWN)


# -------------------------------------------------------------------- stopped, again, bad input


def test_what_was_stopped_goes_on_to_the_same_bytes(tmp_path: Path):
    make(tmp_path / "whole", 12, 0, blocks)
    left = [5]

    def tired(face: Face, side: int) -> bytes:
        left[0] -= 1
        if left[0] < 0:
            raise KeyboardInterrupt
        return blocks(face, side)

    with pytest.raises(KeyboardInterrupt):
        make(tmp_path / "again", 12, 0, tired)
    assert make(tmp_path / "again", 12, 0, blocks) == 7
    assert contents(tmp_path / "again") == contents(tmp_path / "whole")
    assert make(tmp_path / "again", 12, 0, blocks) == 0
    assert make(tmp_path / "again", 20, 0, blocks) == 8  # a larger number adds


def test_faces_of_another_seed_are_not_mixed_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
):
    monkeypatch.setattr(make_avatars, "renderer", lambda: blocks)
    assert main(["--root", str(tmp_path), "--number", "12"]) == 0
    before = contents(tmp_path)
    capsys.readouterr()
    assert main(["--root", str(tmp_path), "--number", "12", "--seed", "1"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: --seed 1: ") and "Type --root FOLDER" in line
    assert contents(tmp_path) == before


@pytest.mark.parametrize("words", [["--number", "0"], ["--number", "1000000"], ["--seed", "-1"]])
def test_numbers_that_can_not_be(words: list[str], capsys: pytest.CaptureFixture):
    assert main(words) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: {' '.join(words)}: must be ") and "Type " in line


@pytest.mark.parametrize("package", ["python_avatars", "resvg_py"])
def test_a_missing_package_is_one_line(
    package: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
):
    for name in ("python_avatars", "resvg_py"):
        monkeypatch.setitem(sys.modules, name, None if name == package else sys)
    assert main(["--root", str(tmp_path / "none")]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: {package}: can not be imported")
    assert "Type pip install 'unrelearn[avatars]'" in line and not (tmp_path / "none").exists()


def test_where_there_are_no_faces_it_is_said_how_to_draw_them(tmp_path: Path):
    (line,) = Avatars("no such", ["Smiling"]).check()
    assert "type python scripts/make_avatars.py --root 'no such', or" in line
    (line,) = Avatars(str(tmp_path), ["Smiling"]).check()
    assert f"type python scripts/make_avatars.py --root {tmp_path}, or" in line
    make(tmp_path, 40, 0, blocks)
    (tmp_path / "img_align_celeba" / "000002.png").unlink()
    (line,) = Avatars(str(tmp_path), ["Smiling"]).check()
    assert "lacks 1 of 36 images: 000002.png; type python scripts/make_avatars.py" in line


def test_what_is_advised_is_of_these_faces(tmp_path: Path):
    make(tmp_path, 20, 0, blocks)
    (line,) = Avatars(str(tmp_path), []).check()
    assert line.endswith("type 'dataset.condition=[Eyeglasses,Smiling]'")
    problems = Avatars(str(tmp_path), ["No_Beard", "Smiling"]).check()
    assert problems and all("type 'dataset.condition=[" in line for line in problems)
    for line in problems:
        (word,) = shlex.split(line.split("; type ")[1].split(", or")[0])
        assert (
            Avatars(str(tmp_path), word[len("dataset.condition=[") : -1].split(",")).check() == []
        )


def test_the_class_that_is_advised_in_place_of_single_images_is_one(tmp_path: Path):
    make(tmp_path, 60, 0, blocks)
    few = ["dataset=avatars", f"dataset.root={tmp_path}", "dataset.condition=[Smiling]"]
    words = [*few, "method=dimum", "tracking=none", f"paths.outputs={tmp_path / 'outputs'}"]
    with pytest.raises(UsageError) as error:
        validated([*words, "forget=random:0.1"])
    (line,) = error.value.problems
    (word,) = shlex.split(line.partition(" Type ")[2])
    assert validated([*words, word])[0].forget == "class:0"


# --------------------------------------------------------------------------------------- the pixels


def test_drawn_faces_differ_by_glasses_at_the_eyes_alone():
    pytest.importorskip("python_avatars")
    pytest.importorskip("resvg_py")
    render = make_avatars.renderer()
    for k in range(1, 13):
        pair = [draw(0, k).but(Eyeglasses=worn) for worn in (False, True)]
        without, worn = (np.asarray(Image.open(io.BytesIO(render(f, SIDE)))) for f in pair)
        assert without.shape[:2] == (SIDE, SIDE)
        different = (without != worn).any(-1)
        assert different[REGION].sum() > 100 and different.sum() == different[REGION].sum()
        assert render(pair[0], SIDE) == render(pair[0], SIDE)


def test_every_value_of_every_part_is_one_of_the_package():
    avatars = pytest.importorskip("python_avatars")
    shown = [value for _, without, worn in SHOWN.values() for value in (*without, *worn)]
    free = [value for part, values in FREE.items() if part != "background" for value in values]
    for value in (*shown, *free):
        kind, name = value.split(".")
        assert name in getattr(avatars, kind).__members__, value


# ----------------------------------------------------------------------------------- the whole run


def test_a_feature_is_forgotten_and_the_rest_is_measured(tmp_path: Path):
    make(tmp_path / "data" / "avatars", 120, 0, blocks)
    run(
        "experiment=avatars",
        "dataset.condition=[Eyeglasses,Smiling]",
        "dataset.image_size=16",
        "model.unet.attention_levels=[]",
        "method=dimum",
        "method.memory=counterpart",
        "sampler.second=null",
        *SHORT,
        f"paths.data={tmp_path / 'data'}",
        f"paths.outputs={tmp_path / 'outputs'}",
    )
    (path,) = (tmp_path / "outputs" / "runs").glob("avatars-dimum-dimra-*/result.json")
    record = json.loads(path.read_text())
    assert record["forget_classes"] == [2, 3] and "celeba" not in path.read_text().lower()
    original, unlearned, *attacked = [row["metrics"] for row in record["rows"]]
    assert len(attacked) == 2 and original["outside_region"]["1.0"]["value"] == 0.0
    for metrics in (unlearned, *attacked):
        seen = metrics["outside_region"]["1.0"]
        assert 0 < seen["low"] <= seen["value"] <= seen["high"] and seen["n"] == 20
        assert list(metrics["attributes_kept"]["1.0"]) == ["Smiling"]
        assert metrics["concept_accuracy"]["1.0"]["n"] == 20
