"""What a mask of a class looks like: forgotten to the gap, and back at once under some attacks."""

from collections.abc import Callable
from pathlib import Path

import pytest
from runs import Cell

from unrelearn.report import classification
from unrelearn.report.records import ONLY
from unrelearn.report.table import results

WORDS = [
    "experiment=classification",
    "forget=class:0",
    "model.network.widths=[8,16,16]",
    "model.pretrain.max_steps=150",
    "references.count=2",
    "unlearning.max_steps=4",
    "eval=[forget_accuracy,test_accuracy,gap]",
]
# the budgets and levels are such that the probe has learned the retained classes
ATTACKS = {
    "prototype": ["attack.levels=[5]"],
    "linear_probe": ["relearning.budgets=[0,100]"],
    "relearn_public": ["relearning.budgets=[0,30]"],
}


@pytest.fixture(scope="module")
def outputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("masked")


@pytest.fixture
def record(compose: Callable[..., dict], outputs: Path) -> Callable[..., dict]:
    def of(method: str, attack: str = "none") -> dict:
        words = [*WORDS, *ATTACKS.get(attack, ()), f"paths.outputs={outputs}"]
        found = Cell(compose(*words, f"method={method}", f"attack={attack}")).complete()
        assert found is not None
        return found

    return of


def right(record: dict) -> list[float]:
    """Share of the forgotten images that each model of a run answers rightly."""
    return [row["metrics"]["forget_accuracy"][ONLY]["value"] for row in record["rows"]]


def right_in_test(record: dict) -> list[float]:
    """The same of the class's test images, of the half that no attacker holds."""
    return [row["metrics"]["test_accuracy"][ONLY]["forgotten"]["value"] for row in record["rows"]]


def test_its_gap_is_the_smallest_of_the_board(record: Callable[..., dict]):
    methods = ("original", "finetune", "random_label", "logit_mask")
    (board,) = classification.boards(results([record(method) for method in methods]))
    gaps = board.seeds.set_index("name")["gap"]
    assert set(gaps.index) == set(methods) and gaps.idxmin() == "logit_mask"
    assert gaps["logit_mask"] < 0.5 * gaps.drop("logit_mask").min()


def test_the_board_has_test_images_of_the_class_before_and_after(record: Callable[..., dict]):
    runs = [record(method, "prototype") for method in ("logit_mask", "retrain")]
    (board,) = classification.boards(results(runs))
    _, masked, back = right_in_test(runs[0])
    line = board.seeds.loc["logit mask"]
    assert (line["unseen"].item(), line["unseen_prototype"].item()) == (masked, pytest.approx(back))
    headers, (first, *_) = classification.headers(board), classification.lines(board)
    shown = dict(zip(headers, first, strict=True))
    assert shown["method"] == "retrain" and shown["unseen %"].startswith("0.0")
    assert "unseen after\nprototype %" in shown
    assert "Unseen: share" in classification.to_markdown([board])


@pytest.mark.parametrize("attack", ["prototype", "linear_probe"])
def test_who_holds_images_of_the_class_brings_it_back_and_far_less_of_it_to_a_retrained_model(
    attack: str, record: Callable[..., dict]
):
    runs = record("logit_mask", attack), record("retrain", attack)
    for share in (right, right_in_test):
        (original, masked, back), (_, retrained, learned) = map(share, runs)
        assert original > 0.7 and masked == retrained == 0
        assert back > 0.9 * original and learned < 0.3 * original


def test_who_holds_none_brings_nothing_back(record: Callable[..., dict]):
    """Public images are those of retained classes: a bias this low is not moved by them."""
    for method in ("logit_mask", "retrain"):
        assert right(record(method, "relearn_public"))[1:] == [0, 0]
