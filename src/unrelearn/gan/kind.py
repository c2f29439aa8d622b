"""Federated generators, as a kind of model. They are trained by stages of their own."""

from dataclasses import asdict
from typing import Any

from unrelearn.config import Config
from unrelearn.gan.designs.vflgan import Design
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

    def recipe_of(self, design: Design) -> dict[str, Any]:
        """With the rate and the weight that are a design's own."""
        recipe = self.recipe()
        if design.learning_rate is not None:
            recipe["learning_rate"] = float(design.learning_rate)
        if design.penalty_weight is not None:
            recipe["networks"]["penalty_weight"] = float(design.penalty_weight)
        return recipe

    def settings(self, design: Design, parties: int) -> Settings:
        given, networks = self.recipe_of(design), self.cfg.model.gan
        assert networks is not None
        shape = Shape(
            tuple(networks.generator),
            tuple(networks.extractor),
            tuple(networks.server),
            networks.latent,
            design.heads,
            given["penalty"],
            given["networks"]["penalty_weight"],
            networks.batch_norm_eps,
        )
        return Settings(
            shape.wider(design.networks(parties)),
            given["max_steps"],
            given["batch_size"],
            given["learning_rate"],
            networks.critic_steps,
        )
