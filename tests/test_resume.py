"""A run that was stopped in the middle and started again ends with the same bits as one that was
not.
"""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import tiny
import torch
from makers import OF_WORDS
from tiny import (
    TRAINED,
    classifier_training,
    denoising,
    from_yaml,
    new_task,
    options,
    pretraining,
    train,
)

from unrelearn.artifact import RESUME
from unrelearn.diffusion.denoising import Denoising
from unrelearn.fit import fit
from unrelearn.methods.dimum import DiMUM
from unrelearn.methods.salun import SalUn

KILLED = """
import os, signal, sys
from pathlib import Path
import torch
torch.set_num_threads(1)
import tiny

def log_row(step, row):
    if step == 10:
        os.kill(os.getpid(), signal.SIGKILL)

module = tiny.pretraining(dropout=0.2)
tiny.train(module, Path(sys.argv[1]), checkpoint_every_n_steps=3, log_row=log_row)
"""


class Stopped(Exception):
    pass


def train_in_two_parts(
    make: Callable, folder: Path, stop: int, *, second: dict | None = None, **changes
):
    """Fit until step `stop`, whose update is lost, then fit a new module in the same folder; that
    module.
    """

    def log_row(step: int, row: dict) -> None:
        if step == stop:
            raise Stopped

    with pytest.raises(Stopped):
        train(make(), folder, log_row=log_row, checkpoint_every_n_steps=3, **changes)
    steps = []
    module = train(
        make(),
        folder,
        log_row=lambda step, row: steps.append(step),
        checkpoint_every_n_steps=3,
        **changes | (second or {}),
    )
    assert steps[0] == (stop - 1) // 3 * 3 + 1  # it did go on from the checkpoint
    return module


def assert_same(a, b) -> None:
    assert a.rows == b.rows
    assert a.state_dict().keys() == b.state_dict().keys()
    for name, value in a.state_dict().items():
        assert torch.equal(value, b.state_dict()[name]), name
    assert (a.ema is None) == (b.ema is None)
    if a.ema is not None:
        assert a.ema.optimization_step == b.ema.optimization_step > 0
        for p, q in zip(a.ema.shadow_params, b.ema.shadow_params, strict=True):
            assert torch.equal(p, q)


@pytest.mark.parametrize(("group", "name"), TRAINED)
def test_a_stopped_method_or_attack_ends_with_the_same_bits(
    group: str, name: str, compose, tmp_path: Path
):
    make = from_yaml(compose, group, name, steps=9)
    whole = train(make(new_task()), tmp_path / "whole", checkpoint_every_n_steps=3)
    assert_same(whole, train_in_two_parts(lambda: make(new_task()), tmp_path / "parts", 8))


@pytest.mark.parametrize("name", OF_WORDS)
def test_what_reads_captions_ends_with_the_same_bits(name: str, tmp_path: Path):
    make = partial(OF_WORDS[name], max_steps=9)
    whole = train(make(), tmp_path / "whole", checkpoint_every_n_steps=3)
    assert_same(whole, train_in_two_parts(make, tmp_path / "parts", 8))


@pytest.mark.parametrize("stop", [1, 4, 12])
def test_stopped_pretraining_ends_with_the_same_weights_average_and_learning_rate(
    stop: int, tmp_path: Path
):
    whole = train(pretraining(dropout=0.2), tmp_path / "whole")
    parts = train_in_two_parts(lambda: pretraining(dropout=0.2), tmp_path / "parts", stop)
    assert_same(whole, parts)
    assert not torch.equal(whole.ema.shadow_params[0], next(whole.network.parameters()))


