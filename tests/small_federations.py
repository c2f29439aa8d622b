"""Federations of a few small replicas, on two correlated Gaussian blocks."""

from dataclasses import replace

import torch
from torch import Tensor

from unrelearn.gan.designs.vflgan import VFLGAN, Design
from unrelearn.gan.federation import Federation
from unrelearn.gan.layers import Output
from unrelearn.gan.members import Settings
from unrelearn.gan.party import Shape
from unrelearn.gan.privacy.none import AccountedTraining, Privacy
from unrelearn.gan.wire import Wire

SHAPE = Shape((8, 12), (8, 10), (6,), 4, True, "joint", 10.0, 0.8)
SETTINGS = Settings(SHAPE, 20, 16, 1e-3, 5)
WIDTHS = ((1, 1, 1), (1, 1, 3))  # of the columns of each party


def blocks(records: int = 200) -> list[Tensor]:
    """Three continuous columns, and two with a category, which depends on the others."""
    g = torch.Generator().manual_seed(0)
    first = torch.randn(records, 3, generator=g)
    second = 0.8 * first[:, :2] + 0.6 * torch.randn(records, 2, generator=g)
    category = torch.nn.functional.one_hot((first[:, 2] > 0).long() + (second[:, 0] > 1), 3)
    return [first, torch.cat([second, category], 1)]


def federation(
    design: Design | None = None,
    privacy: Privacy | None = None,
    seeds: tuple[int, ...] = (0, 1),
    wire: Wire | None = None,
    **changes: object,
) -> Federation:
    """changes: fields of Settings or Shape."""
    design = design or VFLGAN()
    shape = {name: value for name, value in changes.items() if hasattr(SHAPE, name)}
    rest = {name: value for name, value in changes.items() if name not in shape}
    wide = replace(SHAPE, heads=design.heads, **shape).wider(design.networks(2))
    settings = replace(SETTINGS, shape=wide, **rest)
    data, widths = blocks(), list(WIDTHS)
    if design.joined:
        data, widths = [torch.cat(data, 1)], [WIDTHS[0] + WIDTHS[1]]
    training = AccountedTraining(
        len(data[0]),
        settings.batch_size,
        settings.max_steps,
        settings.critic_steps,
        len(data),
        design.server,
    )
    privacy = (privacy or Privacy()).prepared(training)
    columns = [(x, Output(w, False)) for x, w in zip(data, widths, strict=True)]
    return Federation(design, privacy, settings, columns, list(seeds), wire or Wire())
