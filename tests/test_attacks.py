"""Every attack: what data it holds, what it may move, when it is measured, and one step of its loss."""

import math
from pathlib import Path

import pytest
import torch
from tiny import ATTACKS, NO_TRAINING, from_yaml, moved, new_task, train, weights
from torch import Tensor

from unrelearn import denoiser
from unrelearn.attacks.dimra import DiMRA
from unrelearn.attacks.few_shot import FewShot
from unrelearn.data import ImageSet
from unrelearn.denoiser import CLASS_EMBEDDING
from unrelearn.diffusion import alphas_cumprod
from unrelearn.pipeline import Pipeline

TRAINED = [name for name in ATTACKS if name not in NO_TRAINING]
SMALL = dict(budgets=[0, 3], batch_size=8, learning_rate=1e-3)


def images(data: ImageSet) -> set[bytes]:
    return set(map(bytes, data.images.numpy()))


def mean_squared_error(module, batch) -> Tensor:
    a = alphas_cumprod()[batch.t].view(-1, 1, 1, 1)
    x_t = a.sqrt() * batch.x_0 + (1 - a).sqrt() * batch.noise
    return (module.denoiser(x_t, batch.t, class_labels=batch.labels).sample - batch.noise).square().mean()


@pytest.mark.parametrize("name", TRAINED)
@pytest.mark.parametrize("table", ["true", "false"])
def test_three_steps_move_what_they_may_and_nothing_else(name: str, table: str, compose, tmp_path: Path):
    make = from_yaml(compose, "attack", name, f"attack.train_class_embedding={table}")
    module = make(new_task())
    before, everything = weights(module), {n for n, _ in module.denoiser.named_parameters()}
    train(module, tmp_path)
    assert [row["step"] for row in module.rows] == [1, 2, 3] and module.diverged_at is None
    assert all(math.isfinite(value) for row in module.rows for value in row.values())
    assert moved(before, weights(module)) == everything - ({CLASS_EMBEDDING} if table == "false" else set())


def test_every_attack_has_a_file_of_its_name(compose):
    for name in ATTACKS:
        assert compose(f"attack={name}")["attack"]["_target_"].startswith(f"unrelearn.attacks.{name}.")


def test_by_default_dimra_may_not_move_the_class_table_and_few_shot_may(compose):
    assert compose("attack=dimra")["attack"]["train_class_embedding"] is False
    assert compose("attack=few_shot")["attack"]["train_class_embedding"] is True


def test_dimra_never_moves_the_row_of_a_forgotten_class(compose, tmp_path: Path):
    make = from_yaml(compose, "attack", "dimra", "train_class_embedding=true", batch_size=64)
    module = make(new_task((3, 7)))
    before = weights(module)[CLASS_EMBEDDING]
    train(module, tmp_path)
    after = module.denoiser.class_embedding.weight
    assert [c for c in range(11) if torch.equal(before[c], after[c])] == [3, 7]


def test_few_shot_moves_the_row_of_every_forgotten_class(compose, tmp_path: Path):
    module = from_yaml(compose, "attack", "few_shot")(new_task((3, 7)))
    before = weights(module)[CLASS_EMBEDDING]
    train(module, tmp_path)
    after = module.denoiser.class_embedding.weight
    assert not any(torch.equal(before[c], after[c]) for c in (3, 7))


@pytest.mark.parametrize(("fraction", "count"), [(1.0, 108), (0.5, 54), (0.1, 11), (1e-9, 1)])
def test_dimra_holds_the_asked_share_of_the_retain_set_and_nothing_of_the_class(fraction: float, count: int):
    module, again = (DiMRA(new_task(), retain_fraction=fraction, **SMALL) for _ in range(2))
    assert len(module.auxiliary) == count == len(images(module.auxiliary)) and 7 not in module.auxiliary.labels
    assert torch.equal(module.auxiliary.images, again.auxiliary.images)
    assert images(module.auxiliary) <= images(module.task.retain)
    assert not images(module.auxiliary) & images(module.task.forget)
    retain = module.task.retain
    label_of = {bytes(i): c for i, c in zip(retain.images.numpy(), retain.labels.tolist(), strict=True)}
    assert [label_of[bytes(i)] for i in module.auxiliary.images.numpy()] == module.auxiliary.labels.tolist()


