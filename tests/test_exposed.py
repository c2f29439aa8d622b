"""The default leaderboard on real tiny models: what only hides a class, or only changes units, is
exposed.
"""

import numpy as np
import pytest
import torch
from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from PIL import Image
from runs import Cell
from tiny import CONF, SMALL

from unrelearn import config
from unrelearn.report import board, number
from unrelearn.report.groups import comparison

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
def found(tmp_path_factory: pytest.TempPathFactory) -> board.Board:
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
    (made,) = board.boards(comparison(records))
    return made


def record_of(words: list[str]) -> dict:
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        cfg = config.validate(hydra_compose("config", overrides=words))
    torch.set_num_threads(1)
    return Cell(cfg, " ".join(words)).complete()


def entry(found: board.Board, name: str) -> board.Entry:
    method, _, factor = name.partition(" ")
    (one,) = [
        e
        for e in found.entries
        if e.method.name == method
        and (not factor or float(factor) == float(e.unlearned[0]["config"]["method"]["factor"]))
    ]
    return one


def recovered(found: board.Board, name: str, attack: board.Treatment) -> float:
    (value,) = entry(found, name).forget_accuracies(attack, "1.0").values()
    return number(value)


@pytest.mark.parametrize("name", CONTROLS)
def test_a_control_that_forgets_nothing_is_never_called_irreversible(found: board.Board, name: str):
    said = board.verdict(found, entry(found, name), "1.0")
    # so few steps at such a rate cost a network of this size its quality, whatever its units
    assert said == board.REVERSIBLE or (name.startswith("rescaled") and said == board.RUINED)


@pytest.mark.parametrize("name", ["row_swap", "projection_swap"])
def test_dimra_alone_would_not_have_seen_it(found: board.Board, name: str):
    """Why a verdict rests on two attacks."""
    retrain = entry(found, "retrain").forget_accuracies(found.main, "1.0")[0]
    assert recovered(found, name, found.main) <= number(retrain) + 0.1
    assert recovered(found, name, found.inversion) > 0.5


def test_other_units_make_no_difference_to_any_attack(found: board.Board):
    for attack in found.heads:
        ends = [recovered(found, f"rescaled {factor}", attack) for factor in ("1", "100", "0.03")]
        assert max(ends) - min(ends) <= 0.05, attack  # one image of the half that reports
        assert min(ends) > recovered(found, "retrain", attack) + 0.2


def test_the_leaderboard_says_in_which_units_the_weights_are(found: board.Board):
    notes = " ".join(board.notes(found))
    assert "weights in other units than the original's" in notes
    assert "the class's own row of the table was changed" in notes  # row_swap
    assert "no retained image reaches" in notes  # projection_swap