def test_pretraining_that_was_killed_ends_with_the_same_bits(tmp_path: Path):
    path = os.pathsep.join(filter(None, [str(Path(__file__).parent), os.environ.get("PYTHONPATH")]))
    (tmp_path / "parts").mkdir()
    killed = subprocess.run(
        [sys.executable, "-c", KILLED, tmp_path / "parts"],
        env=os.environ | {"PYTHONPATH": path},
        capture_output=True,
        text=True,
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    last = tmp_path / "parts" / RESUME / "last.ckpt"
    assert last.exists()
    last.with_suffix(".writing").write_bytes(
        last.read_bytes()[:1000]
    )  # as if killed in the middle of the next one
    steps = []
    parts = train(
        pretraining(dropout=0.2), tmp_path / "parts", log_row=lambda step, row: steps.append(step)
    )
    assert steps == [10, 11, 12]
    assert_same(train(pretraining(dropout=0.2), tmp_path / "whole"), parts)


def test_a_run_may_be_stopped_twice(tmp_path: Path):
    def first(step: int, row: dict) -> None:
        if step == 5:
            raise Stopped

    (tmp_path / "parts").mkdir()
    with pytest.raises(Stopped):
        fit(
            pretraining(),
            tmp_path / "parts",
            "test",
            options(log_row=first, checkpoint_every_n_steps=1),
        )
    parts = train_in_two_parts(pretraining, tmp_path / "parts", 8)
    assert_same(train(pretraining(), tmp_path / "whole"), parts)


def test_the_saliency_mask_of_a_resumed_run_is_that_of_the_original_weights(tmp_path: Path):
    def make() -> Denoising:
        return denoising(
            SalUn(
                max_steps=9,
                batch_size=8,
                learning_rate=1e-2,
                retain_weight=1.0,
                saliency_fraction=0.2,
                saliency_guidance_scale=3.0,
            ),
            new_task(),
        )

    whole = train(make(), tmp_path / "whole")
    parts = train_in_two_parts(make, tmp_path / "parts", 8)
    assert all(torch.equal(mask, parts.mask[name]) for name, mask in whole.mask.items())
    assert_same(whole, parts)


def test_generated_memory_of_a_resumed_run_is_drawn_by_the_original_weights(tmp_path: Path):
    def make() -> Denoising:
        return denoising(
            DiMUM(
                memory="generated",
                memory_size=4,
                max_steps=9,
                batch_size=8,
                learning_rate=1e-2,
            ),
            new_task(),
        )

    whole = train(make(), tmp_path / "whole")
    parts = train_in_two_parts(make, tmp_path / "parts", 8)
    assert torch.equal(whole.method.memory_data.images, parts.method.memory_data.images)
    assert_same(whole, parts)


@pytest.mark.parametrize("stop", [3, 5, 8])
def test_snapshots_before_and_after_the_stop_are_the_same_to_the_byte(
    stop: int, compose, tmp_path: Path
):
    make = from_yaml(compose, "attack", "few_shot", steps=9)

    def snapshots(folder: Path) -> dict:
        """Options of a run that keeps a snapshot after step 2, after the checkpointed step 6, and
        at the end.
        """

        def keep(step: int) -> None:
            modules[-1].save(folder / str(step))

        return {"snapshots": [2, 6, 9], "on_snapshot": keep}

    modules = []

    def new():
        modules.append(make(new_task()))
        return modules[-1]

    train(new(), tmp_path / "whole", **snapshots(tmp_path / "whole"))
    train_in_two_parts(new, tmp_path / "parts", stop, **snapshots(tmp_path / "parts"))
    for step in (2, 6, 9):
        file = f"{step}/raw/diffusion_pytorch_model.safetensors"
        assert (tmp_path / "whole" / file).read_bytes() == (tmp_path / "parts" / file).read_bytes()


@pytest.mark.parametrize("stop", [2, 8])
def test_a_stopped_classifier_ends_with_the_same_bits(stop: int, tmp_path: Path):
    whole = train(classifier_training(), tmp_path / "whole")
    assert_same(whole, train_in_two_parts(classifier_training, tmp_path / "parts", stop))


def test_the_recorded_losses_are_means_over_the_steps_between_also_after_a_stop(tmp_path: Path):
    every = [row["denoising"] for row in train(pretraining(max_steps=10), tmp_path / "every").rows]
    for name, module in (
        ("whole", train(pretraining(max_steps=10), tmp_path / "whole", log_every_n_steps=4)),
        (
            "other",
            train_in_two_parts(
                lambda: pretraining(max_steps=10),
                tmp_path / "other",
                6,
                second={"log_every_n_steps": 4},
            ),
        ),
    ):
        for row, before in zip(
            module.rows[::-1], [r["step"] for r in module.rows[-2::-1]] + [0], strict=True
        ):
            steps = every[before : row["step"]]
            assert row["denoising"] == pytest.approx(sum(steps) / len(steps), rel=1e-5), name
        assert [row["step"] for row in module.rows][-2:] == [8, 10]


def test_a_run_that_stopped_at_its_plateau_stays_there(tmp_path: Path):
    def make() -> Denoising:
        return denoising(
            DiMUM(
                memory="another_class",
                plateau_tolerance=1.0,
                plateau_steps=3,
                max_steps=12,
                batch_size=8,
                learning_rate=1e-3,
            ),
            new_task(),
        )

    whole = train(make(), tmp_path / "whole", checkpoint_every_n_steps=3)
    again = train(
        make(), tmp_path / "whole", checkpoint_every_n_steps=3
    )  # killed before its artefact was finished
    assert whole.rows[-1]["step"] == 6
    assert_same(whole, again)
    assert_same(whole, train_in_two_parts(make, tmp_path / "parts", 5))


@pytest.mark.parametrize("layouts", [(True, False), (False, True)])
def test_a_run_may_go_on_with_another_memory_layout(layouts: tuple[bool, bool], tmp_path: Path):
    whole = train(pretraining(), tmp_path / "whole")
    parts = train_in_two_parts(
        pretraining,
        tmp_path / "parts",
        8,
        channels_last=layouts[0],
        second={"channels_last": layouts[1]},
    )
    for name, value in whole.state_dict().items():
        torch.testing.assert_close(value, parts.state_dict()[name], rtol=1e-3, atol=1e-4)


def test_the_average_is_lent_to_the_network_only_for_the_time_of_saving(tmp_path: Path):
    module = train(pretraining(), tmp_path)
    before = tiny.weights(module)
    assert module.save(tmp_path) == "ema"
    assert not tiny.moved(before, tiny.weights(module))
    loaded = [tiny.denoiser.load(tmp_path / label).state_dict() for label in ("raw", "ema")]
    assert not tiny.moved(before, loaded[0])
    average = dict(
        zip(dict(module.network.named_parameters()), module.ema.shadow_params, strict=True)
    )
    assert not tiny.moved(average, loaded[1]) and tiny.moved(before, average)


def test_the_average_follows_its_formula(tmp_path: Path):
    module, seen = pretraining(max_steps=6, ema_decay=0.3), []

    def parameters() -> list[torch.Tensor]:
        return [p.detach().clone() for p in module.network.parameters()]

    average = parameters()
    train(module, tmp_path, log_row=lambda step, row: seen.append(parameters()))
    for n, after in enumerate(seen):
        decay = 0.0 if n == 0 else min(0.3, (1 + n) / (10 + n))
        average = [decay * a + (1 - decay) * p for a, p in zip(average, after, strict=True)]
    for a, shadow in zip(average, module.ema.shadow_params, strict=True):
        torch.testing.assert_close(a, shadow, rtol=1e-5, atol=1e-6)
