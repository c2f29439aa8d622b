"""How much cheaper a stack of federated generators is than one by one: benchmarks/ensemble.py

VFLGAN's networks for red wine on Gaussian rows, the factorised penalty, one thread; writes
benchmarks/results/ensemble.json.
"""

import argparse
import json
import time
from pathlib import Path

import torch

from unrelearn.gan.designs.vflgan import VFLGAN
from unrelearn.gan.federation import Federation
from unrelearn.gan.layers import Output
from unrelearn.gan.members import Settings
from unrelearn.gan.party import Shape
from unrelearn.gan.privacy.none import AccountedTraining, Privacy
from unrelearn.gan.wire import Wire

WIDTHS = ((1,) * 6, (1, 1, 1, 1, 1, 6))
SHAPE = Shape((16, 32, 64), (16, 32), (32,), 10, True, "factorised", 10.0, 0.8)
RECORDS, BATCH = 1599, 16


def federation(replicas: int) -> Federation:
    g = torch.Generator().manual_seed(0)
    columns = [(torch.randn(RECORDS, sum(w), generator=g), Output(w, False)) for w in WIDTHS]
    settings = Settings(SHAPE, 10**6, BATCH, 5e-4, 5)
    training = AccountedTraining(RECORDS, BATCH, settings.max_steps, settings.critic_steps, 2)
    privacy = Privacy().prepared(training)
    seeds = list(range(replicas))
    return Federation(VFLGAN(), privacy, settings, list(columns), seeds, Wire())


def milliseconds(replicas: int, steps: int) -> float:
    """CPU time of a critic step, generator steps included, after ten to warm up."""
    trained = federation(replicas)
    trained.train(10)
    started = time.process_time()
    trained.train(10 + steps)
    return 1000 * (time.process_time() - started) / steps


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--replicas", type=int, default=64)
    parser.add_argument("--steps", type=int, default=200)
    options = parser.parse_args()
    torch.set_num_threads(1)
    one, stack = (milliseconds(count, options.steps) for count in (1, options.replicas))
    result = {
        "replicas": options.replicas,
        "cpu_ms_a_step_of_one": round(one, 2),
        "cpu_ms_a_step_of_all": round(stack, 2),
        "times_cheaper": round(options.replicas * one / stack, 1),
        "torch": torch.__version__,
    }
    print(json.dumps(result, indent=1))
    file = Path(__file__).parent / "results" / "ensemble.json"
    file.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
