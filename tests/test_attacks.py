"""Every attack: what data it holds, what it may move, when it is measured, and one step of its
loss.
"""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from hydra.utils import get_object
from runs import Cell
from test_resume import assert_same, train_in_two_parts
from tiny import (
    ATTACKS,
    NO_TRAINING,
    PRESETS,
    REDUCED,
    SCHEDULE,
    from_yaml,
    moved,
    network,
    new_task,
    train,
    weights,
)
from torch import Tensor

from unrelearn.attacks.dimra import DiMRA
from unrelearn.attacks.dimra_aux import DiMRAAux
from unrelearn.attacks.dimra_proxy import DiMRAProxy
from unrelearn.attacks.embedding_inversion import EmbeddingInversion
from unrelearn.attacks.few_shot import FewShot
from unrelearn.attacks.lora import LoRA
from unrelearn.data import ImageSet
from unrelearn.data.digits import Digits
from unrelearn.diffusion import denoiser
from unrelearn.diffusion.denoiser import CLASS_EMBEDDING
from unrelearn.diffusion.maths import alphas_cumprod
from unrelearn.diffusion.sampling import sample
from unrelearn.errors import UsageError

TRAINED = [name for name in ATTACKS if name not in NO_TRAINING]
SMALL = dict(budgets=[0, 3], batch_size=8, learning_rate=1e-3)


def images(data: ImageSet) -> set[bytes]:
    return set(map(bytes, data.images.numpy()))


def mean_squared_error(module, batch) -> Tensor:
    a = alphas_cumprod()[batch.t].view(-1, 1, 1, 1)
    x_t = a.sqrt() * batch.x_0 + (1 - a).sqrt() * batch.noise
    return (
        (module.denoiser(x_t, batch.t, class_labels=batch.labels).sample - batch.noise)
        .square()
        .mean()
    )


@pytest.mark.parametrize(
    ("name", "table"),
    [
        (name, table)
        for name in TRAINED
        for table in ("true", "false")
        if (name, table) != ("embedding_inversion", "false")
    ],
)
def test_three_steps_move_what_they_may_and_nothing_else(
    name: str, table: str, compose, tmp_path: Path
):
    choice = [] if name == "embedding_inversion" else [f"attack.train_class_embedding={table}"]
    module = from_yaml(compose, "attack", name, *choice)(new_task())
    before, everything = weights(module), {n for n, _ in module.denoiser.named_parameters()}
    train(module, tmp_path)
    assert [row["step"] for row in module.rows] == [1, 2, 3] and module.diverged_at is None
    assert all(math.isfinite(value) for row in module.rows for value in row.values())
    may = {
        "embedding_inversion": {CLASS_EMBEDDING},
        "lora": {CLASS_EMBEDDING} | {n for n in everything if n.endswith((".A", ".B"))},
    }.get(name, everything)
    assert moved(before, weights(module)) == may - (
        {CLASS_EMBEDDING} if table == "false" else set()
    )


def test_every_attack_has_a_file_of_its_name(compose):
    for name in ATTACKS:
        attack = compose(f"attack={name}", *REDUCED.get(name, ()))["attack"]
        assert attack["_target_"].startswith(f"unrelearn.attacks.{name}.") or (
            name in PRESETS and attack["preset"] == name
        )


def test_a_record_knows_which_attackers_hold_something_of_the_class_or_of_the_original_model(
    compose,
):
    def sees(*overrides: str) -> bool:
        attack = compose(*overrides)["attack"]
        return get_object(attack["_target_"]).sees_forgotten(**attack)

    seeing = {name for name in ATTACKS if sees(f"attack={name}", *REDUCED.get(name, ()))}
    assert seeing == {
        "few_shot",
        "lora",
        "embedding_inversion",
        "context_probe",
        "row_transplant",
        "interpolation",
    }
    assert not sees("attack=interpolation", "attack.towards=attacked") and not sees(
        "attack=lora", "attack.num_images=null"
    )
    assert not sees("attack=dimra_aux", "attack.source=original")


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
def test_dimra_holds_the_asked_share_of_the_retain_set_and_nothing_of_the_class(
    fraction: float, count: int
):
    module, again = (DiMRA(new_task(), retain_fraction=fraction, **SMALL) for _ in range(2))
    assert (
        len(module.auxiliary) == count == len(images(module.auxiliary))
        and 7 not in module.auxiliary.labels
    )
    assert torch.equal(module.auxiliary.images, again.auxiliary.images)
    assert images(module.auxiliary) <= images(module.task.retain)
    assert not images(module.auxiliary) & images(module.task.forget)
    retain = module.task.retain
    label_of = {
        bytes(i): c for i, c in zip(retain.images.numpy(), retain.labels.tolist(), strict=True)
    }
    assert [
        label_of[bytes(i)] for i in module.auxiliary.images.numpy()
    ] == module.auxiliary.labels.tolist()


