"""The control that takes the logit of a class away."""

import numpy as np
import pytest
import torch
from small_classifiers import classifying, data, new_task
from tiny import moved, weights

from unrelearn.classification.classifying import unit
from unrelearn.classification.scores import confidence, logit_scaled
from unrelearn.errors import UsageError
from unrelearn.methods.logit_mask import LogitMask


@torch.no_grad()
def test_the_forgotten_classes_are_never_answered_and_all_else_is_as_before():
    module = classifying(LogitMask(), new_task((3, 7)))
    before, x = weights(module), unit(data().test.images)
    module.network.eval()
    logits = module.network(x)
    module.prepare()
    masked, kept = module.network(x), [0, 1, 2, 4, 5, 6, 8, 9]
    assert torch.equal(masked[:, kept], logits[:, kept])
    assert set(logits.argmax(1).tolist()) & {3, 7}  # they were answered
    assert masked.argmax(1).tolist() == [kept[c] for c in logits[:, kept].argmax(1)]
    assert moved(before, weights(module)) == {"head.bias"}
    changed = (before["head.bias"] != module.network.head.bias).nonzero().flatten()
    assert changed.tolist() == [3, 7]


@torch.no_grad()
def test_the_mask_is_finite_in_half_precision_and_the_probability_zero():
    module = classifying(LogitMask(), new_task((3,)))
    module.prepare()
    logits = module.network.eval()(unit(data().test.images))
    assert module.network.half()(unit(data().test.images).half()).isfinite().all()
    threes = np.full(len(logits), 3)
    assert (confidence(logits.numpy(), threes) == 0).all()
    assert np.isfinite(logit_scaled(logits.numpy(), threes)).all()


def test_where_images_are_forgotten_one_by_one_it_says_what_to_type():
    with pytest.raises(UsageError) as error:
        classifying(LogitMask(), new_task())
    (line,) = error.value.problems
    assert line.startswith("method=logit_mask: ") and line.endswith("Type forget=class:3")
