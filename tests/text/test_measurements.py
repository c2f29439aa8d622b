"""What is measured of words: the concept and not the class, its paraphrases, what lies near it."""

import torch

from unrelearn.config import forget_classes
from unrelearn.data.shapes import Shapes
from unrelearn.diffusion.captions import captions_of
from unrelearn.diffusion.drawing import jobs
from unrelearn.evals import (
    concept_accuracy,
    domain_accuracy,
    nearby_damage,
    paraphrase_accuracy,
)
from unrelearn.evals.attributes import concept, seen, values
from unrelearn.evals.evidence import Evidence, Predictions

SHAPES = Shapes()
NAMES = SHAPES.class_names


def drawn(pairs: list[tuple[str, str]], wording: int = 0) -> Predictions:
    """Of pairs (asked for, shown), by name; "" is nothing."""
    labels = torch.tensor([NAMES.index(asked) for asked, _ in pairs])
    shown = torch.tensor([NAMES.index(name) if name else 96 for _, name in pairs])
    probabilities = torch.nn.functional.one_hot(shown, 97).double()
    table = torch.tensor(SHAPES.values)
    judged = torch.where((shown < 96)[:, None], table[shown.clamp(max=95)], -1)
    judged[:, 2:] = -2  # texture and shape are not computed
    return Predictions(
        labels,
        probabilities,
        probabilities,
        torch.zeros(len(pairs), 2),
        judged=judged,
        wording=torch.full((len(pairs),), wording),
    )


def evidence(word: str = "red", **seen: Predictions) -> Evidence:
    real = drawn([(NAMES[0], NAMES[0])])
    streams = {name: {"1.0": one} for name, one in seen.items()}
    return Evidence(
        forget=streams.pop("forget", {}),
        retain=streams.pop("retain", {}),
        real_train=real,
        real_test=real,
        forget_classes=forget_classes(word, SHAPES),
        num_classes=96,
        attributes=SHAPES.attributes,
        **streams,
    )


ASKED = [
    ("small red solid circle", "small red solid circle"),
    ("small red solid circle", "large red striped square"),  # still red
    ("small red solid circle", "small green solid circle"),
    ("small red solid circle", ""),
]


def test_the_concept_is_what_counts_whatever_else_is_shown():
    result = concept_accuracy.run(evidence(forget=drawn(ASKED)))["1.0"]
    assert (result["value"], result["held_out"], result["computed"]) == (0.5, 0.5, 0.5)
    assert result["hits"] == "1100"
    assert result["kept"] == 0.5  # size, texture and shape are right in the first and the third


def test_an_object_is_not_computed_and_a_combination_needs_both_words():
    shape = concept_accuracy.run(evidence("circle", forget=drawn(ASKED)))["1.0"]
    assert shape["value"] == 0.5 and shape["computed"] is None
    both = concept_accuracy.run(evidence("red circle", forget=drawn(ASKED)))["1.0"]
    assert both["value"] == 0.25
    assert list(concept(evidence("red circle"))) == [1, 3]


def test_probabilities_are_summed_over_the_classes_of_a_value():
    """Two red classes of 0.3 each are likelier red than green with 0.4."""
    p = torch.zeros(1, 97, dtype=torch.float64)
    for name, share in (("small red solid circle", 0.3), ("large red striped cross", 0.3)):
        p[0, NAMES.index(name)] = share
    p[0, NAMES.index("small green solid circle")] = 0.4
    assert seen(evidence(), p)[0, 1] == 0


def test_paraphrases_are_told_apart():
    asked = [("small red solid circle", name) for name in (NAMES[0], "small blue solid circle")]
    crimson, scarlet = drawn([asked[0], asked[0]], 4), drawn([asked[0], asked[1]], 5)
    both = Predictions(
        *(
            torch.cat([getattr(crimson, name), getattr(scarlet, name)])
            for name in ("labels", "probabilities", "held_out", "features")
        ),
        wording=torch.cat([crimson.wording, scarlet.wording]),
    )
    result = paraphrase_accuracy.run(evidence(paraphrase=both))["1.0"]
    assert result["by_wording"] == {"4": 1.0, "5": 0.5} and result["value"] == 0.75
    assert result["computed"] is None
    assert paraphrase_accuracy.run(evidence()) == {}


def test_what_is_kept_in_the_domain_and_in_others():
    pairs = [
        ("small green solid circle", "small green solid circle"),
        ("small green solid circle", "small blue solid circle"),  # the colour is lost
        ("small green solid circle", "large green striped cross"),  # all else is
        ("small blue solid circle", "small blue solid circle"),
    ]
    result = domain_accuracy.run(evidence(retain=drawn(pairs)))["1.0"]
    assert (result["value"], result["cross_domain"], result["all_right"]) == (0.75, 0.75, 0.5)
    assert result["computed"] == 0.75


def test_damage_is_told_by_what_is_shared_and_by_what_stands_there():
    pairs = [
        ("small red solid square", "small red solid cross"),  # shares red
        ("small green solid circle", "small green solid circle"),  # shares circle
        ("small green solid cross", "small green solid cross"),
    ]
    result = nearby_damage.run(evidence("red circle", retain=drawn(pairs)))["1.0"]
    assert result["shared"] == {"0": 1.0, "1": 0.5}
    assert result["values"]["red"] == 0.0 and result["values"]["green"] == 1.0
    assert result["value"] == 0.0


def test_a_data_set_without_attributes_has_its_classes():
    probabilities = torch.eye(4, dtype=torch.float64)[[1, 2, 3]]
    images = Predictions(torch.tensor([1, 1, 1]), probabilities, probabilities, torch.zeros(3, 2))
    plain = Evidence({"1.0": images}, {}, images, images, [1], 3)
    assert concept_accuracy.run(plain)["1.0"]["value"] == 1 / 3
    assert values(plain).tolist() == [[0], [1], [2]]


def test_paraphrases_are_drawn_beside():
    captions, forget = captions_of(SHAPES), forget_classes("red", SHAPES)
    said = [c + 97 * w for w in captions.paraphrases(forget) for c in forget]
    sampler = dict(
        num_images=96,
        images_per_retained_class=1,
        name="ddim",
        num_inference_steps=2,
        guidance_scales=[1.0],
        retain_guidance_scales=[1.0],
        second=None,
        off_grid_share=0,
    )
    streams = {job.stream: job for job in jobs(sampler, forget, 96, 1000, paraphrases=said)}
    labels = streams["paraphrase"].labels
    assert len(labels) == 96 and set((labels // 97).tolist()) == {4, 5}
    assert "paraphrase" not in {job.stream for job in jobs(sampler, forget, 96, 1000)}