def test_a_smaller_share_of_dimra_is_part_of_a_larger_one_and_depends_on_the_seed():
    held = [images(DiMRA(new_task(), retain_fraction=f, **SMALL).auxiliary) for f in (0.1, 0.3, 0.6)]
    assert held[0] < held[1] < held[2]
    assert images(DiMRA(new_task(seed=1), retain_fraction=0.1, **SMALL).auxiliary) != held[0]


def test_dimra_trains_on_the_images_it_holds_and_on_no_others(tmp_path: Path):
    module = DiMRA(new_task(), retain_fraction=0.05, **SMALL | {"batch_size": 64})
    module.denoising_losses = lambda **batches: seen.append(batches) or {name: torch.zeros(()) for name in batches}
    seen = []
    module.losses()
    x_0 = ((seen[0]["auxiliary"].x_0 + 1) * 127.5).round().to(torch.uint8)
    assert set(map(bytes, x_0.numpy())) == images(module.auxiliary) and len(module.auxiliary) == 5


@pytest.mark.parametrize(("forget", "num_images"), [((7,), 1), ((7,), 5), ((3, 7), 4), ((3, 7), 50)])
def test_few_shot_holds_so_many_images_of_each_forgotten_class_with_their_label(forget, num_images):
    module, again = (FewShot(new_task(forget), num_images=num_images, **SMALL) for _ in range(2))
    each = min(num_images, 12)
    assert module.shots.labels.tolist() == [c for c in forget for _ in range(each)]
    assert torch.equal(module.shots.images, again.shots.images)
    for c in forget:
        assert images(module.shots.of_classes([c])) <= images(module.task.forget.of_classes([c]))
        assert len(images(module.shots.of_classes([c]))) == each


def test_the_loss_of_dimra_is_the_denoising_loss_of_its_data():
    module = DiMRA(new_task(), label_dropout=0.4, **SMALL)
    losses, batch = module.losses(), module.draw("auxiliary", module.auxiliary)
    assert 10 in batch.labels and losses.keys() == {"auxiliary"}
    assert losses["auxiliary"].item() == pytest.approx(mean_squared_error(module, batch).item(), rel=1e-5)


def test_the_loss_of_few_shot_is_the_sum_of_both_denoising_losses():
    module = FewShot(new_task(), num_images=3, **SMALL)
    losses = module.losses()
    for term, data in (("shots", module.shots), ("retain", module.task.retain)):
        expected = mean_squared_error(module, module.draw(term, data))
        assert losses[term].item() == pytest.approx(expected.item(), rel=1e-5)
    assert losses.keys() == {"shots", "retain"}


def test_an_attack_draws_other_noise_than_the_method_before_it(compose):
    modules = from_yaml(compose, "method", "finetune")(new_task()), from_yaml(compose, "attack", "dimra")(new_task())
    assert not torch.equal(*(module.draw("retain", module.task.retain).noise for module in modules))


def test_snapshots_are_the_weights_at_their_steps(tmp_path: Path):
    module = DiMRA(new_task(), **SMALL | {"budgets": [0, 2, 5]})
    assert module.max_steps == 5
    train(module, tmp_path, snapshots=[2, 5], on_snapshot=lambda step: module.save(tmp_path / f"at_{step}"))
    for step in (2, 5):
        shorter = train(DiMRA(new_task(), **SMALL | {"budgets": [step]}), tmp_path / f"only_{step}")
        assert not moved(weights(shorter), denoiser.load(tmp_path / f"at_{step}" / "raw").state_dict())


def test_an_attack_stands_in_the_graph_once_for_each_budget_above_zero(compose):
    attacked = Pipeline(compose("attack.budgets=[0,2,5]"), "").attacked
    assert [model.step for model in attacked] == [2, 5] and attacked[0].spec == attacked[1].spec
    assert Pipeline(compose("attack=none"), "").attacked == []
