"""Protocols: how images are drawn and compared. What a name promises, and what the reference of the
measurements holds.
"""

import json
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from runs import Cell, execute
from safetensors.torch import load_file
from tiny import CONF, SMALL

from unrelearn.classification.classifier import halves
from unrelearn.config import composed, protocol_label
from unrelearn.evals.evidence import stretch_contrast
from unrelearn.stages.classifier import classifier
from unrelearn.stages.images import images

TINY = [
    *SMALL,
    "model.pretrain.max_steps=3",
    "unlearning.max_steps=2",
    "unlearning.batch_size=8",
    "attack=none",
    "oracle.max_steps=5",
    "oracle.main.width=8",
    "oracle.held_out.width=8",
    "sampler.num_inference_steps=2",
    "sampler.num_images=4",
    "sampler.images_per_retained_class=3",
]


# -------------------------------------------------------------------------------------------- names


def test_each_protocol_sets_what_it_promises(compose: Callable):
    fast, clean, salun = (compose(f"protocol={name}") for name in ("fast", "clean", "salun"))
    assert compose()["protocol"] == fast["protocol"] and compose()["sampler"] == fast["sampler"]
    assert (
        clean["model"]["weights"] == fast["model"]["weights"] == "ema"
        and salun["model"]["weights"] == "raw"
    )
    assert clean["protocol"] == {
        "name": "clean",
        "contrast_stretch": False,
        "reference_images_per_class": None,
    }
    assert salun["protocol"] == {
        "name": "salun",
        "contrast_stretch": True,
        "reference_images_per_class": 500,
    }
    assert salun["sampler"] == {
        "name": "ddim",
        "num_inference_steps": 1000,
        "eta": 1.0,
        "clip_sample": False,
        "guidance_scales": [3.0],
        "num_images": 500,
        "retain_guidance_scales": [3.0],
        "images_per_retained_class": 5000,
        "seed": 0,
        "off_grid_share": 0.05,
        "second": {"name": "dpmsolver++", "num_inference_steps": 50, "num_images": 100},
    }
    assert (
        clean["sampler"]["num_inference_steps"] == 50
        and clean["sampler"]["images_per_retained_class"] == 5000
    )


@pytest.mark.parametrize(
    "chosen",
    [
        ["dataset=cifar10"],
        ["model=unet_small"],
        ["model=salun_unet", "dataset=cifar10"],
        ["experiment=cifar10", "dry_run=true"],
    ],
    ids=" ".join,
)
def test_a_protocol_decides_about_the_weights_whatever_the_model(
    chosen: list[str], compose: Callable
):
    for name, weights in (("salun", "raw"), ("clean", "ema")):
        cfg = compose(f"protocol={name}", *chosen)
        assert cfg["model"]["weights"] == weights and cfg["protocol"]["name"] == name
    assert compose("protocol=salun", "model.weights=ema", *chosen)["model"]["weights"] == "ema"


@pytest.mark.parametrize("name", ["fast", "clean", "salun"])
def test_no_number_goes_by_the_name_of_a_protocol_that_was_changed(name: str, compose: Callable):
    def label(*overrides: str) -> str:
        return protocol_label(compose(f"protocol={name}", *overrides))

    assert label() == name
    assert label("sampler.guidance_scales=[7]") == f"{name} (sampler.guidance_scales=[7.0])"
    assert (
        label("protocol.reference_images_per_class=9", "sampler.num_images=2")
        == f"{name} (protocol.reference_images_per_class=9, sampler.num_images=2)"
    )
    assert label("sampler.second=null") == f"{name} (sampler.second=None)"
    assert label("sampler.second.num_images=9") == f"{name} (sampler.second.num_images=9)"
    other = "raw" if name != "salun" else "ema"
    promised = (
        "model:" in (CONF / "protocol" / f"{name}.yaml").read_text()
    )  # fast leaves the weights to the model
    assert label(f"model.weights={other}") == (
        f"{name} (model.weights={other})" if promised else name
    )
    assert (
        label("seed=3", "method=salun", "trainer.sampling_batch_size=2", "unlearning.max_steps=7")
        == name
    )


@pytest.mark.parametrize("experiment", ["cifar10", "cifar10_35k", "celeba"])
def test_the_large_experiments_keep_to_their_protocol(experiment: str, compose: Callable):
    assert protocol_label(compose(f"experiment={experiment}", "dry_run=true")) == "clean"


# ------------------------------------------------------------------------------------ the reference


def finished(cfg: dict) -> tuple[Cell, dict, dict[str, torch.Tensor]]:
    """The pipeline, its record, and what the reference holds."""
    pipeline = Cell(cfg, "")
    record = pipeline.complete()
    return (
        pipeline,
        record,
        load_file(pipeline.store.find(pipeline.reference.spec).path / "reference.safetensors"),
    )


