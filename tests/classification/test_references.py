"""References are what `retrain` makes, many at once."""

from pathlib import Path

import torch

from unrelearn.classification.bank import Bank, Member
from unrelearn.classification.classifying import Classifying, ClassifyingTask
from unrelearn.classification.networks import NetworkConfig, build
from unrelearn.classification.recipe import Recipe
from unrelearn.data.digits import Digits
from unrelearn.fit import FitOptions, fit
from unrelearn.methods.retrain import Retrain

CONFIG = NetworkConfig("fast", 8, 10, widths=(4, 6, 8))
RECIPE = {"max_steps": 12, "batch_size": 32, "learning_rate": 0.05, "lr_schedule": "one_cycle"}


def test_a_reference_is_retrain_with_its_seed(tmp_path: Path):
    data = Digits(label_noise=0.2).load()
    retain = torch.arange(150, len(data.train))
    bank = Bank(CONFIG, [Member(100_000, retain), Member(100_001, retain)])
    bank.train(data.train, Recipe(**RECIPE, grad_clip=0.5, augmentation="crop_flip"))
    task = ClassifyingTask(
        network=build(CONFIG, 3),
        forget=data.train.take(torch.arange(150)),
        retain=data.train.take(retain),
        forget_classes=[],
        class_names=data.class_names,
        seed=100_000,
        augment={"retrain": "crop_flip", "retain": "none"},
    )
    module = Classifying(Retrain(**RECIPE, grad_clip=0.5), task)
    fit(module, tmp_path, "retrain", FitOptions(accelerator="cpu"))
    ours = bank.state_dict(0)
    for name, value in module.network.state_dict().items():
        assert torch.allclose(ours[name].double(), value.double(), rtol=1e-4, atol=1e-5), name
    other = bank.state_dict(1)["head.weight"]
    assert not torch.allclose(ours["head.weight"], other, atol=1e-2)
