"""Random numbers as functions of what they are for."""

import hashlib

import torch


def generator_for(*identity: object, device: torch.device | str = "cpu") -> torch.Generator:
    """A generator that is a function of what it is for, e.g. (seed, "unlearn", "retain", step):
    never of rank or history.

    Resumed and uninterrupted runs, and any number of processes, therefore draw the same numbers.
    """
    digest = hashlib.blake2b(repr(identity).encode(), digest_size=8).digest()
    return torch.Generator(device).manual_seed(int.from_bytes(digest, "little") >> 1)


def reseed(seed: int, device: torch.device) -> None:
    """Seed the global generator that dropout on this device reads. torch.manual_seed notes the call
    stack for every kind of device that is not in use, which costs a millisecond in each step.
    """
    if device.type == "cuda":
        torch.cuda.manual_seed(seed)
    else:
        torch.default_generator.manual_seed(seed)
