"""Federated generators, as a kind of model. They are trained by stages of their own."""

from dataclasses import asdict
from typing import Any

from unrelearn.config import Config
from unrelearn.gan.members import Settings
from unrelearn.gan.party import Shape
from unrelearn.kind import Kind


class Federations(Kind):
    """Nothing is forgotten."""

    track, batches, evidence = "vflgan", "Federation", "PublishedTables"
    parts = ("gan",)

    def __init__(self, cfg: Config, dataset: Any):
        self.cfg, self.dataset = cfg, dataset
        self.by_image, self.forget = False, []

    @property
    def seeds(self) -> list[int]:
        """Of the replicas."""
        return [self.cfg.seed + replica for replica in range(self.cfg.gan.replicas)]

    def recipe(self) -> dict[str, Any]:
        pretrain, wanted = asdict(self.cfg.model.pretrain), ("max_steps", "batch_size")
        assert self.cfg.model.gan is not None
        return {
            "networks": asdict(self.cfg.model.gan),
            **{name: pretrain[name] for name in (*wanted, "learning_rate")},
            "penalty": self.cfg.gan.penalty,
            "select": self.cfg.gan.select,
            "seeds": self.seeds,
        }

    def settings(self, heads: bool, networks_of: int = 1) -> Settings:
        """heads: whether the design has local critics; networks_of: how many parties' networks
        each holder of columns has.
        """
        given, networks = self.recipe(), self.cfg.model.gan
        assert networks is not None
        shape = Shape(
            tuple(networks.generator),
            tuple(networks.extractor),
            tuple(networks.server),
            networks.latent,
            heads,
            given["penalty"],
            networks.penalty_weight,
            networks.batch_norm_eps,
        )
        return Settings(
            shape.wider(networks_of),
            given["max_steps"],
            given["batch_size"],
            given["learning_rate"],
            networks.critic_steps,
        )
