"""Random labels: under c_f the answer of another class."""

import pytest
import torch
from formulas import gradients, mean_squared_error, x_t
from tiny import (
    denoising,
    new_task,
)
from torch import Tensor

from unrelearn.methods.random_label import RandomLabel

SMALL = dict(max_steps=3, batch_size=8, learning_rate=1e-3)


@pytest.mark.parametrize(
    ("forget", "pseudo"), [((7,), {7: 8}), ((9,), {9: 0}), ((2, 3, 9), {2: 4, 3: 4, 9: 0})]
)
@pytest.mark.parametrize("kind", ["epsilon", "v_prediction"])
def test_random_label_answers_as_under_the_next_retained_class(forget, pseudo, kind: str):
    module = denoising(
        RandomLabel(retain_weight=1.7, **SMALL), new_task(forget, prediction_type=kind)
    )
    losses = module.method.losses(module)
    batch = module.draw("forget", module.task.forget, label_dropout=0.0)
    retain = module.draw("retain", module.task.retain)
    assert set(batch.labels.tolist()) <= set(forget)

    def answer(labels: Tensor) -> Tensor:
        return module.network(x_t(batch), batch.t, class_labels=labels).sample

    stand_ins = torch.tensor([pseudo[int(c)] for c in batch.labels])
    kept = 1.7 * mean_squared_error(module, retain, kind)
    unlearned = ((answer(batch.labels) - answer(stand_ins).detach()) ** 2).mean()
    assert losses["forget"].item() == pytest.approx(unlearned.item(), rel=1e-4) and unlearned > 1e-4
    assert losses["retain"].item() == pytest.approx(kept.item(), rel=1e-5)
    found = gradients(module, losses["forget"])
    torch.testing.assert_close(found, gradients(module, unlearned), rtol=1e-3, atol=1e-6)
    through = gradients(module, ((answer(batch.labels) - answer(stand_ins)) ** 2).mean())
    assert (found - through).norm() > 0.1 * found.norm()  # the target's gradient is stopped
