"""A training: critics and generators of R replicas, of parties and a server that meet on a wire."""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from unrelearn.gan.layers import Weights, hidden_names
from unrelearn.gan.members import Members
from unrelearn.gan.party import Party, expanded
from unrelearn.gan.privacy.none import RowBatch
from unrelearn.gan.wire import SERVER

FIRST = "E.0.weight"


def _of(weights: Weights, drawn: Tensor | None) -> Weights:
    """The critic that each replica drew, of all of them; of one there is nothing to draw."""
    return weights if drawn is None else {name: value[drawn] for name, value in weights.items()}


class Federation(Members):
    """Steps of a training."""

    def train(self, until: int, each: Callable[[int], None] = lambda step: None) -> None:
        """Critic steps up to a number of them, and the generator steps among these."""
        while self.step < until:
            self._critics()
            if (self.step + 1) % self.settings.critic_steps == 0:
                self._generators()
                self._average()
            self.step += 1
            each(self.step)

    # critics

    def _critics(self) -> None:
        batch = self.privacy.batch(self.draws, self.step, self.settings.batch_size)
        grads: dict[str, Weights] = {}
        if self.design.server:
            grads, arrived = self._scored(batch)
        for name, party in self.parties.items():
            if not self.design.server:
                self._features(party, batch)
                if self.settings.shape.penalty == "joint":
                    party.slope(None)
            given = arrived[name] if self.design.server else None
            grads[f"{name} critic"] = party.critic_grads(given)
        if self.privacy.per_record:
            grads = self._clipped(grads, batch)
        else:
            grads = {owner: self._noised(owner, part) for owner, part in grads.items()}
        for owner, part in grads.items():
            self._move(owner, part)

    def _scored(self, batch: RowBatch) -> tuple[dict[str, Weights], dict[str, Tensor]]:
        """The server's gradients, and each party's by its features."""
        features = {name: self._features(party, batch) for name, party in self.parties.items()}
        at_server = self.gather("features", features)
        server, v, grads, back = self.server, None, {}, None
        if server is not None:
            v = server.score(self._critic_weights(server.critic, batch), at_server)
        joint = self.settings.shape.penalty == "joint"
        slope_grads = self._joint_penalty(v) if joint else None
        if server is not None:
            grads["server critic"], back = server.critic_grads(slope_grads)
        return grads, self.scatter("feature_grads", back)

    def _joint_penalty(self, v: list[Tensor] | None) -> list[Tensor]:
        """dGP/dv_i, at the server."""
        seeds = self.scatter("penalty_seed", v)
        norms = {name: party.slope(seeds[name]) for name, party in self.parties.items()}
        arrived, shared = self.gather("penalty_norms", norms), None
        if self.server is not None:
            shared = [self.server.coefficients(arrived)] * len(self.names)
        told = self.scatter("penalty_grads", shared)
        grads = {name: party.slope_grads(told[name]) for name, party in self.parties.items()}
        return self.gather("penalty_grads", grads)

    def _features(self, party: Party, batch: RowBatch) -> Tensor:
        return party.features(self._critic_weights(party.critic, batch), self._read(party, batch))

    def _read(self, party: Party, batch: RowBatch) -> Tensor:
        """Real, generated and interpolated records (R, 3B, d); or (R * B, 3, d)."""
        alpha = self.draws.uniform("alpha", self.step, batch.drawn, 1)
        alpha = alpha[:, : batch.rows.shape[1]]
        records = party.records(batch.rows, self.latent(party, batch.drawn), alpha, self.step)
        if not self.privacy.per_record:
            return records
        return records.unflatten(1, (3, -1)).transpose(1, 2).flatten(0, 1)

    def _critic_weights(self, weights: Weights, batch: RowBatch) -> Weights:
        return expanded(weights, batch.rows.shape[1]) if self.privacy.per_record else weights

    def _noised(self, owner: str, grads: Weights) -> Weights:
        if owner.startswith(SERVER):
            return grads
        first, size = grads[FIRST], self.settings.batch_size
        return grads | {FIRST: self.privacy.first_layer(first, size, self.noise(owner))}

    def _clipped(self, grads: dict[str, Weights], batch: RowBatch) -> dict[str, Weights]:
        """Of gradients a record: the clipped sum with its noise, over the expected batch.

        The norm is one over all weights of all critics; only its square crosses the wire.
        """
        count = batch.rows.shape[1]
        squares = {
            owner: sum(g.flatten(1).square().sum(1) for g in part.values()).view(-1, count)
            for owner, part in grads.items()
        }
        if self.design.server:
            sent = {name: squares[f"{name} critic"] for name in self.parties}
            arrived, factors = self.gather("record_norms", sent), None
            if self.server is not None:
                whole = squares["server critic"] + torch.stack(arrived).sum(0)
                factors = [self.privacy.factors(whole)] * len(self.names)
            told = self.scatter("clip_factors", factors)
            of = {f"{name} critic": told[name] for name in self.parties}
            of |= {"server critic": factors[0]} if factors else {}
        else:
            of = {owner: self.privacy.factors(part) for owner, part in squares.items()}
        return {
            owner: self._summed(owner, part, of[owner] * batch.present)
            for owner, part in grads.items()
        }

    def _summed(self, owner: str, grads: Weights, factors: Tensor) -> Weights:
        noise, std = self.noise(owner), self.privacy.noise_std
        summed = {}
        for name, grad in grads.items():
            each = grad.unflatten(0, factors.shape)
            total = torch.einsum("rnio,rn->rio", each, factors)
            noised = total + std * noise(name, total.shape[1:])
            summed[name] = noised / self.settings.batch_size
        return summed

    def _move(self, owner: str, grads: Weights) -> None:
        for name, weight in self.weights[owner].items():
            # laid out like its weight, or the fused step pairs them wrongly
            weight.grad = grads[name].contiguous()
        self.optimizers[owner].step()

    # generators

    def _generators(self) -> None:
        """The latents of the critic step again, as in the released code."""
        size = self.privacy.batch(self.draws, self.step, self.settings.batch_size).drawn
        drawn = self.privacy.drawn(self.draws, self.step)
        features = {
            name: party.generated_features(
                _of(party.critic, drawn), self.latent(party, size), self.step
            )
            for name, party in self.parties.items()
        }
        arrived: dict[str, Tensor] = {}
        if self.design.server:
            at_server, back = self.gather("features", features), None
            if self.server is not None:
                back = self.server.generator_grads(_of(self.server.critic, drawn), at_server)
            arrived = self.scatter("feature_grads", back)
        for name, party in self.parties.items():
            owner = f"{name} generator"
            sanitise = partial(self.privacy.sanitised, noise=self.noise(owner))
            self._move(owner, party.generator_grads(arrived.get(name), sanitise))

    def _average(self) -> None:
        """VertiGAN: every so many generator steps the hidden layers become their mean."""
        interval = self.design.averaging_interval
        if not interval or (self.step + 1) // self.settings.critic_steps % interval:
            return
        held = {
            name: party.generator.weights | party.generator.running
            for name, party in self.parties.items()
        }
        for key in hidden_names(len(self.settings.shape.generator)):
            own = {name: part[key].detach() for name, part in held.items()}
            arrived, mean = self.gather("backbone", own), None
            if self.wire.here(SERVER):
                mean = [torch.stack(arrived).mean(0)] * len(self.names)
            told = self.scatter("backbone", mean)
            with torch.no_grad():
                for name, part in held.items():
                    part[key].copy_(told[name])
