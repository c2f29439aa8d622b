"""Who takes part in a training, in this process: parties and a server, what they own, and how they
send it.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from unrelearn.gan.designs.vflgan import Design
from unrelearn.gan.draws import Draws
from unrelearn.gan.layers import Output, Weights
from unrelearn.gan.party import Party, Shape
from unrelearn.gan.privacy.none import Privacy
from unrelearn.gan.server import Server
from unrelearn.gan.wire import SERVER, Wire

BETAS = (0.5, 0.999)
MOMENTS = ("step", "exp_avg", "exp_avg_sq")  # of Adam
PUBLISHED = 1000  # records at once


@dataclass(frozen=True)
class Settings:
    """
    Args:
        max_steps: critic steps.
        batch_size: records a replica and step; with Poisson sampling the expected number.
        critic_steps: of each step of the generators.
    """

    shape: Shape
    max_steps: int
    batch_size: int
    learning_rate: float
    critic_steps: int


class Members:
    """
    Args:
        columns: of each party, encoded (N, d_i), and what its generator's output means; None for a
            party of another process.
        seeds: of the replicas.
    """

    def __init__(
        self,
        design: Design,
        privacy: Privacy,
        settings: Settings,
        columns: list[tuple[Tensor, Output] | None],
        seeds: list[int],
        wire: Wire,
    ):
        shape = replace(settings.shape, critics=privacy.critics)
        self.settings = replace(settings, shape=shape)
        self.design, self.privacy, self.wire = design, privacy, wire
        self.names = [f"party {number}" for number in range(1, len(columns) + 1)]
        held = [data for data, _ in filter(None, columns)]
        device = held[0].device if held else torch.device("cpu")
        told = [wire.send("seeds", SERVER, name, torch.tensor(seeds)) for name in self.names]
        seeds = next((one.tolist() for one in told if one is not None), seeds)
        self.draws = Draws(seeds, device)  # the same in every process
        self.parties: dict[str, Party] = {}
        shared = bool(design.averaging_interval)
        for name, given in zip(self.names, columns, strict=True):
            if given is not None:
                party = Party(name, *given, shape, self.draws, shared_backbone=shared)
                self.parties[name] = party
        self.server = None
        if design.server and wire.here(SERVER):
            self.server = Server(seeds, [shape.extractor[-1]] * len(columns), shape)
        self.step = self.first = 0
        self.weights, self.running = self._owned(device)
        rate = settings.learning_rate
        self.optimizers = {
            name: torch.optim.Adam(weights.values(), rate, BETAS, fused=True)
            for name, weights in self.weights.items()
        }

    def _owned(self, device: torch.device) -> tuple[dict[str, Weights], dict[str, Weights]]:
        """What is trained here, by owner, and the running statistics; moved to the device."""
        trained: dict[str, Weights] = {}
        running: dict[str, Weights] = {}
        for name, party in self.parties.items():
            trained |= {
                f"{name} critic": party.critic,
                f"{name} generator": party.generator.weights,
            }
            running[f"{name} running"] = party.generator.running
        if self.server is not None:
            trained["server critic"] = self.server.critic
        for weights in [*trained.values(), *running.values()]:
            weights |= {key: value.to(device) for key, value in weights.items()}
        for name, weights in trained.items():
            for value in weights.values():
                value.requires_grad_(name.endswith("critic"))
        return trained, running

    def latent(self, party: Party, records: int) -> Tensor:
        name = "z" if self.design.shared_latent else f"z of {party.name}"
        return self.draws.normal(name, self.step, records, self.settings.shape.latent)

    def bytes_per_step(self) -> dict[str, float] | None:
        """To the server and from it, all parties, a critic step; of the steps of this process."""
        if self.step == self.first:
            return None
        ways = {"up": 0, "down": 0}
        for (_, source, _), count in self.wire.sent.items():
            ways["down" if source == SERVER else "up"] += count
        return {way: count / (self.step - self.first) for way, count in ways.items()}

    def noise(self, owner: str) -> Callable[[str, torch.Size], Tensor]:
        """N(0, 1) of an owner's weight in this step: (R, *shape)."""
        return lambda name, shape: self.draws.normal(f"{owner} {name}", self.step, *shape)

    def gather(self, kind: str, tensors: dict[str, Tensor]) -> list[Tensor]:
        return [self.wire.send(kind, name, SERVER, tensors.get(name)) for name in self.names]

    def scatter(self, kind: str, tensors: list[Tensor] | None) -> dict[str, Tensor]:
        given = tensors or [None] * len(self.names)
        sent = zip(self.names, given, strict=True)
        return {name: self.wire.send(kind, SERVER, name, tensor) for name, tensor in sent}

    # what is kept

    @torch.no_grad()
    def publish(self, records: int) -> list[Tensor]:
        """Encoded records (R, records, d_i) of each party here, side by side of one z."""
        parts: list[list[Tensor]] = [[] for _ in self.parties]
        for piece, start in enumerate(range(0, records, PUBLISHED)):
            size = min(PUBLISHED, records - start)
            for place, party in enumerate(self.parties.values()):
                shared = "" if self.design.shared_latent else f" of {party.name}"
                latent = self.settings.shape.latent
                z = self.draws.normal(f"published z{shared}", piece, size, latent)
                uniform = party.uniform("published", piece, size)
                parts[place].append(party.generator(z, uniform, mode="running"))
        return [torch.cat(part, dim=1) for part in parts]

    def state(self) -> dict[str, Tensor]:
        """All that training goes on from, and what publishing needs."""
        kept: dict[str, Tensor] = {}
        for owner, weights in (self.weights | self.running).items():
            kept |= {f"{owner}/{name}": value.detach() for name, value in weights.items()}
        for owner, optimizer in self.optimizers.items():
            for name, weight in self.weights[owner].items():
                for part, value in optimizer.state[weight].items():
                    kept[f"{owner}/{name}/{part}"] = value
        return kept | {"step": torch.tensor(self.step)}

    @torch.no_grad()
    def load(self, state: dict[str, Tensor]) -> None:
        self.step = self.first = int(state["step"])
        for owner, weights in (self.weights | self.running).items():
            for name, value in weights.items():
                value.copy_(state[f"{owner}/{name}"])
        for owner, optimizer in self.optimizers.items():
            for name, weight in self.weights[owner].items():
                moments = {part: state.get(f"{owner}/{name}/{part}") for part in MOMENTS}
                if moments["step"] is not None:
                    optimizer.state[weight] = moments
