"""Measurements: one file here and one yaml of the same name in `conf/eval/`.

Each file has `run(evidence, **arguments) -> dict`, where the arguments are the yaml's keys and the
result is plain JSON; the yaml's `_target_` names the function. `evals/evidence.py` holds what they
all read.
"""
