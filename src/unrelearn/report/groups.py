"""Which runs are alike: what was run and measured in one way, under any number of seeds.

A *group* is one row of the comparison: the same data, model, oracle, protocol, forgotten classes,
method and attack, with the same settings, under any number of seeds; attack seeds are replicates
inside a seed. Runs that differ in how they were *measured*, or that another version of a stage
made, go to separate tables; runs of one method or attack with different settings go to separate
rows. Either way the difference is named.
"""

import json
import re
import zlib
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from unrelearn.report.records import (
    Record,
    attack_seed,
    created,
    every,
    image_count,
    main_guidance,
    newest,
    rows_of,
    version,
)
from unrelearn.report.stats import DISTANCES
from unrelearn.report.words import protocol_name

# sections of the configuration of which a table, and a row of it, holds one of each
MEASUREMENT = (  # noqa: SIM905
    "dataset model precision oracle protocol sampler eval held_out"
).split()
TREATMENT = ("method", "attack")
# of a classifier, besides: which images the original and the references were trained on, and how
ORIGINALS = ("references", "augment.base", "augment.retrain", "validation")
CHANGES = ("augment",)
NAMES = (  # noqa: SIM905
    "dataset class_names protocol method attack forget_classes forgotten"
).split()
# these rows come first
CONTROLS = ("original", "retrain", "row_swap", "projection_swap", "rescaled", "random_weights")
# says which code, which the names or what was forgotten say, or how data arrived
IGNORED = {"_target_", "preset", "download", "root", "verify", "halves"}
REPLICATE = "attack.seed"  # no setting: runs that differ only in it are averaged inside their seed
RATE = "attack.learning_rate"  # the attacker chooses it: runs that differ only in it are one attack
# keys that older records do not have, and what went without saying in them
LATER = {
    "dataset.label_noise": "0.0",
    "dataset.label_noise_seed": "0",
    "held_out.seed": "1",
    "held_out.share": "0.0",
    "model.kind": '"unrelearn.diffusion.kind.Denoisers"',
    "model.network": "null",
    "references.half": "null",
    "validation.forget_split_seed": "null",
    "validation.seed": "1",
    "validation.share": "0.0",
}
MAX_NAMED = 4  # settings spelled out when two protocols differ
MAX_CHANGED = 2  # of a protocol, spelled out in titles where all tables have them
# of record["versions"], what is only mentioned; all others are stages, and decide the numbers
LIBRARIES = ("torch", "diffusers", "lightning")
T = TypeVar("T")
K = TypeVar("K", bound=Hashable)


@dataclass
class Group:
    """One row of the comparison."""

    records: list[Record]
    measurement: dict[str, str]
    treatment: dict[str, str]
    num_images: int | None
    distance_images: int | None  # of the Fréchet distance, whose bias depends on it
    budgets: tuple[float, ...]  # optimiser steps, or levels in the order they were measured in
    table: str = ""  # title of the table it belongs to, naming what sets that table apart
    # settings of "method", "attack" and "rate" that set it apart from another row of the same name
    notes: dict[str, list[str]] = field(default_factory=dict)
    number: int = 0  # its place among all groups
    style: int = 0  # colour and marker: a method looks the same in every figure

    @property
    def first(self) -> Record:
        return self.records[0]

    @property
    def finished(self) -> list[Record]:
        return [record for record in self.records if record["status"] == "finished"]

    @property
    def note(self) -> str:
        attack = self._notes("attack") + self._notes("rate")
        attack.sort(key=lambda part: (part.startswith("and "), part))
        return ", ".join(attack + self._notes("method"))

    @property
    def method_note(self) -> str:
        """The note without the attack's settings."""
        return ", ".join(self._notes("method"))

    @property
    def attack_note(self) -> str:
        """The attack's settings of the note, without its learning rate."""
        return ", ".join(part.removeprefix("attack.") for part in self._notes("attack"))

    def _notes(self, section: str) -> list[str]:
        return self.notes.get(section, [])

    def count(self, status: str) -> int:
        return sum(record["status"] == status for record in self.records)

    @property
    def n(self) -> int:
        """Seeds that have a finished run."""
        return len({record["seed"] for record in self.finished})

    @property
    def seeds(self) -> str:
        """``n=3``, ``n=2, 1 diverged``, ``n=3 of 3 attack seeds``."""
        each = max(Counter(record["seed"] for record in self.finished).values(), default=1)
        counts = [f"{n} {status}" for status in ("diverged", "failed") if (n := self.count(status))]
        if self.finished:
            counts.insert(0, f"n={self.n}" + (f" of {each} attack seeds" if each > 1 else ""))
        return ", ".join(counts)


def gathered(items: Iterable[T], key: Callable[[T], K]) -> dict[K, list[T]]:
    """The items by their key, in the order in which the keys come."""
    lists: dict[K, list[T]] = {}
    for item in items:
        lists.setdefault(key(item), []).append(item)
    return lists


