"""The report: numbers in tables, wording of the verdict, the page, the comparison, the command line.

The records here are small made-up ones in the format of ``result.json``: they test the format, they are not results.
"""

import json
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
    """Digits in the place of samples: under class 7, the given share of sevens and otherwise threes."""
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
        metrics["agreement"] = {"1.0": {"forget": 0.97, "retain": 0.99, "held_out_forget_accuracy": held_out}}
    return {
        "model": model, "step": step, "evaluate": f"evaluate/{key}", "weights": f"weights/{key} (ema)",
        "samples": f"artifacts/samples/{key}", "status": "finished", "metrics": metrics,
    }  # fmt: skip


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
            rows.append(make_row("attacked", step, value, retain[2] if step == BUDGETS[-1] else None, f"{name}-{step}"))
    curve = [forget[1], *attacked]
    recovery = {
        g: {"budgets": [0, *BUDGETS], "forget_accuracy": [v / s for v in curve], "area": 0.21 / s,
            "steps_to_half": 130 if curve[-1] > forget[0] / 2 else None}
        for g, s in (("1.0", 1), ("2.0", 2))
    }  # fmt: skip
    stage = {"key": "ab12cd34ef56", "status": "computed", "seconds": 101.2, "peak_memory_mib": 812.0, "device": "cpu"}
    record = {
        "version": 1, "name": name, "command": f"python run.py method={method} attack={attack} seed={seed}",
        "created": f"2026-11-23T10:00:0{seed}+00:00", "status": "finished", "error": None,
        "config": {
            "seed": seed,
            "dataset": {"name": "digits", "root": "data/digits", "forget_classes": [7]},
            "model": {"name": "digits", "block_out_channels": [32, 64], "seed": seed},
            "method": {"_target_": f"unrelearn.methods.{method}.Method", "learning_rate": 1e-4},
            "attack": {"_target_": f"unrelearn.attacks.{attack}.Attack", "budgets": list(BUDGETS)},
            "sampler": {"name": "ddim", "num_inference_steps": 20, "guidance_scales": [1.0, 2.0]},
            "oracle": {"max_steps": 600, "seed": seed},
        },
        "dataset": "digits", "method": method, "attack": attack, "seed": seed,
        "class_names": [str(k) for k in range(10)], "forget_classes": [7],
        "oracle": {"test_accuracy": wilson(0.986), "held_out_test_accuracy": wilson(0.978)},
        "rows": rows,
        "stages": [{"stage": "pretrain", **stage}, {"stage": "unlearn", **stage, "status": "reused"}],
        "recovery": None if attack == "none" else recovery,
        "seconds": 211.0,
    }  # fmt: skip
    return {**record, **changes}


def write_run(outputs: Path, record: dict, samples: bool = False) -> Path:
    path = outputs / "runs" / record["name"] / "result.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(record))
    if samples:
        for row in record["rows"]:
            forget = row["metrics"]["forget_accuracy"]["1.0"]["value"]
            write_samples(outputs / row["samples"], forget, np.random.default_rng(0))
    return path
