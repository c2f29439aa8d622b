"""The control that rescales logits."""

import numpy as np
import pytest
import torch
from small_classifiers import classifying, data, learned, new_task
from tiny import moved, weights

from unrelearn.classification.classifying import unit
from unrelearn.classification.networks import Network
from unrelearn.classification.scores import confidence, mia_svc
from unrelearn.data import ImageSet
from unrelearn.methods.temperature import Temperature


@pytest.mark.parametrize("factor", [0.25, 4.0])
@torch.no_grad()
def test_logits_are_multiplied_and_no_decision_changes(factor: float):
    module = classifying(Temperature(factor=factor))
    before, x = weights(module), unit(module.task.retain.images)
    module.network.eval()
    logits = module.network(x)
    module.prepare()
    assert torch.equal(module.network(x), factor * logits)  # to the bit, as it is a power of 2
    assert torch.equal(module.network(x).argmax(1), logits.argmax(1))
    assert moved(before, weights(module)) == {"head.weight", "head.bias"}


@torch.no_grad()
def attacked(network: Network) -> float:
    """mia_svc of images that the network was trained on."""

    def confidences(part: ImageSet) -> np.ndarray:
        return confidence(network.eval()(unit(part.images)).numpy(), part.labels.numpy())

    task = new_task()
    test = data().test.take(torch.arange(150))
    return mia_svc(*map(confidences, (task.forget, task.retain, test)))


def test_the_published_attack_changes_its_mind():
    found = [attacked(learned())]
    for factor in (2.0, 16.0):
        module = classifying(Temperature(factor=factor), new_task(network=learned()))
        module.prepare()
        found.append(attacked(module.network))
    assert max(found) - min(found) > 0.3, found
