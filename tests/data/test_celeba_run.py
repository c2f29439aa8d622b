"""The whole command on a small CelebA of our own making: decoded once, drawn from disk,
counterparts memorised.
"""

import json
from pathlib import Path

import pytest
import tiny_text
import torch
from command import SHORT, TINY, run
from runs import Cell
from test_celeba import PARTITION, VALUES, write_images, write_lists
from tiny import denoising

from unrelearn.data import MappedImages
from unrelearn.errors import UsageError
from unrelearn.stages.images import images as images_of

CHOSEN = [
    "dataset=celeba",
    "model=unet_tiny",
    "dataset.image_size=16",
    "dataset.condition=[Male,Smiling]",
    "forget=+Male",
    "method=dimum",
    "method.memory=counterpart",
    "attack=dimra",
]


@pytest.fixture
def images(tmp_path: Path) -> str:
    write_images(tmp_path / "data" / "celeba")
    write_lists(tmp_path / "data" / "celeba", VALUES, PARTITION)
    return f"paths.data={tmp_path / 'data'}"


def test_an_attribute_is_forgotten_by_memorising_its_counterparts(
    images: str, compose, tmp_path: Path
):
    done = run(*CHOSEN, *SHORT, images, f"paths.outputs={tmp_path / 'outputs'}")
    assert (
        "celeba: 16 training and 7 test images, 0.0 MiB, mapped from disk, read ahead"
        in " ".join(done.stdout.split())
    )
    (path,) = (tmp_path / "outputs" / "runs").glob("*/result.json")
    record = json.loads(path.read_text())
    assert record["class_names"] == [
        "-Male-Smiling",
        "-Male+Smiling",
        "+Male-Smiling",
        "+Male+Smiling",
    ]
    assert record["forget_classes"] == [2, 3] and record["status"] == "finished"
    assert [(row["model"], row["step"]) for row in record["rows"]] == [
        ("original", None),
        ("unlearned", None),
        ("attacked", 5),
        ("attacked", 10),
    ]
    for row in record["rows"]:
        assert (
            sum(row["metrics"]["replacement"]["1.0"]) == 20
            and row["metrics"]["fd_oracle"]["1.0"]["reference_n"] == 4
        )

    again = Cell(compose(*TINY, *CHOSEN, *SHORT, images), "")
    task, decoded = (
        again.task(again.original),
        [s for s in record["stages"] if s["stage"] == "dataset"],
    )
    assert [again.used[stage["key"]]["status"] for stage in decoded] == ["reused"]
    assert task.counterparts == {2: 0, 3: 1} and task.horizontal_flip
    module = denoising(again.method, task)
    module.prepare()
    assert isinstance(
        module.method.memory_data.images, MappedImages
    ) and module.method.memory_data.images.shape == (8, 3, 16, 16)
    train = images_of(again).train
    for (
        label,
        other,
    ) in task.counterparts.items():  # the same faces, under the label that is to be forgotten
        memorised = module.method.memory_data.of_classes([label]).images[:]
        assert sorted(map(bytes, memorised.numpy())) == sorted(
            map(bytes, train.of_classes([other]).images[:].numpy())
        )
    assert again.task(None).counterparts == {} and len(again.task(None).retain) == 16
    assert torch.equal(
        torch.cat([task.forget.labels, task.retain.labels]).bincount(), torch.tensor([4, 4, 4, 4])
    )


def test_an_attribute_is_a_word_of_captions(images: str, tmp_path: Path):
    done = run(
        *CHOSEN[:1],
        *tiny_text.SMALL,
        *CHOSEN[2:5],
        "model.text.max_steps=5",
        "method=uce",
        "attack=textual_inversion",
        *SHORT[2:],
        images,
        f"paths.outputs={tmp_path / 'outputs'}",
    )
    (path,) = (tmp_path / "outputs" / "runs").glob("*/result.json")
    assert json.loads(path.read_text())["forget_classes"] == [2, 3], done.stdout
    (config,) = (tmp_path / "outputs" / "artifacts" / "unlearn").glob("*/raw/config.json")
    vocabulary = json.loads(config.read_text())["vocabulary"]
    assert sorted(vocabulary[4:]) == ["Male", "Smiling", "a", "and", "face", "with"]


def test_a_group_that_is_not_there_is_refused_with_those_that_are(images: str, compose):
    with pytest.raises(UsageError) as error:
        compose(*CHOSEN, images, "forget=+Mal")
    (line,) = error.value.problems
    assert (
        line.startswith("forget=+Mal: no such class")
        and "+Male" in line
        and "+Smiling" in line
        and "Type 'forget=" in line
    )
