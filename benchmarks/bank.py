"""Small classifiers of digits trained at once (classification/bank.py) against one by one, on one
thread: how many times cheaper is a member of the bank?

    python benchmarks/bank.py [--members 16] [--steps 50] [--batch-size 64] [--widths 8 16 16]
    [--repeats 3]

The target of 5 is the ratio one by one / at once. Results: benchmarks/results/bank_WIDTHS.json.
"""

from functools import partial

import torch
from common import interleaved, report, stopwatch
from torch.nn import functional as F

from unrelearn import launch
from unrelearn.classification.bank import Bank, Member, batches
from unrelearn.classification.networks import NetworkConfig, build
from unrelearn.classification.recipe import Recipe
from unrelearn.data import ImageSet
from unrelearn.data.digits import Digits


def at_once(config: NetworkConfig, members: list[Member], data: ImageSet, recipe: Recipe) -> None:
    Bank(config, members).train(data, recipe)


def one_by_one(
    config: NetworkConfig, members: list[Member], data: ImageSet, recipe: Recipe
) -> None:
    """A bare loop for each."""
    for member in members:
        network = build(config, member.seed).train()
        optimizer = torch.optim.SGD(
            network.parameters(), 0.1, recipe.momentum, weight_decay=recipe.weight_decay
        )
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimizer, recipe.learning_rate, total_steps=recipe.max_steps, cycle_momentum=False
        )
        stream = batches(data, member, recipe)
        for _ in range(recipe.max_steps):
            x, labels = next(stream)
            optimizer.zero_grad()
            F.cross_entropy(network(x), labels).backward()
            optimizer.step()
            schedule.step()


def main() -> None:
    parser = launch.parser(__doc__)
    parser.add_argument("--members", type=int, default=16)
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--widths", type=int, nargs=3, default=[8, 16, 16])
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    torch.set_num_threads(1)
    data = Digits(label_noise=0.2).load().train
    config = NetworkConfig("fast", 8, 10, widths=tuple(options.widths))
    members = [Member(n, torch.arange(len(data))) for n in range(options.members)]
    recipe = Recipe(options.steps, options.batch_size, learning_rate=0.2)
    contenders = {
        f.__name__: partial(stopwatch, partial(f, config, members, data, recipe))
        for f in (at_once, one_by_one)
    }
    seconds = interleaved(options.repeats, **contenders)
    report(
        "_".join(map(str, ("bank", *options.widths))),
        seconds["at_once"],
        seconds["one_by_one"],
        "at least 5",
        speedup=True,
        **vars(options),
    )


if __name__ == "__main__":
    main()