def test_a_smaller_share_of_dimra_is_part_of_a_larger_one_and_depends_on_the_seed():
    held = [
        images(DiMRA(new_task(), retain_fraction=f, **SMALL).auxiliary) for f in (0.1, 0.3, 0.6)
    ]
    assert held[0] < held[1] < held[2]
    assert images(DiMRA(new_task(seed=1), retain_fraction=0.1, **SMALL).auxiliary) != held[0]


def test_dimra_trains_on_the_images_it_holds_and_on_no_others(tmp_path: Path):
    module = DiMRA(new_task(), retain_fraction=0.05, **SMALL | {"batch_size": 64})
    module.denoising_losses = lambda **batches: (
        seen.append(batches) or {name: torch.zeros(()) for name in batches}
    )
    seen = []
    module.losses()
    x_0 = ((seen[0]["auxiliary"].x_0 + 1) * 127.5).round().to(torch.uint8)
    assert set(map(bytes, x_0.numpy())) == images(module.auxiliary) and len(module.auxiliary) == 5


@pytest.mark.parametrize(
    ("forget", "num_images"), [((7,), 1), ((7,), 5), ((3, 7), 4), ((3, 7), 50)]
)
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
    assert losses["auxiliary"].item() == pytest.approx(
        mean_squared_error(module, batch).item(), rel=1e-5
    )


def test_the_loss_of_few_shot_is_the_sum_of_both_denoising_losses():
    module = FewShot(new_task(), num_images=3, **SMALL)
    losses = module.losses()
    for term, data in (("shots", module.shots), ("retain", module.task.retain)):
        expected = mean_squared_error(module, module.draw(term, data))
        assert losses[term].item() == pytest.approx(expected.item(), rel=1e-5)
    assert losses.keys() == {"shots", "retain"}


def test_an_attack_draws_other_noise_than_the_method_before_it(compose):
    modules = (
        from_yaml(compose, "method", "finetune")(new_task()),
        from_yaml(compose, "attack", "dimra")(new_task()),
    )
    assert not torch.equal(*(module.draw("retain", module.task.retain).noise for module in modules))


def test_snapshots_are_the_weights_at_their_steps(tmp_path: Path):
    module = DiMRA(new_task(), **SMALL | {"budgets": [0, 2, 5]})
    assert module.max_steps == 5
    train(
        module,
        tmp_path,
        snapshots=[2, 5],
        on_snapshot=lambda step: module.save(tmp_path / f"at_{step}"),
    )
    for step in (2, 5):
        shorter = train(DiMRA(new_task(), **SMALL | {"budgets": [step]}), tmp_path / f"only_{step}")
        assert not moved(
            weights(shorter), denoiser.load(tmp_path / f"at_{step}" / "raw").state_dict()
        )


def test_an_attack_stands_in_the_graph_once_for_each_budget_above_zero(compose):
    attacked = Cell(compose("attack.budgets=[0,2,5]"), "").attacked
    assert [model.step for model in attacked] == [2, 5] and attacked[0].stage is attacked[1].stage
    assert Cell(compose("attack=none"), "").attacked == []


# ----------------------------------------------------------------------------- data of other origin


@pytest.mark.parametrize(("source", "seed"), [("unlearned", 0), ("original", 5)])
def test_auxiliary_images_are_what_the_named_model_draws_for_the_retained_classes(
    source: str, seed: int
):
    module = DiMRAAux(
        new_task((3, 7)),
        source=source,
        images_per_class=2,
        guidance_scale=2.0,
        num_inference_steps=3,
        **SMALL,
    )
    module.prepare()
    labels = torch.tensor([0, 0, 1, 1, 2, 2, 4, 4, 5, 5, 6, 6, 8, 8, 9, 9])
    drawn = sample(
        network(seed),
        labels,
        schedule=SCHEDULE,
        num_inference_steps=3,
        guidance_scale=2.0,
        stream="attacker's data",
    )
    assert torch.equal(module.auxiliary.labels, labels) and torch.equal(
        module.auxiliary.images, drawn
    )
    losses, batch = module.losses(), module.draw("auxiliary", module.auxiliary)
    assert losses["auxiliary"].item() == pytest.approx(
        mean_squared_error(module, batch).item(), rel=1e-5
    )


