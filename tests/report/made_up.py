"""Made-up records in the format of ``result.json``: they test what reads them, nothing else."""

import json
from copy import deepcopy
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file
from sklearn.datasets import load_digits

BUDGETS = (25, 50, 100, 200, 400)
N = 500


def wilson(value: float, n: int = N) -> dict:
    z = 1.959964
    middle = (value + z * z / (2 * n)) / (1 + z * z / n)
    half = z * np.sqrt(value * (1 - value) / n + z * z / (4 * n * n)) / (1 + z * z / n)
    return {"value": value, "low": float(middle - half), "high": float(middle + half), "n": n}


def write_samples(folder: Path, forget_share: float, rng: np.random.Generator) -> None:
    """Digits in the place of samples: under class 7, the given share of sevens and otherwise
    threes.
    """
    digits = load_digits()
    images = np.clip(digits.images * 16, 0, 255).astype(np.uint8)[:, None]
    by_class = [images[digits.target == k] for k in range(10)]
    tensors = {}
    for guidance in ("1.0", "2.0"):
        seen = np.where(rng.random(24) < forget_share, 7, 3)
        tensors[f"forget/{guidance}"] = np.stack([by_class[k][i] for i, k in enumerate(seen)])
        tensors[f"forget/{guidance}/labels"] = np.full(24, 7, dtype=np.int64)
    labels = np.array([k for k in range(10) if k != 7] * 4, dtype=np.int64)
    tensors["retain/1.0"] = np.stack([by_class[k][i] for i, k in enumerate(labels)])
    tensors["retain/1.0/labels"] = labels
    folder.mkdir(parents=True, exist_ok=True)
    save_file(tensors, folder / "samples.safetensors")


