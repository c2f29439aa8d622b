"""Methods and attacks: a record of the settings that their yaml gives, and what they do with them.

A record exists before any network does. `training.Training` has one, and calls it: `begin` and
`prepare` once, `losses` in every step. What a batch is and what the ordinary loss of a model is,
the training says; of ranks, passes and Lightning a method knows nothing. A method that works with
one kind of model alone says so in its annotation: `losses(self, t: Denoising)`.
"""

import copy
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field
from torch import Tensor, nn

from unrelearn.gradients import COMBINERS
from unrelearn.masks import Mask
from unrelearn.ranges import (
    Count,
    LearningRates,
    Positive,
    Probability,
    Rate,
    Seed,
    Share,
    Steps,
    Weight,
)

Parameters = Literal["all", "cross_attention", "key_value", "not_cross_attention"]

if TYPE_CHECKING:  # each is half of the other
    from unrelearn.training import Training

Optimiser = Literal["adam", "relative"]
Combine = Literal["sum", "projection", "bargaining", "harmonic", "alternation"]


def constant(value: Any) -> Any:
    """The default of a field that no yaml may give."""
    return field(init=False, default=value)


@dataclass(kw_only=True)
class Method:
    """What every training takes. A subclass adds its own fields and says which losses a step has.

    Adam has betas 0.9 and 0.999 and no weight decay. "one_cycle" is Smith & Topin 2017 (arXiv
    1708.07120); "cosine" half a period from the learning rate to 0 at max_steps (Loshchilov &
    Hutter 2017, arXiv 1608.03983, without restarts). An average follows diffusers' formula
    min(ema_decay, (1 + n) / (10 + n)).
    """

    max_steps: Steps  # of the optimiser
    batch_size: Count  # of each term of the loss, over all processes
    learning_rate: Rate
    label_dropout: Probability = 0.1  # share of labels replaced by the null label (diffusion)
    train_class_embedding: bool = False  # False: the table stays, as a frozen text encoder would
    grad_clip: Positive | None = None  # largest norm, None: 1, of classifiers 5. Not in "relative"
    # None: Adam, of classifiers SGD; "relative": steps that are a share of the weights' size
    optimizer: Optimiser | None = None
    lr_schedule: LearningRates = "constant"
    ema_decay: Probability | None = None  # keep an average of the weights
    saliency_fraction: Share | None = None  # of all weights those that may move: the most salient
    saliency_guidance_scale: Weight = 3.0  # of the prediction whose gradient ranks the weights
    fisher_ratio: Positive | None = None  # may move: Fisher information of D_f > so often D_r's
    fisher_samples: Count = 1000  # images, each at one time with one noise, that estimate it
    blocks: list[str] | None = None  # beginnings of the names of the parameters that may move
    # of a model that reads captions: those of its parameters that may move, by their names
    parameters: Parameters = "all"
    forget_images: Count | None = None  # it holds the first so many of D_f; None: all
    # how a prediction is compared with one that it is to match (diffusion): see maths.divergence;
    # None: the mean squared error
    divergence_alpha: Annotated[float, Field(gt=0, le=0.99)] | None = None
    divergence_scale: Positive = 1.0
    combine: Combine = "sum"  # the gradient of the loss named "retain" and of all others

    # batches that a step sends through the network: forward and backward, forward only
    passes: ClassVar[tuple[float, float]] = (1, 0)
    # True: the loss is no mean over images, so that a step can not be done in several passes
    whole_steps: ClassVar[bool] = False
    from_scratch: ClassVar[bool] = False  # True: begins with new weights, by the original's recipe
    clips_masked: ClassVar[bool] = False  # True: gradients are masked first and clipped second
    # True: the model passes through unchanged and no artefact of this stage is made
    identity: ClassVar[bool] = False
    elsewhere: ClassVar[bool] = False  # True: its model is read and not made (stages.imported)
    closed: ClassVar[bool] = False  # True: takes no key but those that it names itself
    stage: ClassVar[str] = "unlearn"  # names the random streams
    attacks: ClassVar[bool] = False  # True: it starts from the unlearned model
    unit: ClassVar[str] = "steps"  # of the numbers at which an attacked model is measured
    by_class: ClassVar[bool] = False  # it has no meaning where single images are forgotten
    holds_public: ClassVar[bool] = False  # half of the test images, which then measure nothing
    starts_from_images: ClassVar[bool] = False  # the sampler, and not from noise

    @classmethod
    def settings(cls) -> list[str]:
        """The keys that its yaml may give: its own, and then those of the classes behind it."""
        names: list[str] = []
        for base in cls.__mro__:
            names += [name for name in inspect.get_annotations(base) if name not in names]
            if vars(base).get("closed"):
                break
        taken = {f.name for f in fields(cls) if f.init}
        return [name for name in names if name in taken]

    @classmethod
    def needs_original(cls, settings: Mapping[str, Any]) -> bool:
        """Whether it reads the original model, with these settings of its yaml: then it can not be
        run on weights whose original nobody has.
        """
        return False

    @property
    def needs_oracle(self) -> bool:
        """Whether it reads the oracle, which is then a parent of its artefact."""
        return False

    @property
    def own_seed(self) -> int:
        """Its seed inside that of the run; 0 where there is none."""
        return 0

    @property
    def measured_at(self) -> list[float]:
        """The steps or levels at which an attacked model is measured."""
        return []

    @property
    def sees_forgotten(self) -> bool:
        """Whether an attacker holds images of a forgotten class, or weights of the original."""
        return False

    @property
    def combiner(self) -> Callable[[Tensor, Tensor], Tensor] | None:
        """(g_f, g_r) -> gradient; None: that of the sum, or of one loss at a time."""
        return COMBINERS.get(self.combine)

    def begin(self, t: "Training") -> None:
        """Before anything is made of the network, also when a run is resumed: change what it is,
        choose the data.
        """

    def prepare(self, t: "Training") -> None:
        """Once before the first step, on the training device, when `t.mask` is known; also when a
        run is resumed, with the network as it was at first.
        """

    def losses(self, t: "Training") -> dict[str, Tensor]:
        """The terms of this step's loss, already weighted."""
        raise NotImplementedError

    def moving(self, t: "Training") -> Mask | None:
        """The weights that may move in this step, None: all; the others stay to the bit."""
        return t.mask

    def after_step(self, t: "Training") -> None:
        """After each step of the optimiser, where nothing is recorded for gradients: change the
        weights further. `t.step` is the step just taken, from 0; whatever may not move is put back
        after this.
        """

    def converged(self, t: "Training") -> bool:
        """Asked after each recorded row (`t.rows`): True ends the run before max_steps."""
        return False

    def exported(self, network: nn.Module) -> nn.Module:
        """A copy of the network as it is written, with plain weights."""
        # a copy: were the network itself laid out anew, the optimiser's moments would no longer
        # match it (channels_last)
        return copy.deepcopy(network)

    def write_beside(self, folder: Path) -> None:
        """Whatever a model needs besides its weights, which lie in this folder."""


