"""The keys of every artefact of 176 configurations, as they were when they were last accepted.

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
from unrelearn.config.schema import file_of
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
# without the files of a data set its content is in no key, as in a dry run
OTHER_DATA = (
    "dataset=cifar100",
    "dataset=svhn",
    "dataset=shapes model=unet_16 forget=red",
    "dataset=imagenette dataset.image_size=64 model=ddpm_celeba64 forget=church",
    "experiment=classification dataset=cifar100 forget=class:3",
)
OF_WORDS = (
    *(f"method={name}" for name in ("uce", "forget_me_not", "token_swap", "row_swap", "receler")),
    *(f"method={name}" for name in ("dimum", "retrain", "salun +method.parameters=key_value")),
    *(f"attack={name}" for name in ("textual_inversion", "prompt_search", "encoder_transplant")),
    *(f"method={name}" for name in ("adv_unlearn", "spm", "esd_attribute")),
    "forget=circle",
    "model.text.seed=1",
)
STABLE = "experiment=imagenette model.checkpoint=/nowhere"
OF_STABLE = ("method=uce", "method=forget_me_not attack=few_shot", "precision=32-true")
FEDERATED = "experiment=vflgan"
OF_FEDERATIONS = (
    "seed=1",
    "design=[vflgan] privacy=[none,dpsgd]",
    "design=[vflgan] privacy=[first_layer,first_layer_scalar,first_layer_frozen]",
    "design=[vflgan] privacy=[gs] gan.privacy.gs.critics=2",
    "design=[vflgan] audit=published",
    "audit=published gan.audit.change=replace gan.audit.targets=[outlier,3]",
    "design=[vflgan,vertigan] gan.partition=left_right gan.penalty=factorised",
    "design=[vflgan] gan.select=best_fd gan.records=100",
    "design=[vflgan] gan.statistics=dp",
    "design=[vflgan] dataset=mnist_halves",
)
CONFIGURATIONS = [
    *(f"{CLASSIFIER} {g}={name}" for g, names in CLASSIFIERS.items() for name in names),
    *(f"{CLASSIFIER} {words}" for words in OF_CLASSIFIERS),
    *(f"method={name} attack=none" for name in METHODS),
    *(f"method={name}" for name in METHODS),
    *(f"attack={name}" for name in ATTACKS),
    *(f"dataset={name}" for name in DATASETS),
    *SINGLE,
    *OTHER_DATA,
    *(f"experiment=text {words}" for words in OF_WORDS),
    *(f"{STABLE} {words}" for words in OF_STABLE),
    *(f"{FEDERATED} {words}" for words in OF_FEDERATIONS),
]

FILES = (
    "a folder of images",
    "a folder of weights from elsewhere",
    "a file of weights from elsewhere",
    "features of Inception",
    "weights that somebody else unlearned",
    "folders of Tiny ImageNet",
    "a table of one's own",
    "a file of German credit",
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


def test_weights_that_somebody_else_unlearned_have_their_keys(compose, tmp_path: Path):
    cfg = compose("dry_run=true")
    folder = tmp_path / "theirs"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    (folder / "diffusion_pytorch_model.safetensors").write_bytes(b"weights")
    cfg["method"] = {**file_of("method", "given"), "checkpoint": str(folder)}
    compare("weights that somebody else unlearned", keys(cfg))


def test_folders_of_tiny_imagenet_have_their_keys(compose, tmp_path: Path):
    folder = tmp_path / "tiny-imagenet-200"
    for name in ("n01", "n02"):
        (folder / "train" / name / "images").mkdir(parents=True)
        (folder / "train" / name / "images" / f"{name}_0.JPEG").write_bytes(name.encode())
    (folder / "val" / "images").mkdir(parents=True)
    (folder / "val" / "images" / "val_0.JPEG").write_bytes(b"test")
    (folder / "val" / "val_annotations.txt").write_text("val_0.JPEG\tn02\t0\t0\t9\t9\n")
    (folder / "wnids.txt").write_text("n01\nn02\n")
    (folder / "words.txt").write_text("n01\tgoldfish, carp\nn02\tnewt\n")
    chosen = ("dataset=tiny_imagenet", f"dataset.root={tmp_path}", "forget=newt")
    compare("folders of Tiny ImageNet", keys(compose("dry_run=true", *chosen)))


def test_a_table_of_ones_own_has_its_keys(compose, tmp_path: Path):
    rows = [f"{20 + k % 50},{100 * k},{k % 2}" for k in range(400)]
    (tmp_path / "table.csv").write_text("\n".join(["age,income,disease", *rows, ""]))
    chosen = ("experiment=vflgan", "dataset=table", f"dataset.root={tmp_path / 'table.csv'}")
    given = ("design=[vflgan]", "dataset.categorical=[disease]", "gan.statistics=own")
    compare("a table of one's own", keys(compose("dry_run=true", *chosen, *given)))


def test_a_file_of_german_credit_has_its_keys(compose, tmp_path: Path):
    row = "A11 {} A34 A43 {} A65 A75 4 A93 A101 4 A121 67 A143 A152 2 A173 1 A192 A201 {}\n"
    rows = [row.format(4 + k % 60, 300 + k, 1 + k % 2) for k in range(400)]
    (tmp_path / "german.data").write_text("".join(rows))
    chosen = ("experiment=vflgan", "dataset=credit", f"dataset.root={tmp_path}", "design=[vflgan]")
    compare("a file of German credit", keys(compose("dry_run=true", *chosen)))


def test_features_of_inception_have_their_keys(compose, tmp_path: Path):
    cfg = compose("dry_run=true", "eval=[forget_accuracy,fid]")
    weights = tmp_path / "inception.pt"
    weights.write_bytes(b"features")
    cfg["paths"]["inception_weights"] = str(weights)
    compare("features of Inception", keys(cfg))


def test_every_accepted_configuration_is_still_asked_for():
    assert set(json.loads(KEPT.read_text())) == {*CONFIGURATIONS, *FILES}
