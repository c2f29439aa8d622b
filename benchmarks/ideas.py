"""Ideas for a method that holds where DiMUM does not, at equal optimiser steps and images: one
table, the losers included.

    python benchmarks/ideas.py [--seed 0] [--forget 3] [--steps 25 100] [--ideas dimum cover ...]
    [OVERRIDES ...]

Each idea unlearns, is attacked by DiMRA (400 steps, rate 1e-3, measured after 100, 200, 400), and
is measured by 200 images under the forgotten class at guidance 1 and 2 and 20 of each other class.
Results: benchmarks/results/ideas-SEED-FORGET.json; what is there stays. The idea that won is a
method (`dimum_cover`); the others live here, so that their numbers can be had again.

    bind      DiMUM, and, on one more batch of times, the shift with which c_f enters each residual
              block is pulled to that of the
              replacement
    ahead     DiMUM, its memory gradient taken one sign step of the retain loss away, as the first
              step of an attack
    cover     memory on noisy images of the replacement and on noisy forgotten images, half a batch
              each
"""

import json
import sys
import tempfile
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from common import RESULTS, configuration
from runs import Cell
from torch import Tensor, nn

from unrelearn import launch
from unrelearn.attacks.dimra import DiMRA
from unrelearn.diffusion.denoiser import embedding
from unrelearn.diffusion.denoising import Denoising
from unrelearn.diffusion.sampling import sample
from unrelearn.evals.evidence import accuracy
from unrelearn.fit import FitOptions, fit
from unrelearn.methods.dimum import DiMUM
from unrelearn.methods.dimum_cover import DiMUMCover
from unrelearn.methods.random_label import RandomLabel
from unrelearn.ranges import Positive, Weight
from unrelearn.stage import make
from unrelearn.stages.classifier import classifier

BUDGETS, RATE = [100, 200, 400], 1e-3
FORGET, RETAIN_EACH = 200, 20


@dataclass(kw_only=True)
class Bind(DiMUM):
    bind_weight: Weight

    def losses(self, t: Denoising) -> dict[str, Tensor]:
        batch = t.draw("bind", t.task.forget, label_dropout=0.0)
        with torch.no_grad():
            wanted = shifts(t.network, batch.t, t.task.stand_ins(batch.labels))
        shifted = shifts(t.network, batch.t, batch.labels)
        apart = [(a - b).square().mean() for a, b in zip(shifted, wanted, strict=True)]
        return {**super().losses(t), "bind": self.bind_weight * sum(apart) / len(apart)}


def shifts(network: nn.Module, t: Tensor, labels: Tensor) -> list[Tensor]:
    """With which the condition enters each residual block."""
    condition = embedding(network, t, labels)
    blocks = [block for block in network.modules() if hasattr(block, "time_emb_proj")]
    return [block.time_emb_proj(condition) for block in blocks]


@dataclass(kw_only=True)
class Ahead(DiMUM):
    radius: Positive

    def losses(self, t: Denoising) -> dict[str, Tensor]:
        return t.losses(retain=t.draw("retain", t.task.retain))


class OneStepAhead(Denoising):
    """The gradient of the memory at the weights after a step of the retain loss."""

    def backward(self, loss: Tensor, *arguments, **keywords) -> None:
        parameters, radius = [p for _, p in self.trained], self.method.radius
        retain = torch.autograd.grad(loss, parameters)
        move(parameters, retain, -radius)
        batch = self.draw("memory", self.method.memory_data, label_dropout=0.0)
        gradients = torch.autograd.grad(self.losses(memory=batch)["memory"], parameters)
        move(parameters, retain, radius)
        for parameter, a, b in zip(parameters, retain, gradients, strict=True):
            parameter.grad = a + b


@torch.no_grad()
def move(parameters: list[Tensor], gradients: tuple[Tensor, ...], length: float) -> None:
    for parameter, gradient in zip(parameters, gradients, strict=True):
        parameter.add_(gradient.sign(), alpha=length)


IDEAS = {
    "dimum": partial(DiMUM, memory="another_class"),
    "random_label": partial(RandomLabel, retain_weight=3.072),
    "bind": partial(Bind, memory="another_class", bind_weight=1.0),
    "ahead": partial(Ahead, memory="another_class", radius=1e-3),
    "cover": partial(DiMUMCover, memory="another_class"),
}


@torch.no_grad()
def measure(cell: Cell, network) -> dict:
    draw = partial(
        sample, network, schedule=cell.settings["model"]["schedule"], num_inference_steps=10
    )
    forget = torch.tensor(cell.forget * FORGET)[:FORGET]
    retain = torch.tensor(
        [c for c in range(len(cell.dataset.class_names)) if c not in cell.forget] * RETAIN_EACH
    )
    look = classifier(cell, "main").look
    accuracies = {
        f"forget@{s}": accuracy(
            look(draw(forget, guidance_scale=float(s), stream="forget"))[0].argmax(1), forget
        )["value"]
        for s in (1, 2)
    }
    return {
        **accuracies,
        "retain": accuracy(look(draw(retain, stream="retain"))[0].argmax(1), retain)["value"],
    }


def trial(cell: Cell, idea, steps: int) -> dict:
    options = partial(
        FitOptions, accelerator="cpu", log_every_n_steps=50, checkpoint_every_n_steps=10_000
    )
    method = idea(max_steps=steps, batch_size=64, learning_rate=2e-4)
    kind = OneStepAhead if isinstance(method, Ahead) else Denoising
    module = kind(method, cell.task(cell.original))
    with tempfile.TemporaryDirectory() as folder:
        started = time.monotonic()
        fit(module, Path(folder), "unlearn", options())
        result = {
            "seconds": round(time.monotonic() - started, 1),
            "unlearned": measure(cell, module.network),
        }
    task = cell.task(cell.original)
    task.network.load_state_dict(module.network.state_dict())
    attack = Denoising(DiMRA(budgets=BUDGETS, batch_size=64, learning_rate=RATE), task)
    with tempfile.TemporaryDirectory() as folder:
        fit(
            attack,
            Path(folder),
            "attack",
            options(
                snapshots=BUDGETS,
                on_snapshot=lambda step: result.update(
                    {f"attacked@{step}": measure(cell, attack.network)}
                ),
            ),
        )
    return result


def main() -> None:
    parser = launch.parser(__doc__)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--forget", type=int, default=3)
    parser.add_argument("--steps", type=int, nargs="+", default=[25, 100])
    parser.add_argument("--ideas", nargs="+", choices=IDEAS, default=list(IDEAS))
    options, overrides = parser.parse_known_args()
    cfg = configuration(
        f"seed={options.seed}", f"forget={options.forget}", "trainer.accelerator=cpu", *overrides
    )
    cell = Cell(cfg, "benchmark")
    make([cell.original.stage])
    make([cell.classifiers("main")])
    path = RESULTS / f"ideas-{options.seed}-{options.forget}.json"
    table = json.loads(path.read_text())["values"] if path.exists() else {}
    for steps in options.steps:
        for name in options.ideas:
            row = ", ".join(
                [
                    name,
                    f"{steps} steps",
                    *(word for word in overrides if not word.startswith("trainer.")),
                ]
            )
            if row not in table:
                table[row] = {
                    **trial(cell, IDEAS[name], steps),
                    "command": " ".join(["python", *sys.argv]),
                }
                print(row, json.dumps(table[row]), flush=True)
                path.write_text(json.dumps({"values": table}, indent=1) + "\n")


if __name__ == "__main__":
    main()