def comparison(records: Sequence[Record]) -> list[Group]:
    """The groups, sorted as the tables show them; a repeated run is left out."""
    groups = _grouped(records)
    for group in groups:
        group.records = _one_of_each(group.records)
    counts, titled = ("num_images", "distance_images"), zip(_titles(groups), groups, strict=True)
    for title, members in gathered(titled, lambda pair: pair[0]).items():
        same = [group for _, group in members]
        counted = [
            {**group.measurement, **{name: _known(getattr(group, name)) for name in counts}}
            for group in same
        ]
        for group, parts in zip(same, differences(counted), strict=True):
            group.table = title + (f" ({', '.join(parts)})" if parts else "")
    for same in gathered(groups, _row_name).values():
        treated = [{**g.treatment, "measured_budgets": _known(g.budgets)} for g in same]
        for section in ("method", "attack", "rate"):  # what is folded says nothing of the others
            own = [{k: v for k, v in each.items() if _section(k) == section} for each in treated]
            for group, parts in zip(same, differences(own), strict=True):
                group.notes[section] = parts
    groups.sort(key=lambda group: (*_row_name(group)[:2], *place(group), group.note))
    styles: dict[tuple[str, str], int] = {}
    for number, group in enumerate(groups):
        group.number = number
        method = group.first["method"], group.method_note
        group.style = styles.setdefault(method, len(styles))
    return groups


def _section(key: str) -> str:
    return "rate" if key == RATE else "attack" if key.startswith("attack.") else "method"


def place(group: Group) -> tuple[int, str, str]:
    return (*control_first(group.first["method"]), group.first["attack"])


def control_first(method: str) -> tuple[int, str]:
    """Sorts methods: the controls first, in their order."""
    return (CONTROLS.index(method) if method in CONTROLS else len(CONTROLS), method)


def _grouped(records: Sequence[Record]) -> list[Group]:
    """Finished runs first: they show the whole protocol; one that broke off joins what it fits."""
    groups: dict[str, list[Group]] = {}
    pairs = zip(records, _measurements(records), strict=True)
    for record, measurement in sorted(pairs, key=lambda pair: _finished_first(pair[0])):
        treatment = fingerprint(record, TREATMENT + (CHANGES if record.get("kind") else ()))
        key = _key(*(record.get(name) for name in NAMES), measurement, treatment)
        same = groups.setdefault(key, [])
        new = Group(
            [record],
            measurement,
            treatment,
            _num_images(record),
            _distance_images(record),
            _budgets(record),
        )
        finished = record["status"] == "finished"
        group = next((group for group in same if not finished or _fits(group, new)), None)
        if group is None:
            same.append(new)
        else:
            group.records.append(record)
            group.distance_images = group.distance_images or new.distance_images
    return [group for same in groups.values() for group in same]


def _finished_first(record: Record) -> tuple[bool, int, str]:
    return (record["status"] != "finished", record["seed"], record["name"])


def _fits(group: Group, new: Group) -> bool:
    """Whether a record counted what the group counts; one that has no distance fits any."""
    counts = {group.distance_images, new.distance_images} - {None}
    same = (group.num_images, group.budgets) == (new.num_images, new.budgets)
    return same and len(counts) < 2


def _one_of_each(records: list[Record]) -> list[Record]:
    """Of each seed and attack seed the finished run, then the newest: a repeat is no replicate."""
    kept = []
    seeds = gathered(records, lambda record: (record["seed"], attack_seed(record)))
    for _, same in sorted(seeds.items()):
        finished = [record for record in same if record["status"] == "finished"]
        kept.append(newest(finished) if finished else max(same, key=created))
    return kept


def _titles(groups: Sequence[Group]) -> list[str]:
    """``digits, model unet_tiny, protocol fast (sampler.num_images=96)``; where much was changed of
    a protocol, only what differs between tables is spelled out.
    """
    names, changed = zip(*map(_named, groups), strict=True) if groups else ((), ())
    titles = list(names)
    for places in gathered(range(len(groups)), lambda i: names[i]).values():
        unlike = differences([changed[i] for i in places])
        for i, different in zip(places, unlike, strict=True):
            parts = [f"{key}={value}" for key, value in changed[i].items()]
            if len(parts) > MAX_CHANGED:
                every = [all(changed[j].get(k) == v for j in places) for k, v in changed[i].items()]
                more = f"{sum(every)}{' more' * bool(different)} settings changed"
                parts = [*different, *[more] * any(every)]
            titles[i] += f" ({', '.join(parts)})" if parts else ""
    return titles


def _named(group: Group) -> tuple[str, dict[str, str]]:
    """Of a table all but what was changed of its protocol, and that."""
    model = json.loads(group.measurement.get("model.name", '""'))
    protocol, _, changed = protocol_name(group.first).partition(" (")
    parts = [group.first["dataset"], f"model {model}" if model else "", f"protocol {protocol}"]
    pairs = re.findall(r"([\w.]+)=(.*?)(?=, [\w.]+=|\)?$)", changed)
    return ", ".join(filter(None, parts)), dict(pairs)


