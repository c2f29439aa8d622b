"""What a configuration of a classifier must be, in one line each."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from unrelearn.errors import UsageError

WORDS = ("experiment=classification",)


def refused(compose: Callable[..., dict], *words: str) -> list[str]:
    with pytest.raises(UsageError) as error:
        compose(*WORDS, *words)
    return error.value.problems


@pytest.mark.parametrize(
    ("words", "key", "advice"),
    [
        (["forget=random:0"], "forget=random:0:", "type forget=random:0.1"),
        (["forget=random:1"], "forget=random:1:", "type forget=random:0.1"),
        (["forget=random:1.5"], "forget=random:1.5:", "type forget=random:0.1"),
        (["forget=random:nan"], "forget=random:nan:", "type forget=random:0.1"),
        (["forget=random:"], "forget=random::", "type forget=random:0.1"),
        (["forget=class:12"], "forget=class:12:", "Type forget=2"),
        (["forget=mislabelled:0.5"], "forget=mislabelled:0.5:", "forget=mislabelled:0.199"),
        (["forget=file:/nowhere.npy"], "forget=file:/nowhere.npy:", "numpy.save"),
        (["forget=memorised:2"], "forget=memorised:2:", "forget=memorised:0.1"),
        (["references.count=3", "references.half=table"], "references.half=table:", "count=4"),
        (["references.half=all"], "references.half=all:", "references.half=tuning"),
        (["references.halves=3"], "references.halves=3:", "references.halves=4"),
        (["stages=[samples]"], "stages=", "unlearn"),
        (["validation.forget_split_seed=2"], "validation.forget_split_seed=2:", "protocol=salun"),
        (["model.pretrain.ema_decay=0.99"], "model.pretrain.ema_decay=0.99:", "ema_decay=null"),
        (["model.weights=ema"], "model.weights=ema:", "model.weights=raw"),
        (
            ["attack=linear_probe", "attack.data=retain", "forget=class:3"],
            "attack.data=retain:",
            "attack.data=public",
        ),
        (["method=esd"], "method=esd:", "method="),
        (["attack=lora"], "attack=lora:", "attack="),
        (["+eval=fid"], "eval.fid:", "~eval.fid"),
        (["model.network.widths=[8,8]"], "model.network.widths=[8, 8]:", "[16,64,64]"),
        (["model.network.name=alexnet"], "model.network.name=alexnet:", "fast"),
        (["model=vgg16_bn"], "model=vgg16_bn:", "model=fast"),
        (["augment.retain=cutmix"], "augment.retain=cutmix:", "augment.retain=none"),
        (["references.count=1"], "references.count=1:", "references.count="),
        (["dataset.label_noise=1"], "dataset.label_noise=1", "dataset.label_noise=0.2"),
        (["seed=100000"], "seed=100000:", "seed=0"),
        (["model.checkpoint=/x"], "model.checkpoint=/x:", "model.checkpoint=null"),
        (["trainer.batch_size_per_device=8"], "trainer.batch_size_per_device=8:", "null"),
        (["model.kind=unrelearn.no.Kind"], "model.kind=unrelearn.no.Kind:", "model=unet_tiny"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_one_line_says_what_is_wrong(
    compose: Callable[..., dict], words: list[str], key: str, advice: str
):
    problems = refused(compose, *words)
    assert len(problems) == 1, problems
    assert problems[0].startswith(key) and advice in problems[0], problems


def test_methods_of_classifiers_are_not_for_denoisers(compose: Callable[..., dict]):
    with pytest.raises(UsageError) as error:
        compose("+eval=gap")
    assert any(line.startswith("eval.gap: measures another") for line in error.value.problems)


@pytest.mark.parametrize(
    ("indexes", "why"),
    [
        ([0, 5, 5], "1 indexes are repeated, the first is 5"),
        ([0, 1297], "1 of 2 indexes are out of range, the first is 1297"),
        ([-1, 3], "1 of 2 indexes are out of range, the first is -1"),
        (list(range(1297)), "none would be left to retain"),
        ([], "lists no image"),
    ],
    ids=["repeated", "too large", "negative", "all", "none"],
)
def test_a_file_of_indexes_must_name_images(
    compose: Callable[..., dict], tmp_path: Path, indexes: list[int], why: str
):
    np.save(tmp_path / "chosen.npy", np.array(indexes, dtype=np.int64))
    problems = refused(compose, f"forget=file:{tmp_path / 'chosen.npy'}")
    assert len(problems) == 1 and why in problems[0]


@pytest.mark.parametrize("forget", ["class:3", "3", "[3,5]", "random:0.02", "mislabelled:0.02"])
def test_what_may_be_forgotten(compose: Callable[..., dict], forget: str):
    assert compose(*WORDS, f"forget={forget}")
