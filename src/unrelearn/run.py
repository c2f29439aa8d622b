"""A run: its configuration, and what its stages read, each loaded once."""

import os
import time
from collections.abc import Callable
from dataclasses import asdict
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import torch
from hydra.utils import get_object, instantiate

from unrelearn import distributed, progress, source
from unrelearn.advice import typed
from unrelearn.artifact import Artifact, Spec, Store
from unrelearn.circumstances import circumstances, peak_memory, reset_peak_memory, versions
from unrelearn.config import Config, constructor_arguments, every_stage, name_of, with_option
from unrelearn.errors import UsageError
from unrelearn.kind import Kind
from unrelearn.method import Method

T = TypeVar("T")


def _content(value: Any) -> Any:
    """An argument, for keys: a data set among them is what its images are, wherever they lie."""
    if not isinstance(value, dict) or "_target_" not in value:
        return value
    name = value["_target_"].split(".")[-2]
    return {"name": name, "content": instantiate(value, _convert_="all").fingerprint()}


class Run:
    """What a resolved configuration asks for. `stages` say what that is made of.

    Args:
        cfg: the validated configuration.
        command: as it can be typed again.
        after: another run; if it has the same data set, that is not looked at and loaded again.
    """

    dataset: Any  # of unrelearn.data

    def __init__(self, cfg: Config, command: str, after: "Run | None" = None):
        self.cfg, self.command = cfg, command
        self.settings = asdict(cfg)  # as records hold it
        self.outputs = Path(self.cfg.paths.outputs)
        self.store = Store(self.outputs / "artifacts", rebuild=self.cfg.rebuild, say=progress.say)
        self.tracking = self.settings["tracking"]
        self.used: dict[str, dict] = {}  # artefact key -> what the stage table says of it
        self._kept: dict[str, Any] = {}
        # kind of network -> the largest batch of images that this device could draw, once found
        self.fitting: dict[tuple, int] = after.fitting if after else {}
        same = ("dataset", "trainer")
        if after and all(self.settings[key] == after.settings[key] for key in same):
            self._kept["images"] = after._kept.get("images")
            self.dataset = after.dataset
            if "data_slice" in vars(after):
                self.data_slice = after.data_slice
        else:
            self.dataset = instantiate(self.cfg.dataset, _convert_="all")
        self.kind: Kind = get_object(cfg.model.kind)(cfg, self.dataset)
        self.forget = self.kind.forget
        groups = ("dataset", "method", "attack")
        self.names = {group: name_of(self.settings[group]) for group in groups}
        self.group = "-".join(self.names.values())
        self.method, self.attack = self.record("method"), self.record("attack")

    @property
    def original_known(self) -> bool:
        """Whether the original model is the first of the run; if not, the unlearned one is."""
        if self.method.elsewhere:
            return self.cfg.model.checkpoint is not None
        return self.cfg.reference is None

    def record(self, group: str) -> Method:
        """The method or attack: a new record, as it keeps what its training prepares."""
        return instantiate(constructor_arguments(self.settings[group]), _convert_="all")

    def with_method(self, name: str) -> "Run":
        """The same run of another method; what either loads or uses is known to both."""
        if self.names["method"] == name:
            return self
        other = Run(with_option(self.cfg, "method", name), self.command, after=self)
        other.used, other._kept = self.used, self._kept
        return other

    def once(self, name: str, make: Callable[[], T]) -> T:
        """What `make` returns; it is called the first time only."""
        if self._kept.get(name) is None:
            self._kept[name] = make()
        return self._kept[name]

    @cached_property
    def data_slice(self) -> dict[str, Any]:
        """What the data set is, for keys."""
        known = {"name": self.names["dataset"], "horizontal_flip": self.dataset.horizontal_flip}
        try:
            return known | {"content": self.dataset.fingerprint()}
        except (UsageError, OSError):
            if not self.cfg.dry_run:
                raise
            return known  # the files are not here yet, so nothing made from them can be

    def changed(self, group: str) -> dict[str, Any]:
        """What a method or attack makes of its parent, for keys."""
        given = constructor_arguments(self.settings[group])
        arguments = {name: _content(value) for name, value in given.items()}
        method: Method = getattr(self, group)
        if "seed" in arguments:
            arguments["seed"] = method.own_seed
        known = {
            group: arguments,
            "forget": self.kind.forgotten,
            "seed": self.cfg.seed,
            "weights": self.cfg.model.weights,
            "precision": self.cfg.precision,
            **self.kind.followed(method),
        }
        digest = source.source_of(type(method))  # of code that no stage's version speaks for
        return known | ({"source": digest} if digest else {})

    def slice(self, part: Any) -> dict[str, Any]:
        """A part of the configuration, for keys."""
        return asdict(part)

    @cached_property
    def device(self) -> torch.device:
        if self.cfg.trainer.accelerator == "cpu" or not torch.cuda.is_available():
            return torch.device("cpu")
        return torch.device("cuda", int(os.environ.get("LOCAL_RANK", 0)))

    def build(self, spec: Spec, make: Callable[[Path], dict]) -> Artifact:
        """An artefact of a stage that was asked for, or one that is there already."""
        # the first process decides for all: another run may finish it between two looks
        there = distributed.on_main(lambda: self.store.find(spec) is not None)
        existing = self.store.find(spec) if there else None
        if existing is None:
            self._check_asked(spec.stage)

        def measured(folder: Path) -> dict:
            started = time.monotonic()
            reset_peak_memory()
            with progress.alive(f"{spec.stage} {spec.key}"):
                meta = make(folder)
            seconds = max(time.monotonic() - started, meta.get("seconds") or 0.0)
            return {
                "status": "finished",
                "weights": None,
                **meta,
                **self._costs(),
                **circumstances(),
                "versions": versions(),
                "seconds": round(seconds, 2),
                "command": self.command,
            }

        artifact = existing or self.store.build(spec, measured)
        row = {name: artifact.meta[name] for name in ("seconds", "peak_memory_mib", "device")}
        status = "reused" if artifact.reused else "computed"
        row = {"stage": spec.stage, "key": artifact.key, "status": status, **row}
        self.used.setdefault(artifact.key, row)
        return artifact

    def _check_asked(self, stage: str) -> None:
        """That a stage is made only if it, or no stage of its kind, could be left out."""
        asked, all_stages = self.cfg.stages, every_stage()
        if stage not in all_stages or stage in asked:
            return
        wanted = [name for name in all_stages if name in [*asked, stage]]
        raise UsageError(
            f"stages=[{','.join(asked)}]: needs the result of stage {stage}, which has not been run"
            f" with this configuration. Type {typed({'stages': wanted})}"
        )

    def _costs(self) -> dict[str, Any]:
        """On what and in how much memory a stage ran."""
        if self.device.type == "cuda":
            peak, name = torch.cuda.max_memory_allocated() / 2**20, torch.cuda.get_device_name()
        else:
            peak, name = peak_memory(), "cpu"
        return {"peak_memory_mib": None if peak is None else round(peak, 1), "device": name}
