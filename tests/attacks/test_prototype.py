"""A row of the head from the features of a few images."""

import numpy as np
import pytest
import torch
from formulas import at
from small_classifiers import classifying, data, learned, linear, new_task
from tiny import moved, weights
from torch.nn import functional as F

from unrelearn.attacks.prototype import Prototype
from unrelearn.classification.classifying import unit
from unrelearn.classification.networks import Network
from unrelearn.data import ImageSet
from unrelearn.errors import UsageError
from unrelearn.methods.logit_mask import LogitMask


def public() -> ImageSet:
    return data().test.take(torch.arange(0, len(data().test.labels), 2))


def prototype(network: Network, classes: tuple[int, ...], **changes):
    given = {"levels": [2, 20], "share": 0.5, "centred": True, **changes}
    task = new_task(classes, network=network, public=public())
    module = classifying(Prototype(**given), task)
    module.prepare()
    return module


@pytest.mark.parametrize("share", [0.3, 1.0])
@pytest.mark.parametrize("centred", [True, False])
def test_the_row_is_the_published_formula_scaled_and_with_a_bias(centred: bool, share: float):
    module = prototype(linear(), (3, 7), levels=[1000], share=share, centred=centred)
    before = {name: value.double().numpy() for name, value in weights(module).items()}
    found = at(module, 1000)  # all that there are
    pixels = public().images.flatten(1).double().numpy() / 255 * 2 - 1
    labels, kept = public().labels.numpy(), [0, 1, 2, 4, 5, 6, 8, 9]
    w, b = before["head.weight"], before["head.bias"]
    origin = pixels[np.isin(labels, kept)].mean(0) if centred else np.zeros(64)
    length = np.mean([np.linalg.norm(w[c]) for c in kept])
    for c in (3, 7):
        mean = pixels[labels == c].mean(0) - origin
        row = share * length * mean / np.linalg.norm(mean) + (1 - share) * w[c]
        bias = np.mean([w[k] @ origin + b[k] for k in kept]) - row @ origin
        np.testing.assert_allclose(found["head.weight"][c], row, rtol=1e-4, atol=1e-5)
        assert found["head.bias"][c].item() == pytest.approx(bias, rel=1e-4, abs=1e-5)
        if not centred:
            assert bias == pytest.approx(b[kept].mean())
    for name in ("head.weight", "head.bias"):
        np.testing.assert_array_equal(found[name][kept], before[name][kept])


def test_only_the_rows_of_forgotten_classes_move_and_features_are_those_of_evaluation():
    network = learned().train()
    module = prototype(network, (3,), levels=[1000], share=1.0, centred=False)
    before = weights(module)
    found = at(module, 1000)
    assert moved(before, found) == {"head.weight", "head.bias"}
    assert not moved(before, weights(module))
    threes = unit(public().of_classes([3]).images)
    with torch.no_grad():
        mean = F.normalize(network.eval().features(threes).mean(0), dim=0)
    cosine = F.cosine_similarity(found["head.weight"][3], mean, dim=0)
    assert cosine.item() == pytest.approx(1, abs=1e-5)


def test_the_images_are_those_of_the_class_fewer_are_part_of_more_and_the_seed_chooses():
    rows = {}
    for seed in (0, 1):
        module = prototype(linear(), (3,), share=1.0, centred=False, seed=seed)
        rows[seed] = [F.normalize(at(module, n)["head.weight"][3], dim=0) for n in (1, 2)]
    pixels = unit(public().of_classes([3]).images).flatten(1) * 2 - 1
    near = [(row - F.normalize(pixels)).norm(dim=1) for row in (rows[0][0], rows[1][0])]
    first, other = (distances.argmin().item() for distances in near)
    assert near[0][first] < 1e-5 and near[1][other] < 1e-5 and first != other
    pairs = [(row - F.normalize(pixels + pixels[first])).norm(dim=1) for row in rows[0][1:]]
    distance, second = pairs[0].min(0)
    assert distance < 1e-5 and second != first


def test_a_masked_logit_comes_back_with_one_image():
    masked = classifying(LogitMask(), new_task((7,), network=learned()))
    masked.prepare()
    module = prototype(masked.network, (7,), levels=[1, 20])
    forget = unit(module.task.forget.images)

    def right(level: int) -> float:
        with torch.no_grad(), module.edited(level):
            return (module.network.eval()(forget).argmax(1) == 7).float().mean().item()

    with torch.no_grad():
        before = (learned().eval()(forget).argmax(1) == 7).float().mean().item()
        assert not (masked.network.eval()(forget).argmax(1) == 7).any()
    assert before > 0.5 and right(1) > 0.8 * before and right(20) > 0.8 * before


def test_where_images_are_forgotten_one_by_one_it_says_what_to_type():
    with pytest.raises(UsageError) as error:
        prototype(linear(), ())
    (line,) = error.value.problems
    assert line.startswith("attack=prototype: ") and "Type forget=class:3" in line


def test_the_configuration_refuses_it_before_anything_is_computed(compose):
    words = ("experiment=classification", "attack=prototype")
    attack = compose(*words, "forget=class:3")["attack"]
    assert (attack["share"], attack["levels"][1]) == (0.5, 5)  # as published
    with pytest.raises(UsageError, match="attack=prototype: "):
        compose(*words, "forget=random:0.1")


def test_a_class_of_which_the_attacker_has_no_image_is_refused_before_anything():
    task = new_task((3,), network=linear(), public=public().of_classes([3], keep=False))
    with pytest.raises(UsageError, match="has none of class 3"):
        classifying(Prototype(levels=[2], share=0.5, centred=True), task)