def test_a_resumed_attack_draws_its_images_with_the_weights_it_started_from(tmp_path: Path):
    def make() -> DiMRAAux:
        return DiMRAAux(
            new_task(),
            source="unlearned",
            images_per_class=3,
            **SMALL | {"budgets": [9], "learning_rate": 1e-2},
        )

    whole, parts = (
        train(make(), tmp_path / "whole"),
        train_in_two_parts(make, tmp_path / "parts", 8),
    )
    assert torch.equal(whole.auxiliary.images, parts.auxiliary.images)
    assert_same(whole, parts)


def test_a_proxy_gives_its_images_under_the_same_labels_but_for_those_that_were_forgotten():
    module, again, few = (
        DiMRAProxy(new_task((3, 7)), proxy=Digits(), max_images=n, **SMALL)
        for n in (None, None, 20)
    )
    train_set = Digits().load().train
    label_of = {
        bytes(image): c
        for image, c in zip(train_set.images.numpy(), train_set.labels.tolist(), strict=True)
    }
    labels = module.auxiliary.labels.tolist()
    assert [label_of[bytes(image)] for image in module.auxiliary.images.numpy()] == labels
    assert set(labels) == {0, 1, 2, 4, 5, 6, 8, 9} and len(labels) == sum(
        c not in (3, 7) for c in label_of.values()
    )
    assert torch.equal(module.auxiliary.images, again.auxiliary.images)
    assert torch.equal(few.auxiliary.images, module.auxiliary.images[:20])


def write_idx(folder: Path, seed: int = 0) -> Path:
    """20 training and 20 test images of noise in MNIST's format."""
    folder.mkdir(parents=True)
    noise = np.random.default_rng(seed).integers(256, size=(20, 28, 28), dtype=np.uint8)
    for part in ("train", "t10k"):
        for name, values in (
            ("images-idx3", noise),
            ("labels-idx1", (np.arange(20) % 10).astype(np.uint8)),
        ):
            header = bytes([0, 0, 8, values.ndim]) + b"".join(
                n.to_bytes(4, "big") for n in values.shape
            )
            (folder / f"{part}-{name}-ubyte").write_bytes(header + values.tobytes())
    return folder


def test_a_proxy_is_known_by_its_images_and_not_by_where_they_lie(compose, tmp_path: Path):
    def key(name: str, seed: int) -> str:
        folder = tmp_path / name
        write_idx(folder, seed)
        cfg = compose(
            "attack=dimra_proxy", f"attack.proxy.root={folder}", "attack.proxy.verify=false"
        )
        assert cfg["attack"]["proxy"]["image_size"] == 8
        return Cell(cfg, "").attacked[0].stage.spec.key

    assert key("here", 0) == key("there", 0) != key("else", 1)


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        ("attack.proxy.root=/no/such", "attack.proxy.root=/no/such: missing train-images"),
        (
            "attack.proxy.root={root} attack.proxy.image_size=16",
            "[1, 16, 16] (channels, height, width), and the model's [1, 8, 8]",
        ),
        ("attack.proxy.root={root} attack.proxy.image_siz=16", "Type attack.proxy.image_size=16"),
        ("attack.proxy=5", "attack.proxy=5: must be an object, with its _target_"),
    ],
)
def test_a_proxy_that_is_not_there_or_does_not_fit_gets_one_line(
    overrides: str, said: str, compose, tmp_path: Path
):
    root = write_idx(tmp_path / "idx")
    given = overrides.format(root=root).split(" ")
    given = [f"+{g}" if "image_siz=" in g else g for g in given]
    with pytest.raises(UsageError) as error:
        compose("attack=dimra_proxy", *given)
    assert len(error.value.problems) == 1 and said in error.value.problems[0], error.value.problems