def make_row(model: str, step: int | None, forget: float, retain: float | None, key: str) -> dict:
    replaced = round(N * (1 - forget))
    counts = [0, 0, 0, replaced - replaced // 4, 0, 0, 0, N - replaced, 0, replaced // 4]
    metrics = {
        "forget_accuracy": {"1.0": wilson(forget), "2.0": wilson(forget / 2)},
        "entropy": {"1.0": 0.31, "2.0": 0.2},
        "replacement": {"1.0": counts, "2.0": counts},
    }
    if retain is not None:
        per_class = [None if k == 7 else retain - 0.003 * k for k in range(10)]
        metrics["retain_accuracy"] = {"1.0": {**wilson(retain, 900), "per_class": per_class}}
        metrics["fd_oracle"] = {"1.0": {"value": 9.1 + 10 * (1 - retain), "floor": 4.0, "n": 450}}
        metrics["kid_oracle"] = {"1.0": {"value": 0.0123, "std": 0.002, "floor": 0.0004}}
        held_out = wilson(forget)
        metrics["agreement"] = {
            "1.0": {"forget": 0.97, "retain": 0.99, "held_out_forget_accuracy": held_out}
        }
    return {
        "model": model,
        "step": step,
        "evaluate": f"evaluate/{key}",
        "weights": f"weights/{key} (ema)",
        "samples": f"artifacts/samples/{key}",
        "status": "finished",
        "metrics": metrics,
    }


def make_record(
    forget=(0.97, 0.012),
    attacked=(0.016, 0.03, 0.05, 0.09, 0.124),
    method="dimum",
    attack="dimra",
    seed=0,
    retain=(0.985, 0.98, 0.975),
    **changes,
) -> dict:
    name = f"digits-{method}-{attack}-7-seed{seed}-1a2b3c4d"
    rows = [make_row("original", None, forget[0], retain[0], f"{name}-o")]
    rows.append(make_row("unlearned", None, forget[1], retain[1], f"{name}-u"))
    if attack != "none":
        for step, value in zip(BUDGETS, attacked, strict=True):
            rows.append(
                make_row(
                    "attacked",
                    step,
                    value,
                    retain[2] if step == BUDGETS[-1] else None,
                    f"{name}-{step}",
                )
            )
    curve = [forget[1], *attacked]
    recovery = {
        g: {
            "budgets": [0, *BUDGETS],
            "forget_accuracy": [v / s for v in curve],
            "area": 0.21 / s,
            "steps_to_half": 130 if curve[-1] > forget[0] / 2 else None,
        }
        for g, s in (("1.0", 1), ("2.0", 2))
    }
    stage = {
        "key": "ab12cd34ef56",
        "status": "computed",
        "seconds": 101.2,
        "peak_memory_mib": 812.0,
        "device": "cpu",
    }
    record = {
        "version": 1,
        "name": name,
        "command": f"python run.py method={method} attack={attack} seed={seed}",
        "created": f"2026-11-23T10:00:0{seed}+00:00",
        "status": "finished",
        "error": None,
        "config": {
            "seed": seed,
            "forget": 7,
            "precision": "32-true",
            "dataset": {"_target_": "unrelearn.data.digits.Digits"},
            "model": {
                "name": "unet_tiny",
                "unet": {"block_out_channels": [32, 64]},
                "pretrain": {"max_steps": 2000},
            },
            "method": {"_target_": f"unrelearn.methods.{method}.Method", "learning_rate": 1e-4},
            "attack": {"_target_": f"unrelearn.attacks.{attack}.Attack", "budgets": [0, *BUDGETS]},
            "protocol": {
                "name": "fast",
                "contrast_stretch": False,
                "reference_images_per_class": None,
            },
            "sampler": {
                "name": "ddim",
                "num_inference_steps": 20,
                "guidance_scales": [1.0, 2.0],
                "num_images": N,
            },
            "oracle": {"main": {"width": 32, "seed": 0}, "max_steps": 500},
        },
        "protocol": "fast",
        "dataset": "digits",
        "method": method,
        "attack": attack,
        "seed": seed,
        "class_names": [str(k) for k in range(10)],
        "forget_classes": [7],
        "oracle": {"test_accuracy": wilson(0.986), "held_out_test_accuracy": wilson(0.978)},
        "rows": rows,
        "stages": [
            {"stage": "pretrain", **stage},
            {"stage": "unlearn", **stage, "status": "reused"},
        ],
        "recovery": None if attack == "none" else recovery,
        "seconds": 211.0,
    }
    return {**record, **changes}


def with_levels(
    record: dict, unit: str, levels: dict[float, float], sees_forgotten: bool = False
) -> dict:
    """The record as it would be of an attack that takes no steps: forget accuracy by level, in the
    order measured.
    """
    name, curve = record["name"], list(levels.values())
    rows = record["rows"][:2] + [
        make_row("attacked", level, value, 0.97, f"{name}-{level}")
        for level, value in levels.items()
    ]
    recovery = {
        g: {
            "budgets": list(levels),
            "forget_accuracy": [v / s for v in curve],
            "area": None,
            "steps_to_half": None,
        }
        for g, s in (("1.0", 1), ("2.0", 2))
    }
    strongest = {
        g: {"value": max(curve) / s, "at": max(levels, key=levels.get)}
        for g, s in (("1.0", 1), ("2.0", 2))
    }
    return {
        **record,
        "rows": rows,
        "recovery": recovery,
        "strongest": strongest,
        "attack_unit": unit,
        "attack_sees_forgotten": sees_forgotten,
    }


NEW = ("fid", "kid", "inception_score", "precision_recall", "density_coverage")


def with_new_measurements(
    record: dict, features: str = "oracle", guidance: str = "1.0", only: tuple[str, ...] = NEW
) -> dict:
    """The record as it would be with these measurements too, made on every row."""
    for index, row in enumerate(record["rows"]):
        new = {
            "fid": {
                "value": 31.27 + 100 * index + record["seed"],
                "floor": 18.04,
                "n": 450,
                "reference_n": 1168,
            },
            "kid": {"value": 0.0212 + index, "std": 0.001, "n": 450, "floor": 0.0007},
            "inception_score": {"value": 8.912, "std": 0.2, "n": 450, "real": 10.83},
            "precision_recall": {
                "precision": 0.811,
                "recall": 0.622,
                "n": 450,
                "k": 3,
                "features": features,
            },
            "density_coverage": {
                "density": 1.044,
                "coverage": 0.933,
                "n": 450,
                "k": 5,
                "features": features,
            },
        }
        row["metrics"] |= {name: {guidance: new[name]} for name in only}
    return record


def before_protocols(record: dict) -> dict:
    """The record as it was written before results named their protocol."""
    config = {key: value for key, value in record["config"].items() if key != "protocol"}
    return {**{key: value for key, value in record.items() if key != "protocol"}, "config": config}


def write_run(outputs: Path, record: dict, samples: bool = False) -> Path:
    path = outputs / "runs" / record["name"] / "result.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(record))
    if samples:
        for row in record["rows"]:
            forget = row["metrics"]["forget_accuracy"]["1.0"]["value"]
            write_samples(outputs / row["samples"], forget, np.random.default_rng(0))
    return path


def without_rows(record: dict, keep: int) -> dict:
    """The record as it would be had the run diverged after so many rows."""
    return {**record, "rows": record["rows"][:keep], "recovery": None, "status": "diverged"}


def hits_text(hits: np.ndarray) -> str:
    return "".join("01"[hit] for hit in hits.astype(int))


def with_hits(record: dict) -> dict:
    """As records are written today: image by image, what is seen instead, and versions."""
    for row in record["rows"]:
        rng = np.random.default_rng([*json.dumps(row["metrics"]["forget_accuracy"]).encode()])
        for value in row["metrics"].get("forget_accuracy", {}).values():
            hits = np.arange(value["n"]) < round(value["value"] * value["n"])
            value["hits"] = hits_text(rng.permutation(hits))
            value["nothing"] = round(0.3 * (1 - value["value"]), 4)
            value["another"] = round(0.7 * (1 - value["value"]), 4)
        forget = row["metrics"]["forget_accuracy"]["1.0"]["value"]
        other = wilson(round(0.9 * forget, 3), 100) | {"sampler": "dpmsolver++, 13 steps"}
        row["metrics"]["other_sampler"] = {"1.0": other}
    record["versions"] = {"unrelearn": "0.1.0", "torch": "2.14.1", "evaluate": 4, "attack": 2}
    return record


COMBINATIONS = [f"{size} {colour}" for size in ("small", "large") for colour in ("red", "green")]


def with_word(record: dict) -> dict:
    """The record as it would be of the word "red", with its numbers as concept accuracy; the exact
    combination is drawn half as often.
    """
    for row in record["rows"]:
        for scale, value in list(row["metrics"].get("forget_accuracy", {}).items()):
            share = value["value"]
            shown = {**value, "held_out": round(share / 4, 4), "computed": None, "kept": 0.75}
            words = {"red": round(1 - share / 2, 4), "green": 0.96}
            new = {
                "concept_accuracy": shown,
                "paraphrase_accuracy": {**wilson(round(share / 2, 3)), "by_wording": {"4": share}},
                "domain_accuracy": {**wilson(0.98, 900), "cross_domain": 0.93, "all_right": 0.9},
                "nearby_damage": {"shared": {}, "values": words, "value": min(words.values())},
            }
            for name, measured in new.items():
                row["metrics"].setdefault(name, {})[scale] = measured
            row["metrics"]["forget_accuracy"][scale] = {**wilson(share / 2), "nothing": 0.125}
    for curve in (record["recovery"] or {}).values():
        curve["concept_accuracy"] = curve.pop("forget_accuracy")
    changed = {"dataset": "shapes", "forget_classes": [0, 2], "class_names": COMBINATIONS}
    return record | changed | {"config": record["config"] | {"forget": "red"}}


# method -> what is left after unlearning, what DiMRA and embedding inversion bring back, and the
# retained accuracy of the unlearned model
PLACES = {
    "original": (0.97, 0.97, 0.98, 0.985),
    "retrain": (0.012, 0.03, 0.1, 0.984),
    "row_swap": (0.01, 0.02, 0.97, 0.985),
    "rescaled": (0.2, 0.3, 0.2, 0.98),
    "dimum": (0.012, 0.2, 0.25, 0.98),
    "salun": (0.03, 0.5, 0.45, 0.97),
    "munba": (0.0, 0.01, 0.02, 0.6),
    "random_label": (0.011, 0.04, 0.11, 0.981),
    "esd": (0.05, 0.3, 0.2, 0.98),
    "siss": (0.07, 0.2, 0.2, 0.98),
}


def share(value: float) -> float:
    return round(float(min(max(value, 0), 1)), 3) + 0.0


def run_of(method: str, attack: str = "dimra", seed: int = 0, label: int = 7, **options) -> dict:
    """A run whose numbers follow from its name; `options` are settings of the attack, but for
    attack_seed, factor, learning_rate and broke.
    """
    attack_seed, broke = options.pop("attack_seed", 0), options.pop("broke", False)
    settings = {key: options.pop(key) for key in ("factor", "lr") if key in options}
    words = [f"{key}{value}" for key, value in {**settings, **options}.items()]
    name = "-".join(map(str, [method, attack, seed, label, attack_seed, *words]))
    rng = np.random.default_rng(list(name.encode()))
    # what does not depend on the attack: the unlearned model is the same in all of these runs
    same = np.random.default_rng([*method.encode(), seed, label, len(settings)])
    left, dimra, inversion, retained = PLACES[method]
    peak = {"embedding_inversion": inversion, "few_shot": 0.9, "none": left}.get(attack, dimra)
    peak *= 1 if options.get("learning_rate", 1e-3) == 1e-3 else 0.6
    noise, first = iter(rng.normal(0, 0.01, 40)), iter(same.normal(0, 0.01, 40))
    curve = [left + (peak - left) * part for part in (0.1, 0.3, 0.6, 0.9, 1.0)]
    forget = share(left + next(first))
    curve = [share(value + next(noise)) for value in curve]
    kept = [round(float(r + 0.2 * next(first)), 4) for r in (0.985, retained)]
    kept.append(round(float(retained - 0.004 + 0.2 * next(noise)) - 0.3 * broke, 4))
    record = make_record((0.97, forget), curve, method, attack, seed, kept, forget_classes=[label])
    record["name"] = name
    record["config"]["attack"] |= {"learning_rate": 1e-3, "seed": attack_seed, **options}
    record["config"]["method"] |= settings
    record |= {"attack_seed": attack_seed, "attack_unit": "steps"}
    record["attack_sees_forgotten"] = attack in ("few_shot", "context_probe")
    for row in record["rows"][2:]:
        first = row is record["rows"][2] and broke and seed == 0  # its first budget is whole
        retain = kept[1] if first else kept[2]
        row["metrics"]["retain_accuracy"] = {"1.0": wilson(retain, 900)}
        distance = round(9.1 + 10 * (1 - retain), 3)
        row["metrics"]["fd_oracle"] = {"1.0": {"value": distance, "n": 450, "floor": 4.0}}
    if curve[-1] > 0.485 and attack != "none":
        record["recovery"]["1.0"]["steps_to_half"] = round(100 + 50 * next(noise), 3)
    return record


def many() -> list[dict]:
    """148 records: methods, attacks, seeds, attack seeds, guidances, classes, protocols, versions;
    some broke, diverged, failed, or are of an older kind.
    """
    new = _present() + _levels()
    return [*map(with_hits, new), *_other_tables(), *_unfinished()]


def _present() -> list[dict]:
    records = []
    for method in ("original", "retrain", "row_swap", "dimum", "salun"):
        for seed in (0, 1, 2):
            records += [run_of(method, seed=seed, learning_rate=rate) for rate in (1e-3, 3e-4)]
            records.append(run_of(method, "embedding_inversion", seed))
    for method in ("retrain", "dimum", "salun"):
        for seed in (0, 1, 2):
            records += [run_of(method, seed=seed, attack_seed=again) for again in (1, 2)]
    for method in ("retrain", "dimum"):
        for seed in (3, 4):
            records += [run_of(method, a, seed) for a in ("dimra", "embedding_inversion")]
    for attack in ("dimra", "embedding_inversion"):
        records += [run_of("munba", attack, seed, broke=True) for seed in (0, 1, 2)]
        records += [run_of("dimum", attack, seed, lr=1e-3) for seed in (0, 1)]
        records += [run_of("rescaled", attack, factor=factor) for factor in (100, 0.03)]
        records += [run_of(m, attack, s, 3) for m in ("retrain", "dimum", "salun") for s in (0, 1)]
        records.append(
            run_of("random_label", attack, lr_schedule="cosine", broke=attack == "dimra")
        )
    records += [run_of(m, "none", s) for m in ("munba", "original") for s in (0, 1)]
    records += [run_of(method, "few_shot") for method in ("dimum", "salun")]
    for record in records:
        if record["method"] == "row_swap":
            record["weights"] = {"norm_ratio": [0.9, 1.2], "class_rows_changed": True}
        if record["method"] == "rescaled":
            record["weights"] = {"norm_ratio": [1.0, record["config"]["method"]["factor"]]}
    return records


def _levels() -> list[dict]:
    records = [
        with_levels(run_of(method, "quantize", seed), "bits", {8: 0.3, 4: 0.1 + 0.2 * seed})
        for method in ("original", "dimum", "salun")
        for seed in (0, 1)
    ]
    for method in ("original", "dimum"):
        record = with_levels(run_of(method, "context_probe"), "of the noise", {0.5: 0.2, 1.0: 0.6})
        for row in record["rows"][2:]:
            beyond = {"value": 0.024, "low": -0.1, "high": 0.1, "n_starts": 20}
            value = row["metrics"]["forget_accuracy"]["1.0"]
            value |= {"other_starts": wilson(0.1), "starts": 10, "difference": beyond}
        records.append({**record, "attack_sees_forgotten": True})
    return records


def _other_tables() -> list[dict]:
    """Another protocol with more distances, records of an older kind, other versions."""
    records = []
    for method in ("retrain", "dimum", "salun"):
        for seed in (0, 1):
            features = "inception" if method == "retrain" else "oracle"
            record = with_new_measurements(run_of(method, seed=seed), features)
            records.append({**record, "protocol": "clean", "name": f"{record['name']}-clean"})
    for method in ("original", "dimum", "salun"):
        for attack in ("none", "dimra", "few_shot"):
            for seed in (0, 1):
                record = before_protocols(run_of(method, attack, seed))
                for key in ("attack_seed", "attack_unit", "attack_sees_forgotten"):
                    record.pop(key)
                records.append({**record, "dataset": "mnist", "name": f"{record['name']}-old"})
    for seed, versions in enumerate(({"evaluate": 3}, {"evaluate": 4}, {"evaluate": 4}, {})):
        record = run_of("dimum", seed=seed) | {"dataset": "fashion_mnist", "versions": versions}
        records.append({**record, "name": f"{record['name']}-fashion"})
    records[-2]["rows"][1]["metrics"].pop("forget_accuracy")
    other = deepcopy(records[-3]) | {"name": "other images", "method": "salun"}
    for row in other["rows"]:
        row["metrics"]["fd_oracle"] = {"1.0": {"value": 8.0, "n": 180}}
    return [*records, other]


def _unfinished() -> list[dict]:
    diverged = run_of("esd", seed=1)
    diverged["rows"][-1].update(status="diverged", metrics={}, samples=None)
    failed = run_of("siss", "few_shot") | {"status": "failed", "error": "out | of memory"}
    records = [
        without_rows(run_of("esd"), 2),
        diverged,
        run_of("esd", seed=2),
        without_rows(run_of("siss"), 1),
        {**failed, "rows": [], "recovery": None},
        without_rows(run_of("dimum", seed=5), 4),
    ]
    return [record | {"versions": {"unrelearn": "0.1.0", "evaluate": 4}} for record in records]
