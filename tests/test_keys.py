"""The keys of every artefact of 141 configurations, as they were when they were last accepted.

What was computed is found again by its key: whoever moves code must not move a key. Whoever changes
on purpose what a key stands for raises the version of its stage, writes the new ones with

    UNRELEARN_GOLDEN=write python -m pytest tests/test_keys.py

and says under "Changed results" in CHANGELOG.md which keys moved, and why.
"""

import json
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tiny import ATTACKS, CLASSIFIERS, METHODS

from unrelearn import tracks
from unrelearn.config import to_config
from unrelearn.record import name_of_run
from unrelearn.run import Run
from unrelearn.stage import walk

KEPT = Path(__file__).parent / "golden" / "keys.json"
DATASETS = ("cifar10", "mnist", "fashion_mnist", "celeba forget=0")
SINGLE = (
    "seed=3",
    "forget=[1,4]",
    "forget=0 seed=2",
    "precision=bf16-mixed",
    "model.weights=raw",
    "method=retrain model.weights=raw",
    "protocol=clean",
    "protocol=salun",
    "protocol=fast",
    "model=unet_small",
    "relearning.seed=2",
    "relearning.budgets=[0,10,20]",
    "attack.learning_rate=1e-3",
    "unlearning.max_steps=7",
    "+method.saliency_fraction=0.5",
    "train_class_embedding=true",
    "sampler.name=ddpm sampler.eta=1.0",
    "sampler.second=null",
    "sampler.off_grid_share=0",
    "sampler.num_images=20",
    "eval=[forget_accuracy]",
    "oracle.max_steps=9",
    "attack=prune attack.levels=[0,0.2]",
    "held_out.share=0.5 eval=[membership] forget=random:0.1 method=siss",
    "dataset=cifar10 model=salun_unet",
    "dataset=cifar10 model=ddpm_cifar10_small precision=16-mixed",
    "dataset=celeba forget=1 protocol=clean method=dimum method.memory=counterpart",
)
CLASSIFIER = "experiment=classification forget=class:3"
OF_CLASSIFIERS = (
    "forget=random:0.1",
    "forget=random:0.1 forget_seed=1",
    "augment.base=crop_flip",
    "augment.retrain=trivial",
    "augment.forget=erasing",
    "references.count=8",
    "references.half=table",
    "predictions.features=true",
    "model.network.batch_norm=eval",
    "dataset=digits",
    "method=retrain augment.retain=augmix",
)
CONFIGURATIONS = [
    *(f"{CLASSIFIER} {g}={name}" for g, names in CLASSIFIERS.items() for name in names),
    *(f"{CLASSIFIER} {words}" for words in OF_CLASSIFIERS),
    *(f"method={name} attack=none" for name in METHODS),
    *(f"method={name}" for name in METHODS),
    *(f"attack={name}" for name in ATTACKS),
    *(f"dataset={name}" for name in DATASETS),
    *SINGLE,
]

FILES = (
    "a folder of images",
    "a folder of weights from elsewhere",
    "a file of weights from elsewhere",
    "features of Inception",
)


def keys(cfg: dict) -> list[str]:
    """stage/key of all that a run consists of, in the order in which it is made."""
    run = Run(to_config(cfg), command="")
    lines = [stage.id for stage in walk(tracks.targets(run))]
    return sorted([*lines, f"record/{name_of_run(run)}"])


def compare(name: str, found: list[str]) -> None:
    kept = json.loads(KEPT.read_text()) if KEPT.exists() else {}
    if os.environ.get("UNRELEARN_GOLDEN") == "write":
        KEPT.write_text(json.dumps(kept | {name: found}, indent=1, sort_keys=True) + "\n")
        return
    assert found == sorted(kept[name]), f"{name}: see the head of this file"


@pytest.mark.parametrize("words", CONFIGURATIONS)
def test_a_configuration_has_its_keys(words: str, compose, tmp_path: Path):
    compare(words, keys(compose(*words.split(), "dry_run=true", f"paths.data={tmp_path}")))


def test_a_folder_of_images_has_its_keys(compose, tmp_path: Path):
    for name in ("cats", "dogs"):
        (tmp_path / name).mkdir()
        for k in range(4):
            image = np.full((8, 8, 3), 10 * k + len(name), dtype=np.uint8)
            Image.fromarray(image).save(tmp_path / name / f"{k}.bmp")
    chosen = ("dataset=folder", "dataset.image_size=8", f"dataset.root={tmp_path}", "forget=cats")
    cfg = compose("dry_run=true", *chosen)
    compare("a folder of images", keys(cfg))


def test_an_imported_checkpoint_has_its_keys(compose, tmp_path: Path):
    cfg = compose("dry_run=true")
    folder = tmp_path / "theirs"
    (folder / "sub").mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    (folder / "sub" / "weights.safetensors").write_bytes(b"weights")
    (folder / "notes.txt").write_text("not read")
    cfg["model"]["checkpoint"] = str(folder)
    compare("a folder of weights from elsewhere", keys(cfg))
    cfg["model"]["checkpoint"] = str(folder / "sub" / "weights.safetensors")
    compare("a file of weights from elsewhere", keys(cfg))


def test_features_of_inception_have_their_keys(compose, tmp_path: Path):
    cfg = compose("dry_run=true", "eval=[forget_accuracy,fid]")
    weights = tmp_path / "inception.pt"
    weights.write_bytes(b"features")
    cfg["paths"]["inception_weights"] = str(weights)
    compare("features of Inception", keys(cfg))


def test_every_accepted_configuration_is_still_asked_for():
    assert set(json.loads(KEPT.read_text())) == {*CONFIGURATIONS, *FILES}
