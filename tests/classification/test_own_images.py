"""A classifier of one's own images, in a folder."""

from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image
from runs import Cell

from unrelearn.data.digits import Digits
from unrelearn.report.records import ONLY
from unrelearn.stages.images import images

NAMES = ("one", "seven", "zero")  # in the order of their labels


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """50 digits of each of three classes, in colour and twice as large as they are."""
    train = Digits().load().train
    for name, digit in zip(NAMES, (1, 7, 0), strict=True):
        place = tmp_path / "images" / name
        place.mkdir(parents=True)
        for number, pixels in enumerate(train.of_classes([digit]).images[:50, 0].numpy()):
            image = Image.fromarray(pixels).convert("RGB").resize((16, 16))
            image.save(place / f"{number}.png")
    return tmp_path / "images"


@pytest.mark.parametrize(
    ("forget", "method", "lost"),
    [("random:0.1", "finetune", [4, 4, 4]), ("class:seven", "retrain", [0, 40, 0])],
)
def test_a_classifier_of_a_folder_learns_forgets_and_is_measured(
    forget: str, method: str, lost: list[int], compose: Callable[..., dict], folder: Path
):
    words = [
        "experiment=classification",
        "dataset=folder",
        f"dataset.root={folder}",
        "dataset.image_size=8",
        "model.network.widths=[4,6,8]",
        "model.pretrain.max_steps=60",
        "references.count=2",
        "unlearning.max_steps=2",
        "attack=none",
        "eval=[forget_accuracy,test_accuracy,gap]",
    ]
    cell = Cell(compose(*words, f"forget={forget}", f"method={method}"))
    record, data = cell.complete(), images(cell)
    assert record is not None and tuple(record["class_names"]) == data.class_names == NAMES
    assert data.train.images.shape == (120, 3, 8, 8) and len(data.test) == 30
    chosen = cell.kind.mask(data)
    assert chosen.sum() == sum(lost)
    original, unlearned = (row["metrics"] for row in record["rows"])
    assert original["test_accuracy"][ONLY]["value"] > 0.8
    if forget.startswith("class:"):
        assert data.train.labels[chosen].bincount(minlength=3).tolist() == lost
        assert record["forget_classes"] == [1]
        assert original["forget_accuracy"][ONLY]["value"] > 0.8
        assert unlearned["forget_accuracy"][ONLY]["value"] == 0
    assert unlearned["gap"][ONLY]["low"] <= unlearned["gap"][ONLY]["value"]