@dataclass(kw_only=True)
class Still(Method):
    """What takes no step."""

    max_steps: Steps = 0
    batch_size: Count = 1
    learning_rate: Rate = 0.0


@dataclass(kw_only=True)
class Relearning(Method):
    """What attacks that train derive from: the steps are the last of the budgets at which the
    attacked model is measured; at 0 it is the unlearned one.

    seed: the attack's own, inside that of the run: another one draws other batches, noise and
        shares of the data. 0 is the stream of the run itself.
    """

    budgets: list[int]
    max_steps: Steps = constant(0)
    seed: Seed = 0

    stage = "attack"
    attacks = True

    def __post_init__(self) -> None:
        self.max_steps = self.budgets[-1]

    @property
    def own_seed(self) -> int:
        return self.seed

    @property
    def measured_at(self) -> list[float]:
        return [step for step in self.budgets if step > 0]


@dataclass(kw_only=True)
class Edit(Still):
    """What attacks derive from that change weights without a step, or after some; the edited model
    is measured at each level.

    levels: how strong the edit is, in `unit`, each in the interval `allowed`.
    """

    levels: list[float]
    seed: Seed = constant(0)  # given by those that draw

    closed = True
    stage = "attack"
    attacks = True
    allowed: ClassVar[tuple[float, float]]

    @property
    def own_seed(self) -> int:
        return self.seed

    @property
    def measured_at(self) -> list[float]:
        return self.levels

    def edit(self, t: "Training", level: float) -> dict[str, float]:
        """Change the network in place, from the unlearned or trained weights; return what was
        measured on the way, or {}.
        """
        raise NotImplementedError