def test_a_protocol_reaches_the_reference_and_every_row(compose: Callable):
    chosen = ["protocol=salun", "protocol.reference_images_per_class=6", *TINY]
    pipeline, record, reference = finished(compose(*chosen))
    assert record["protocol"].startswith(
        "salun (protocol.reference_images_per_class=6, sampler.num_inference_steps=2"
    )
    assert (
        reference["train/labels"].bincount().tolist() == [6] * 10
        and len(reference["test/labels"]) == 500
    )
    classifiers = classifier(pipeline, "main"), classifier(pipeline, "held_out")
    dim = images(pipeline).test.images
    assert not torch.equal(dim, stretch_contrast(dim))  # or the next lines would prove nothing
    torch.testing.assert_close(
        reference["test/features"], classifiers[0].look(stretch_contrast(dim))[1], rtol=0, atol=1e-6
    )
    torch.testing.assert_close(
        reference["test/held_out"], classifiers[1].look(stretch_contrast(dim))[0], rtol=0, atol=1e-6
    )
    # the classifiers have seen the images at even places of each class
    first = (
        torch.cat([torch.where(images(pipeline).train.labels == c)[0][1:12:2] for c in range(10)])
        .sort()
        .values
    )
    assert torch.equal(reference["train/labels"], images(pipeline).train.labels[first])
    seen = classifiers[0].look(stretch_contrast(images(pipeline).train.images[first]))[1]
    torch.testing.assert_close(reference["train/features"], seen, rtol=0, atol=1e-6)
    for row in record["rows"]:
        assert row["weights"].endswith(" (raw)")
        measured = row["metrics"]["fd_oracle"]
        assert (
            list(measured) == ["3.0"]
            and measured["3.0"]["reference_n"] == 9 * 6
            and measured["3.0"]["n"] == 9 * 3
        )

    _, record, plain = finished(
        compose(
            *chosen, "protocol.contrast_stretch=false", "protocol.reference_images_per_class=null"
        )
    )
    assert record["rows"][0]["metrics"]["fd_oracle"]["3.0"]["reference_n"] == sum(
        int((images(pipeline).train.labels == c).sum()) // 2 for c in range(10) if c != 7
    )
    torch.testing.assert_close(
        plain["test/features"], classifiers[0].look(dim)[1], rtol=0, atol=1e-6
    )
    assert (
        len(plain["train/labels"]) == len(halves(images(pipeline).train)[1])
        and "train/inception_features" not in plain
    )


@pytest.mark.parametrize(
    "change", ["protocol.contrast_stretch=true", "protocol.reference_images_per_class=9"]
)
def test_another_reference_leaves_the_images_as_they_are(change: str, compose: Callable):
    ours, theirs = (Cell(compose(*given), "") for given in ([], [change]))
    assert ours.samples(ours.unlearned).spec.key == theirs.samples(theirs.unlearned).spec.key
    assert ours.reference.spec.key != theirs.reference.spec.key
    assert ours.evaluation(ours.unlearned).spec.key != theirs.evaluation(theirs.unlearned).spec.key


def test_real_images_are_looked_at_once_for_all_methods_forgotten_classes_and_measurements(
    compose: Callable,
):
    statuses = []
    for overrides in (
        ["method=dimum"],
        ["method=finetune"],
        ["method=original", "forget=[2,3]"],
        ["method=original", "eval=[fd_oracle]"],
    ):
        pipeline, record, _ = finished(compose(*TINY, *overrides))
        statuses += [stage["status"] for stage in record["stages"] if stage["stage"] == "reference"]
    assert statuses == ["computed", "reused", "reused", "reused"]
    assert len(list((pipeline.store.root / "reference").glob("*/manifest.json"))) == 1
    pipeline, record, _ = finished(compose(*TINY, "method=original"))
    assert not [
        stage for stage in record["stages"] if stage["stage"] == "reference"
    ]  # not even opened


# ---------------------------------------------------------------------------------- without weights


def test_without_inception_weights_fid_is_left_out_and_said(
    compose: Callable, capsys, monkeypatch, tmp_path: Path
):
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")  # nobody answers there
    monkeypatch.setattr(urllib.request, "_opener", None)  # which would remember how it was before
    (tmp_path / "data").mkdir()
    record = execute(
        compose(
            *TINY, "eval=[fid,kid,entropy]", "method=original", f"paths.data={tmp_path / 'data'}"
        ),
        "",
    )
    said = " ".join(capsys.readouterr().out.split())
    assert (
        said.count("Left out: fid, kid;") == 1
        and f"into {tmp_path / 'data'} or type paths.inception_weights=FILE" in said
    )
    for row in record["rows"]:
        assert (
            set(row["metrics"]) == {"entropy", "fd_oracle"}
            and row["metrics"]["fd_oracle"]["1.0"]["value"] > 0
        )
    assert record["status"] == "finished" and json.dumps(record["config"]["eval"]).count("fid") == 0


@pytest.mark.parametrize(
    ("protocol", "drawn"),
    [("fast", ("dpmsolver++", 25)), ("as_released", ("lms", 100)), ("salun", ("ddim", 1000))],
)
def test_stable_diffusion_has_steps_of_its_own_where_no_protocol_says_them(
    protocol: str, drawn: tuple[str, int]
):
    words = ["model=stable_diffusion", "dataset=imagenette", f"protocol={protocol}"]
    cfg = composed(words)
    assert (cfg.sampler.name, cfg.sampler.num_inference_steps) == drawn
    assert cfg.unlearning.learning_rate == 1e-5 and cfg.protocol.name == protocol
