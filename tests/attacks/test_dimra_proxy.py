"""DiMRA on another data set."""

from pathlib import Path

import numpy as np
import pytest
import torch
from runs import Cell
from tiny import (
    denoising,
    new_task,
)

from unrelearn.attacks.dimra_proxy import DiMRAProxy
from unrelearn.data.digits import Digits
from unrelearn.errors import UsageError

SMALL = dict(budgets=[0, 3], batch_size=8, learning_rate=1e-3)


def test_a_proxy_gives_its_images_under_the_same_labels_but_for_those_that_were_forgotten():
    module, again, few = (
        denoising(DiMRAProxy(proxy=Digits(), max_images=n, **SMALL), new_task((3, 7)))
        for n in (None, None, 20)
    )
    train_set = Digits().load().train
    label_of = {
        bytes(image): c
        for image, c in zip(train_set.images.numpy(), train_set.labels.tolist(), strict=True)
    }
    labels = module.method.auxiliary.labels.tolist()
    assert [label_of[bytes(image)] for image in module.method.auxiliary.images.numpy()] == labels
    assert set(labels) == {0, 1, 2, 4, 5, 6, 8, 9} and len(labels) == sum(
        c not in (3, 7) for c in label_of.values()
    )
    assert torch.equal(module.method.auxiliary.images, again.method.auxiliary.images)
    assert torch.equal(few.method.auxiliary.images, module.method.auxiliary.images[:20])


def write_idx(folder: Path, seed: int = 0) -> Path:
    """20 training and 20 test images of noise in MNIST's format."""
    folder.mkdir(parents=True)
    noise = np.random.default_rng(seed).integers(256, size=(20, 28, 28), dtype=np.uint8)
    for part in ("train", "t10k"):
        for name, values in (
            ("images-idx3", noise),
            ("labels-idx1", (np.arange(20) % 10).astype(np.uint8)),
        ):
            header = bytes([0, 0, 8, values.ndim]) + b"".join(
                n.to_bytes(4, "big") for n in values.shape
            )
            (folder / f"{part}-{name}-ubyte").write_bytes(header + values.tobytes())
    return folder


def test_a_proxy_is_known_by_its_images_and_not_by_where_they_lie(compose, tmp_path: Path):
    def key(name: str, seed: int) -> str:
        folder = tmp_path / name
        write_idx(folder, seed)
        cfg = compose(
            "attack=dimra_proxy", f"attack.proxy.root={folder}", "attack.proxy.verify=false"
        )
        assert cfg["attack"]["proxy"]["image_size"] == 8
        return Cell(cfg, "").attacked[0].stage.spec.key

    assert key("here", 0) == key("there", 0) != key("else", 1)


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        ("attack.proxy.root=/no/such", "attack.proxy.root=/no/such: missing train-images"),
        (
            "attack.proxy.root={root} attack.proxy.image_size=16",
            "[1, 16, 16] (channels, height, width), and the model's [1, 8, 8]",
        ),
        ("attack.proxy.root={root} attack.proxy.image_siz=16", "Type attack.proxy.image_size=16"),
        ("attack.proxy=5", "attack.proxy=5: must be an object, with its _target_"),
    ],
)
def test_a_proxy_that_is_not_there_or_does_not_fit_gets_one_line(
    overrides: str, said: str, compose, tmp_path: Path
):
    root = write_idx(tmp_path / "idx")
    given = overrides.format(root=root).split(" ")
    given = [f"+{g}" if "image_siz=" in g else g for g in given]
    with pytest.raises(UsageError) as error:
        compose("attack=dimra_proxy", *given)
    assert len(error.value.problems) == 1 and said in error.value.problems[0], error.value.problems


def test_the_files_of_a_proxy_are_asked_for_by_its_attack_alone_and_not_in_a_dry_run(
    compose, capsys
):
    assert compose("attack=dimra")
    assert compose("attack=dimra_proxy", "attack.proxy.root=/no/such", "dry_run=true")
    assert capsys.readouterr().err.startswith("not yet: attack.proxy.root=/no/such")
