"""Bad teaching: a random network's answers on the forget set, the original's on the retain set."""

from pathlib import Path

import torch
from formulas import at_step
from small_classifiers import (
    SMALL,
    assert_close,
    classifying,
    network,
    new_task,
    trained_by_hand,
)
from tiny import moved, train, weights
from torch import Tensor

from unrelearn.classification.classifying import Classifying
from unrelearn.classification.networks import Network
from unrelearn.methods.bad_teacher import BadTeacher


def prepared(seed: int = 0) -> Classifying:
    module = classifying(BadTeacher(**SMALL), new_task(seed=seed))
    module.prepare()
    return module


def test_training_is_that_of_pytorch(tmp_path: Path):
    module = prepared()
    bad, good = module.method.incompetent, network().eval()

    def loss(student: Network, step: int) -> Tensor:
        x_f, x_r = (
            at_step(module, step, lambda name=name, data=data: module.draw(name, data)).x_0
            for name, data in (("forget", module.task.forget), ("retain", module.task.retain))
        )
        p = student(torch.cat([x_f, x_r])).softmax(1)
        with torch.no_grad():
            q = torch.cat([bad(x_f), good(x_r)]).softmax(1)
        entries = q * (q.log() - p.log())
        assert entries.shape == (32, 10)
        return entries[:16].mean() + entries[16:].mean()  # over images and classes

    expected = trained_by_hand(module, loss)
    assert_close(weights(train(module, tmp_path)), expected)


def test_the_incompetent_teacher_is_new_and_a_function_of_the_seed():
    ours, again, other = (prepared(seed).method.incompetent for seed in (0, 0, 1))
    assert not moved(ours.state_dict(), again.state_dict())
    assert moved(ours.state_dict(), other.state_dict())
    # no pretraining started from it
    assert moved(ours.state_dict(), network(0).state_dict()) >= {"head.weight", "body.0.weight"}


def test_the_teachers_answer_for_each_image_alone_and_learn_nothing(tmp_path: Path):
    module = prepared()
    teachers = [module.method.incompetent, module.method.competent]
    before = [{k: v.clone() for k, v in one.state_dict().items()} for one in teachers]
    train(module, tmp_path)
    x = module.draw("forget", module.task.forget).x_0
    for start, teacher in zip(before, teachers, strict=True):
        assert not moved(start, teacher.state_dict())
        # in training mode BatchNorm would answer by the batch
        torch.testing.assert_close(teacher(x)[:1], teacher(x[:1]))