def _row_name(group: Group) -> tuple[str, tuple[tuple[int, ...], str], str, str]:
    first = group.first
    return (group.table, forgotten_key(first), first["method"], first["attack"])


def forgotten_key(record: Record) -> tuple[tuple[int, ...], str]:
    """Classes, or what names the images."""
    named = "" if record["forget_classes"] else json.dumps(record.get("forgotten"))
    return tuple(record["forget_classes"]), named


# ---- settings ------------------------------------------------------------------------------------


def _key(*parts: object) -> str:
    return json.dumps(parts, sort_keys=True)


def _known(count: object) -> str | None:
    """A run that counted nothing does not differ in the count."""
    return json.dumps(count) if count else None


def fingerprint(record: Record, sections: Sequence[str]) -> dict[str, str]:
    """What decides what the numbers mean: ``{"sampler.num_inference_steps": "20", ...}``."""
    flat: dict[str, str] = {}
    for section in sections:
        value = record["config"]
        for name in section.split("."):
            value = (value or {}).get(name)
        if value is not None:
            _flatten(section, value, flat)
    flat.pop(REPLICATE, None)
    return flat


def _flatten(prefix: str, value: object, flat: dict[str, str]) -> None:
    if not isinstance(value, dict):
        flat[prefix] = json.dumps(value, sort_keys=True)
        return
    for key, inner in value.items():
        if key == "_target_" and prefix.startswith(("method.", "attack.")):
            flat[prefix] = json.dumps(inner.rpartition(".")[2])  # nothing else names the object
        elif key not in IGNORED:
            _flatten(f"{prefix}.{key}", inner, flat)


def _measurements(records: Sequence[Record]) -> list[dict[str, str]]:
    """How each record was measured, with the stage versions in which records that are measured
    alike disagree.

    A record that does not say its versions fits any one; where the others disagree nobody knows
    which, and it stands apart.
    """
    settings = [
        fingerprint(record, [*MEASUREMENT, *(ORIGINALS if record.get("kind") else ())])
        for record in records
    ]
    keys = set().union(*settings)
    for each in settings:
        for key in keys & LATER.keys():
            each.setdefault(key, LATER[key])
    pairs = zip(records, settings, strict=True)
    same = gathered(pairs, lambda pair: _key(*(pair[0].get(n) for n in NAMES[:3]), pair[1]))
    for members in same.values():
        for stage in _unlike_stages([record for record, _ in members]):
            for record, measurement in members:
                measurement[f"versions.{stage}"] = version(record, stage) or "not recorded"
    return settings


def _unlike_stages(records: Sequence[Record]) -> list[str]:
    names = {name for record in records for name in record.get("versions") or {}}
    stages = sorted(names - set(LIBRARIES))
    known = {stage: {version(record, stage) for record in records} for stage in stages}
    return [stage for stage in stages if len(known[stage] - {None}) > 1]


def _num_images(record: Record) -> int | None:
    guidance = main_guidance(record)
    scales = [(row.get("metrics") or {}).get("forget_accuracy") or {} for row in record["rows"]]
    counts = [image_count(scale.get(guidance)) for scale in scales]
    return next(filter(None, counts), None)


def _distance_images(record: Record) -> int | None:
    for metric in DISTANCES:
        for value in every(record, metric):
            if n := image_count(value):
                return n
    return None


def _budgets(record: Record) -> tuple[float, ...]:
    steps = [row.get("step") for row in rows_of(record, "attacked")]
    return tuple(step for step in steps if step is not None)


def differences(settings: Sequence[Mapping[str, str | None]]) -> list[list[str]]:
    """``sampler.num_inference_steps=20``: where they are not alike; None does not say."""
    unlike = []
    for key in sorted(set().union(*settings)):
        if len({each.get(key, "absent") for each in settings} - {None}) > 1:
            unlike.append(key)
    named = []
    for each in settings:
        values = [(key, each.get(key, "absent")) for key in unlike]
        parts = [f"{key}={value}" for key, value in values if value is not None]
        if len(parts) > MAX_NAMED:
            # the checksum keeps apart what differs only in settings that are not spelled out
            checksum = f"{zlib.crc32(str(parts).encode()):08x}"
            parts[MAX_NAMED:] = [f"and {len(parts) - MAX_NAMED} more: {checksum}"]
        named.append(parts)
    return named


def settings_of(
    groups: Sequence[Group], section: str, ignored: tuple[str, ...] = (RATE,)
) -> list[str]:
    """What sets the method or attack of each group apart from another of its name."""
    words = [""] * len(groups)
    for places in gathered(range(len(groups)), lambda i: groups[i].first[section]).values():
        settings = []
        for i in places:
            known = fingerprint(groups[i].first, (section,)).items()
            kept = {key: value for key, value in known if key not in ignored}
            settings.append({key.removeprefix(f"{section}."): kept[key] for key in kept})
        for i, parts in zip(places, differences(settings), strict=True):
            words[i] = ", ".join(parts).replace('"', "")
    return words
