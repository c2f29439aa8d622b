"""The default leaderboard on real tiny models: what only hides a class, or only changes units, is
exposed.
"""

import numpy as np
import pytest
import torch
from PIL import Image
from runs import Cell
from tiny import SMALL

from unrelearn import config
from unrelearn.report.panel import Panel, panels
from unrelearn.report.table import results
from unrelearn.report.verdicts import REVERSIBLE, RUINED, notes, verdict

SHAPES = ("bar", "frame", "post")  # the middle one is forgotten
CONTROLS = {
    "row_swap": [],
    "projection_swap": [],
    **{
        f"rescaled {factor}": [f"method.factor={factor}", "method.max_steps=6"]
        for factor in ("1", "100", "0.03")
    },
}
SIZES = [
    *SMALL,
    "model.pretrain.max_steps=400",
    "model.pretrain.batch_size=32",
    "model.pretrain.learning_rate=5e-3",
    "oracle.max_steps=120",
    "oracle.batch_size=32",
    "oracle.main.width=8",
    "oracle.held_out.width=8",
    "unlearning.batch_size=16",
    "unlearning.learning_rate=1e-3",
    "relearning.budgets=[60]",
    "relearning.batch_size=16",
    "relearning.learning_rate=1e-3",
    "sampler.num_images=40",
    "sampler.images_per_retained_class=100",
    "sampler.guidance_scales=[1.0]",
    "sampler.second=null",
]


def picture(shape: str, rng: np.random.Generator) -> Image.Image:
    """A bright shape of 8x8 pixels on noise, somewhere near the middle."""
    pixels = rng.uniform(0, 60, (8, 8))
    at, edge = rng.integers(2, 5), rng.integers(0, 2)
    if shape == "bar":
        pixels[at : at + 2] = 220
    elif shape == "post":
        pixels[:, at : at + 2] = 220
    else:
        pixels[edge : 8 - edge, edge : 8 - edge] = 220
        pixels[edge + 1 : 7 - edge, edge + 1 : 7 - edge] = 30
    return Image.fromarray(pixels.astype("uint8"))


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Panel:
    """The leaderboard of the controls and a retrained model under the two attacks that rank."""
    folder, rng = tmp_path_factory.mktemp("exposed"), np.random.default_rng(0)
    for shape in SHAPES:
        (folder / "data" / shape).mkdir(parents=True)
        for number_ in range(60):
            picture(shape, rng).save(folder / "data" / shape / f"{number_}.png")
    fixed = [
        "dataset=folder",
        f"dataset.root={folder / 'data'}",
        "dataset.image_size=8",
        "dataset.grayscale=true",
        "model=unet_tiny",
        "forget=frame",
        "tracking=none",
        "trainer.accelerator=cpu",
        f"paths.outputs={folder / 'out'}",
    ]
    records = [
        record_of([*fixed, *SIZES, f"method={name.split()[0]}", f"attack={attack}", *words])
        for name, words in {"retrain": [], **CONTROLS}.items()
        for attack in ("dimra", "embedding_inversion")
    ]
    (made,) = panels(results(records))
    return made


def record_of(words: list[str]) -> dict:
    cfg = config.validate(config.composed(words))
    torch.set_num_threads(1)
    return Cell(cfg, " ".join(words)).complete()


def labelled(found: Panel, name: str) -> str:
    """The label of the method with this name, and factor."""
    method, _, factor = name.partition(" ")
    settings = {label: found.records(label)[0]["config"]["method"] for label in found.methods}
    (label,) = [
        label
        for label in found.methods
        if found.named[label][0] == method
        and (not factor or float(factor) == float(settings[label]["factor"]))
    ]
    return label


def recovered(found: Panel, name: str, attack: str) -> float:
    (value,) = found.seeds("1.0", labelled(found, name), attack)["value"]
    return value


@pytest.mark.parametrize("name", CONTROLS)
def test_a_control_that_forgets_nothing_is_never_called_irreversible(found: Panel, name: str):
    called = verdict(found, "1.0", labelled(found, name))
    # so few steps at such a rate cost a network of this size its quality, whatever its units
    assert called == REVERSIBLE or (name.startswith("rescaled") and called == RUINED)


@pytest.mark.parametrize("name", ["row_swap", "projection_swap"])
def test_dimra_alone_would_not_have_seen_it(found: Panel, name: str):
    """Why a verdict rests on two attacks."""
    assert recovered(found, name, found.main) <= recovered(found, "retrain", found.main) + 0.1
    assert recovered(found, name, found.inversion) > 0.5


def test_other_units_make_no_difference_to_any_attack(found: Panel):
    for attack in found.heads:
        ends = [recovered(found, f"rescaled {factor}", attack) for factor in ("1", "100", "0.03")]
        assert max(ends) - min(ends) <= 0.05, attack  # one image of the half that reports
        assert min(ends) > recovered(found, "retrain", attack) + 0.2


def test_the_leaderboard_says_in_which_units_the_weights_are(found: Panel):
    words = " ".join(notes(found))
    assert "weights in other units than the original's" in words
    assert "the class's own row of the table was changed" in words  # row_swap
    assert "no retained image reaches" in words  # projection_swap