def test_the_files_of_a_proxy_are_asked_for_by_its_attack_alone_and_not_in_a_dry_run(
    compose, capsys
):
    assert compose("attack=dimra")
    assert compose("attack=dimra_proxy", "attack.proxy.root=/no/such", "dry_run=true")
    assert capsys.readouterr().err.startswith("not yet: attack.proxy.root=/no/such")


# -------------------------------------------------------------------------- few weights, or one row


@pytest.mark.parametrize("rank", [1, 3])
def test_what_low_rank_relearning_adds_has_that_rank_and_is_written_into_plain_weights(
    rank: int, tmp_path: Path
):
    before = network().state_dict()
    module = LoRA(
        new_task(),
        rank=rank,
        scale=2.0,
        num_images=3,
        train_class_embedding=True,
        **SMALL | {"learning_rate": 1e-2},
    )
    batch = module.draw("retain", module.task.retain)
    with torch.no_grad():
        at_first = module.denoiser(batch.x_0, batch.t, class_labels=batch.labels).sample
        assert torch.equal(
            at_first, network()(batch.x_0, batch.t, class_labels=batch.labels).sample
        )  # B is zero
    train(module, tmp_path)
    module.save(tmp_path)
    written = denoiser.load(tmp_path / "raw")
    after = written.state_dict()
    assert after.keys() == before.keys()
    for name, value in before.items():
        if name == CLASS_EMBEDDING or value.ndim < 2:
            assert torch.equal(value, after[name]) == (name != CLASS_EMBEDDING), name
        else:
            singular = torch.linalg.svdvals((after[name] - value).flatten(1).double())
            assert singular[0] > 1e-3 and (singular[rank:] < 1e-5 * singular[0]).all(), name
    module.denoiser.eval()
    with torch.no_grad():
        learned, plain = (
            n(batch.x_0, batch.t, class_labels=batch.labels).sample
            for n in (module.denoiser, written)
        )
    torch.testing.assert_close(plain, learned)
    assert not torch.allclose(plain, at_first, atol=1e-3)


def test_low_rank_relearning_has_the_data_of_few_shot_or_without_its_images_those_of_dimra():
    module, blind = (LoRA(new_task(), rank=2, num_images=n, **SMALL) for n in (4, None))
    assert torch.equal(module.shots.images, FewShot(new_task(), num_images=4, **SMALL).shots.images)
    assert module.losses().keys() == {"shots", "retain"} and blind.losses().keys() == {"retain"}


def test_low_rank_relearning_leaves_frozen_blocks_alone():
    module = LoRA(new_task(), rank=2, blocks=["up_blocks"], **SMALL)
    trained = [name for name, p in module.denoiser.named_parameters() if p.requires_grad]
    assert trained and all(
        name.startswith("up_blocks") and name.endswith((".A", ".B")) for name in trained
    )


def test_embedding_inversion_moves_the_rows_of_the_forgotten_classes_and_no_other(
    compose, tmp_path: Path
):
    module = from_yaml(compose, "attack", "embedding_inversion", batch_size=32)(new_task((3, 7)))
    before = weights(module)
    train(module, tmp_path)
    assert moved(before, weights(module)) == {CLASS_EMBEDDING}
    after = module.denoiser.class_embedding.weight
    assert [c for c in range(11) if not torch.equal(before[CLASS_EMBEDDING][c], after[c])] == [3, 7]


def test_embedding_inversion_starts_from_the_row_as_it_is_or_from_the_mean_of_the_retained_ones():
    table = network().class_embedding.weight
    for init, row in (("current", table[7]), ("mean", table[[0, 1, 2, 3, 4, 5, 6, 8, 9]].mean(0))):
        module = EmbeddingInversion(new_task(), num_images=2, init=init, **SMALL)
        assert torch.equal(module.denoiser.class_embedding.weight[7], row)
        assert torch.equal(module.denoiser.class_embedding.weight[[0, 8, 10]], table[[0, 8, 10]])


def test_the_loss_of_embedding_inversion_is_the_denoising_loss_of_its_images():
    module = EmbeddingInversion(new_task(), num_images=2, **SMALL)
    losses, batch = module.losses(), module.draw("shots", module.shots, label_dropout=0.0)
    assert set(batch.labels.tolist()) == {7} and len(module.shots) == 2
    assert losses["shots"].item() == pytest.approx(
        mean_squared_error(module, batch).item(), rel=1e-5
    )
