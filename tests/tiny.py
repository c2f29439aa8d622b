"""The small real things that the tests are made of: a UNet of 33 k weights, 120 digits, a
classifier, and `train`.
"""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf

from unrelearn.classification.classifier import Classifier, new_classifier
from unrelearn.classification.training import ClassifierTraining, OracleRecipe
from unrelearn.config import constructor_arguments
from unrelearn.config.kinds import options as options_of_kind
from unrelearn.data import ImageSet
from unrelearn.data.digits import Digits
from unrelearn.diffusion import denoiser
from unrelearn.diffusion.denoising import DenoiserPretraining, Denoising, DenoisingTask
from unrelearn.fit import FitOptions, fit
from unrelearn.method import Method
from unrelearn.task import Batch
from unrelearn.training import Training

CONF = Path(__file__).parents[1] / "conf"
METHODS = sorted({*options_of_kind("method", "Denoising")} - {"given"})  # that needs files
ATTACKS = sorted(options_of_kind("attack", "Denoising"))
CLASSIFIERS = {
    group: sorted(options_of_kind(group, "Classifying")) for group in ("method", "attack")
}
PRESETS = {
    path.stem for path in CONF.glob("*/*.yaml") if OmegaConf.load(path).get("preset") == path.stem
}  # of another's code
EDITS = ("context_probe", "interpolation", "prune", "quantize", "row_transplant", "weight_noise")
NO_TRAINING = ("original", "row_swap", "projection_swap", "random_weights", "none", *EDITS)
TRAINED = [
    (group, name)
    for group, names in (("method", METHODS), ("attack", ATTACKS))
    for name in names
    if name not in NO_TRAINING
]

SHAPE = dict(image_size=8, channels=1, num_classes=10)
UNET = dict(
    block_out_channels=[8, 16],
    layers_per_block=1,
    norm_num_groups=4,
    attention_levels=[],
    dropout=0.0,
)
# a network of 50 k weights; the sampler of the second opinion would take most of a test's seconds
SECOND = ["sampler.second.num_images=4", "sampler.second.num_inference_steps=2"]
SMALL = ["model.unet.block_out_channels=[8,16]", "model.unet.norm_num_groups=4", *SECOND]
# of an attack whose yaml asks for files, or for many images
REDUCED = {
    "dimra_proxy": ("~attack.proxy", "+attack.proxy={_target_:unrelearn.data.digits.Digits}"),
    "dimra_aux": ("attack.images_per_class=3",),
}
SCHEDULE = dict(
    num_train_timesteps=1000,
    beta_start=1e-4,
    beta_end=0.02,
    beta_schedule="linear",
    prediction_type="epsilon",
)
SHORT_SCHEDULE = SCHEDULE | dict(num_train_timesteps=100, beta_start=1e-3, beta_end=0.1)


def network(seed: int = 0, **changes):
    built = denoiser.build(**{**SHAPE, **UNET, **changes})
    denoiser.reinitialise(built, seed)
    return built


def digits(per_class: int = 12) -> ImageSet:
    """The first images of each class."""
    train = Digits().load().train
    return train.take(torch.cat([torch.where(train.labels == c)[0][:per_class] for c in range(10)]))


def new_task(
    forget: tuple[int, ...] = (7,),
    *,
    seed: int = 0,
    prediction_type: str = "epsilon",
    dropout: float = 0.0,
    oracle=None,
    horizontal_flip: bool = False,
) -> DenoisingTask:
    data = digits()
    return DenoisingTask(
        network=network(dropout=dropout),
        schedule=SCHEDULE | {"prediction_type": prediction_type},
        forget=data.of_classes(list(forget)),
        retain=data.of_classes(list(forget), keep=False),
        forget_classes=list(forget),
        class_names=Digits.class_names,
        seed=seed,
        oracle=oracle,
        horizontal_flip=horizontal_flip,
        original=lambda: network(5),
    )


def new_oracle() -> Classifier:
    """An untrained classifier, as a finished one is loaded."""
    shape = dict(architecture="plain", image_size=8, channels=1, num_classes=10, width=8)
    return new_classifier(3, **shape).eval().requires_grad_(False)


def weights(module: Training) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in module.network.state_dict().items()}


def moved(before: dict, after: dict) -> set[str]:
    """Names of what is not equal to the bit."""
    assert before.keys() == after.keys()
    return {name for name in before if not torch.equal(before[name], after[name])}


def tensors(batch: Batch) -> dict[str, torch.Tensor]:
    """What a batch holds, by name."""
    return {name: value for name, value in vars(batch).items() if value is not None}


def options(**changes) -> FitOptions:
    return FitOptions(**{"accelerator": "cpu", "log_every_n_steps": 1, **changes})


def train(module, folder: Path, **changes):
    """Fit on the CPU, recording every step; the module."""
    folder.mkdir(parents=True, exist_ok=True)
    fit(module, folder, "test", options(**changes))
    return module


def denoising(method: Method, task: DenoisingTask | None = None) -> Denoising:
    """A method with a network and data."""
    return Denoising(method, task or new_task())


def record_from_yaml(
    compose, group: str, name: str, *overrides: str, steps: int = 3, batch_size: int = 8
) -> Method:
    """What the pipeline makes of conf/<group>/<name>.yaml, at a small size."""
    length = f"{group}.max_steps={steps}" if group == "method" else f"{group}.budgets=[{steps}]"
    sizes = [] if name in NO_TRAINING else [length, f"{group}.batch_size={batch_size}"]
    cfg = compose(f"{group}={name}", *sizes, *REDUCED.get(name, ()), *overrides)
    return instantiate(constructor_arguments(cfg[group]), _convert_="all")


def from_yaml(compose, group: str, name: str, *overrides: str, **sizes) -> Callable:
    """A function Task -> training, of what `record_from_yaml` makes; each has a record of its
    own.
    """
    record = record_from_yaml(compose, group, name, *overrides, **sizes)
    return lambda task: Denoising(replace(record), task)


def pretraining(*, dropout: float = 0.0, **changes) -> Denoising:
    """Ordinary training with everything a recipe may have: one-cycle learning rate, EMA, label
    dropout.
    """
    recipe = dict(
        max_steps=12,
        batch_size=12,
        learning_rate=2e-3,
        lr_schedule="one_cycle",
        label_dropout=0.1,
        ema_decay=0.9,
    )
    return Denoising(DenoiserPretraining(**recipe | changes), new_task(forget=(), dropout=dropout))


def classifier_training(max_steps: int = 12) -> ClassifierTraining:
    classifier = new_classifier(
        5, architecture="plain", image_size=8, channels=1, num_classes=10, width=8
    )
    recipe = OracleRecipe(
        max_steps=max_steps,
        batch_size=12,
        learning_rate=3e-3,
        weight_decay=1e-2,
        label_smoothing=0.05,
        shift=1,
    )
    return ClassifierTraining(recipe, classifier, digits(), seed=5, flip=True)
