"""Every unlearning method: what it may move, and one step of its loss against the formula written
out again here.
"""

import math
from pathlib import Path

import pytest
import torch
from runs import Cell
from tiny import METHODS, NO_TRAINING, from_yaml, moved, network, new_task, train, weights
from torch import Tensor, nn

from unrelearn.data import ImageSet
from unrelearn.diffusion import objectives
from unrelearn.diffusion.denoiser import CLASS_EMBEDDING
from unrelearn.diffusion.objectives import memory_set, nearest_class
from unrelearn.diffusion.sampling import sample
from unrelearn.methods.dimum import DiMUM
from unrelearn.methods.finetune import Finetune
from unrelearn.methods.gradient_ascent import GradientAscent
from unrelearn.methods.random_label import RandomLabel
from unrelearn.methods.row_swap import RowSwap
from unrelearn.methods.salun import SalUn
from unrelearn.module import DiffusionModule
from unrelearn.randomness import generator_for

TRAINED = [name for name in METHODS if name not in NO_TRAINING]
ALL = torch.tensor(True)
SMALL = dict(max_steps=3, batch_size=8, learning_rate=1e-3)


def abar(t: Tensor) -> Tensor:
    """prod (1 - beta), one factor after the other."""
    products, product = [], 1.0
    for k in range(1000):
        product *= 1.0 - (1e-4 + (0.02 - 1e-4) * k / 999)
        products.append(product)
    return torch.tensor(products, dtype=torch.float64)[t].view(-1, 1, 1, 1)


def x_t(batch) -> Tensor:
    return (
        abar(batch.t).sqrt() * batch.x_0.double()
        + (1 - abar(batch.t)).sqrt() * batch.noise.double()
    ).float()


def wanted(batch, kind: str) -> Tensor:
    v = (
        abar(batch.t).sqrt() * batch.noise.double()
        - (1 - abar(batch.t)).sqrt() * batch.x_0.double()
    )
    return {"epsilon": batch.noise, "sample": batch.x_0, "v_prediction": v.float()}[kind]


def mean_squared_error(module: DiffusionModule, batch, kind: str = "epsilon") -> Tensor:
    output = module.denoiser(x_t(batch), batch.t, class_labels=batch.labels).sample
    return ((output - wanted(batch, kind)) ** 2).sum() / batch.x_0.numel()


def gradients(module: DiffusionModule, loss: Tensor) -> Tensor:
    found = torch.autograd.grad(loss, [p for p in module.denoiser.parameters() if p.requires_grad])
    return torch.cat([g.flatten() for g in found])


def same_set(a: ImageSet, b: ImageSet) -> bool:
    """The same images, in any order."""
    return sorted(map(bytes, a.images.numpy())) == sorted(map(bytes, b.images.numpy()))


# --------------------------------------------------------------------- what moves and what does not


@pytest.mark.parametrize("name", TRAINED)
def test_three_steps_move_what_they_may_and_nothing_else(name: str, compose, tmp_path: Path):
    make = from_yaml(compose, "method", name)
    module = make(new_task())
    before, trainable = (
        weights(module),
        {n for n, p in module.denoiser.named_parameters() if p.requires_grad},
    )
    train(module, tmp_path)
    assert [row["step"] for row in module.rows] == [1, 2, 3] and module.diverged_at is None
    assert all(math.isfinite(value) for row in module.rows for value in row.values())
    assert moved(before, weights(module)) == {
        n for n in trainable if bool(module.gradient_mask.get(n, ALL).any())
    }
    assert trainable == before.keys() - ({CLASS_EMBEDDING} if name != "retrain" else set())


def test_every_method_has_a_file_of_its_name(compose):
    for name in METHODS:
        assert compose(f"method={name}")["method"]["_target_"].startswith(
            f"unrelearn.methods.{name}."
        )


def test_original_and_no_attack_pass_the_model_through(compose):
    pipeline = Cell(compose("method=original", "attack=none"), "")
    assert pipeline.unlearned == pipeline.original and pipeline.attacked == []
    assert Cell(compose(), "").unlearned != pipeline.original


@pytest.mark.parametrize(
    ("forget", "other"),
    [((7,), {7: 8}), ((9,), {9: 0}), ((3, 4), {3: 5, 4: 5}), ((0, 9), {0: 1, 9: 1})],
)
def test_row_swap_copies_the_next_retained_row_and_touches_nothing_else(
    forget, other, compose, tmp_path: Path
):
    module = from_yaml(compose, "method", "row_swap")(new_task(forget))
    assert isinstance(module, RowSwap)
    before = weights(module)
    train(module, tmp_path)
    after = weights(module)
    assert moved(before, after) == {CLASS_EMBEDDING}
    for c in range(11):
        assert torch.equal(after[CLASS_EMBEDDING][c], before[CLASS_EMBEDDING][other.get(c, c)])


@pytest.mark.parametrize("name", ["finetune", "retrain"])
def test_training_on_retain_data_never_moves_the_row_of_a_forgotten_class(
    name: str, compose, tmp_path: Path
):
    make = from_yaml(compose, "method", name, "train_class_embedding=true", batch_size=64)
    module = make(new_task((3, 7)))
    before = weights(module)[CLASS_EMBEDDING]
    train(module, tmp_path)
    after = module.denoiser.class_embedding.weight
    assert [c for c in range(11) if torch.equal(before[c], after[c])] == [3, 7]


def test_a_method_may_train_the_row_when_asked_to(compose, tmp_path: Path):
    module = from_yaml(compose, "method", "dimum", "train_class_embedding=true")(new_task())
    before = weights(module)[CLASS_EMBEDDING]
    train(module, tmp_path)
    assert not torch.equal(before[7], module.denoiser.class_embedding.weight[7])


def test_retrain_starts_from_the_same_random_weights_as_pretraining(compose):
    task = new_task(seed=4)
    module = from_yaml(compose, "method", "retrain")(task)
    assert not moved(network(4).state_dict(), weights(module))


# ---------------------------------------------------------------------------------- drawing a batch


def test_a_draw_pairs_each_image_with_its_label():
    module = Finetune(new_task(), **SMALL | {"batch_size": 64})
    batch = module.draw("retain", module.task.retain, label_dropout=0.0)
    retain = module.task.retain
    label_of = {
        bytes(image): c
        for image, c in zip(retain.images.numpy(), retain.labels.tolist(), strict=True)
    }
    images = ((batch.x_0 + 1) * 127.5).round().to(torch.uint8).numpy()
    assert [label_of[bytes(image)] for image in images] == batch.labels.tolist()
    assert (
        batch.x_0.min() >= -1
        and batch.x_0.max() == 1
        and batch.t.min() >= 0
        and 900 < batch.t.max() < 1000
    )
    assert batch.noise.flatten(1).unique(dim=0).shape[0] == 64


def test_draws_differ_between_terms_steps_seeds_and_stages_but_not_between_calls():
    def first(module, term="retain"):
        return module.draw(term, module.task.retain).noise

    module = Finetune(new_task(), **SMALL)
    noise = first(module)
    assert torch.equal(noise, first(module))
    others = [
        first(module, "memory"),
        first(Finetune(new_task(seed=1), **SMALL)),
        first(Finetune(new_task(), stage="attack", **SMALL)),
    ]
    assert not any(torch.equal(noise, other) for other in others)


def test_noise_is_new_at_every_step(tmp_path: Path):
    drawn = []

    class Watched(Finetune):
        def draw(self, *arguments, **options):
            drawn.append(super().draw(*arguments, **options).noise)
            return super().draw(*arguments, **options)

    train(Watched(new_task(), **SMALL), tmp_path)
    assert torch.stack(drawn).flatten(1).unique(dim=0).shape[0] == len(drawn) == 3


def test_the_asked_share_of_labels_is_dropped():
    module = Finetune(new_task(), **SMALL | {"batch_size": 4000}, label_dropout=0.3)
    batch, whole = (module.draw("retain", module.task.retain, label_dropout=p) for p in (None, 0.0))
    dropped = batch.labels == 10
    assert dropped.float().mean().item() == pytest.approx(0.3, abs=0.03)
    assert torch.equal(batch.labels[~dropped], whole.labels[~dropped]) and (whole.labels < 10).all()
    shares = [dropped[whole.labels == c].float().mean().item() for c in module.task.retain_classes]
    assert min(shares) > 0.2 and max(shares) < 0.4


@pytest.mark.parametrize("flips", [False, True])
def test_half_of_the_images_are_mirrored_where_the_data_allow_it(flips: bool):
    module = Finetune(new_task(horizontal_flip=flips), **SMALL | {"batch_size": 500})
    x_0 = (
        ((module.draw("retain", module.task.retain).x_0 + 1) * 127.5)
        .round()
        .to(torch.uint8)
        .numpy()
    )
    originals = set(map(bytes, module.task.retain.images.numpy()))
    share = sum(bytes(image) in originals for image in x_0) / 500
    assert share == pytest.approx(0.5, abs=0.1) if flips else share == 1.0


# ------------------------------------------------------------------------- the formulas, one by one


@pytest.mark.parametrize("kind", ["epsilon", "sample", "v_prediction"])
def test_dimum_is_the_retain_loss_plus_lambda_times_the_memory_loss(kind: str):
    task = new_task(prediction_type=kind)
    module = DiMUM(task, memory="another_class", memory_weight=2.5, label_dropout=0.4, **SMALL)
    module.prepare()
    losses = module.losses()
    retain = module.draw("retain", module.task.retain)
    memory = module.draw("memory", module.memory_data, label_dropout=0.0)
    assert (
        memory.labels.tolist() == [7] * 8
        and 10 in retain.labels
        and losses.keys() == {"retain", "memory"}
    )
    expected = mean_squared_error(module, retain, kind) + 2.5 * mean_squared_error(
        module, memory, kind
    )
    assert losses["memory"].item() == pytest.approx(
        2.5 * mean_squared_error(module, memory, kind).item(), rel=1e-5
    )
    found = gradients(module, sum(losses.values()))
    torch.testing.assert_close(found, gradients(module, expected), rtol=1e-3, atol=1e-5)


def test_memory_labels_are_dropped_only_on_request():
    module = DiMUM(
        new_task(),
        memory="another_class",
        memory_label_dropout=0.5,
        label_dropout=0.0,
        **SMALL | {"batch_size": 400},
    )
    module.prepare()
    seen = []
    module.denoising_losses = lambda **batches: (
        seen.append(batches) or {name: torch.zeros(()) for name in batches}
    )
    module.losses()
    assert (seen[0]["memory"].labels == 10).float().mean().item() == pytest.approx(0.5, abs=0.1)
    assert not (seen[0]["retain"].labels == 10).any()


@pytest.mark.parametrize(
    ("forget", "pseudo"), [((7,), {7: 8}), ((9,), {9: 0}), ((2, 3, 9), {2: 4, 3: 4, 9: 0})]
)
@pytest.mark.parametrize("kind", ["epsilon", "v_prediction"])
def test_random_label_answers_as_under_the_next_retained_class(forget, pseudo, kind: str):
    module = RandomLabel(new_task(forget, prediction_type=kind), retain_weight=1.7, **SMALL)
    losses = module.losses()
    batch = module.draw("forget", module.task.forget, label_dropout=0.0)
    retain = module.draw("retain", module.task.retain)
    assert set(batch.labels.tolist()) <= set(forget)

    def answer(labels: Tensor) -> Tensor:
        return module.denoiser(x_t(batch), batch.t, class_labels=labels).sample

    stand_ins = torch.tensor([pseudo[int(c)] for c in batch.labels])
    kept = 1.7 * mean_squared_error(module, retain, kind)
    unlearned = ((answer(batch.labels) - answer(stand_ins).detach()) ** 2).mean()
    assert losses["forget"].item() == pytest.approx(unlearned.item(), rel=1e-4) and unlearned > 1e-4
    assert losses["retain"].item() == pytest.approx(kept.item(), rel=1e-5)
    found = gradients(module, losses["forget"])
    torch.testing.assert_close(found, gradients(module, unlearned), rtol=1e-3, atol=1e-6)
    through = gradients(module, ((answer(batch.labels) - answer(stand_ins)) ** 2).mean())
    assert (found - through).norm() > 0.1 * found.norm()  # the target's gradient is stopped


def test_gradient_ascent_climbs_the_forget_loss_and_descends_the_retain_loss():
    module = GradientAscent(new_task(), forget_weight=0.6, **SMALL)
    losses = module.losses()
    forget = module.draw("forget", module.task.forget, label_dropout=0.0)
    retain = module.draw("retain", module.task.retain)
    assert forget.labels.tolist() == [7] * 8
    found = gradients(module, sum(losses.values()))
    expected = gradients(module, mean_squared_error(module, retain))
    expected = expected - 0.6 * gradients(module, mean_squared_error(module, forget))
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-5)


def test_finetuning_is_the_denoising_loss_of_the_retain_set():
    module = Finetune(new_task(), **SMALL)
    loss = module.losses()["retain"].item()
    assert loss == pytest.approx(
        mean_squared_error(module, module.draw("retain", module.task.retain)).item(), rel=1e-5
    )


def test_the_gradient_is_clipped_to_its_norm(tmp_path: Path):
    module, norms = Finetune(new_task(), grad_clip=0.05, **SMALL), []

    def look(optimizer) -> None:  # before the gradient of the step before is cleared
        squares = [
            p.grad.square().sum() for p in module.denoiser.parameters() if p.grad is not None
        ]
        norms.append(math.sqrt(sum(squares)))

    module.on_before_zero_grad = look
    train(module, tmp_path)
    assert norms[1:] == pytest.approx([0.05] * (len(norms) - 1), rel=1e-3) and len(norms) == 3


# ----------------------------------------------------------------------------------------- saliency


def salun(
    *, dropout: float = 0.0, fraction: float = 0.5, forget=(7,), batch_size: int = 8
) -> SalUn:
    return SalUn(
        new_task(forget, dropout=dropout),
        retain_weight=1.0,
        saliency_fraction=fraction,
        saliency_guidance_scale=3.0,
        **SMALL | {"batch_size": batch_size},
    )


def saliency_by_hand(module: SalUn) -> tuple[Tensor, int]:
    """|sum over batches of the clipped gradient| of each weight, and how many batches were
    clipped.
    """
    net, forget = module.denoiser.eval(), module.task.forget
    trained = [p for name, p in net.named_parameters() if name != CLASS_EMBEDDING]
    total, clipped = torch.zeros(sum(p.numel() for p in trained)), 0
    for number in range(math.ceil(len(forget) / module.batch_size)):
        part = slice(number * module.batch_size, (number + 1) * module.batch_size)
        x_0, labels = forget.images[part].float() / 127.5 - 1, forget.labels[part]
        g = generator_for(module.task.seed, "saliency", number)
        t = torch.randint(1000, (len(labels),), generator=g)
        noise = torch.randn(x_0.shape, generator=g)
        noisy = (abar(t).sqrt() * x_0 + (1 - abar(t)).sqrt() * noise).float()
        guided = (
            3.0 * net(noisy, t, class_labels=labels).sample
            - 2.0 * net(noisy, t, class_labels=torch.full_like(labels, 10)).sample
        )
        net.zero_grad()
        nn.functional.mse_loss(guided, noise).backward()
        clipped += bool(nn.utils.clip_grad_norm_(trained, 1.0) > 1.0)
        total += torch.cat([p.grad.flatten() for p in trained])
    net.zero_grad()
    return total.abs(), clipped


def test_the_saliency_mask_keeps_the_largest_clipped_signed_sums():
    module = salun(dropout=0.3, fraction=0.5, batch_size=5)  # 12 images: batches of 5, 5 and 2
    module.prepare()
    assert module.denoiser.training
    names = [name for name, _ in module.denoiser.named_parameters() if name != CLASS_EMBEDDING]
    mask = torch.cat([module.gradient_mask[name].flatten() for name in names])
    score, clipped = saliency_by_hand(module)
    assert clipped >= 2
    assert (mask == (score >= score[mask].min())).float().mean() > 0.999
    assert score[mask].min() >= score[~mask].max() * 0.999


@pytest.mark.parametrize("fraction", [1e-9, 0.1, 0.5, 1.0])
def test_the_saliency_mask_keeps_exactly_the_asked_share(fraction: float):
    module = salun(fraction=fraction)
    module.prepare()
    trainable = {name: p for name, p in module.denoiser.named_parameters() if p.requires_grad}
    assert module.gradient_mask.keys() == trainable.keys()
    total = sum(p.numel() for p in trainable.values())
    assert sum(int(m.sum()) for m in module.gradient_mask.values()) == max(
        1, round(fraction * total)
    )


def test_salun_leaves_every_weight_outside_its_mask_as_it_was_to_the_bit(tmp_path: Path):
    module = salun(fraction=0.3)
    before = weights(module)
    train(module, tmp_path)
    changed = total = 0
    for name, mask in module.gradient_mask.items():
        difference = before[name] != module.denoiser.state_dict()[name]
        assert not difference[~mask].any(), name
        changed, total = changed + int(difference.sum()), total + int(mask.sum())
    assert changed > 0.95 * total


# -------------------------------------------------------------------------------------- memory data


@pytest.mark.parametrize(
    ("forget", "memory_class", "others"),
    [((7,), None, [8]), ((7,), 2, [2]), ((8, 9), None, [0, 0])],
)
def test_another_class_is_all_images_of_the_next_retained_class(forget, memory_class, others):
    task = new_task(forget)
    memory = memory_set(task, "another_class", None, memory_class)
    assert memory.labels.tolist() == [c for c in forget for _ in range(12)]
    for c, other in zip(forget, others, strict=True):
        assert same_set(memory.of_classes([c]), task.retain.of_classes([other]))


def test_a_memory_size_limits_each_forgotten_class():
    task = new_task((3, 7))
    memory = memory_set(task, "another_class", 5, None)
    assert memory.labels.tolist() == [3] * 5 + [7] * 5
    for c, other in ((3, 4), (7, 8)):
        pool = set(map(bytes, task.retain.of_classes([other]).images.numpy()))
        chosen = set(map(bytes, memory.of_classes([c]).images.numpy()))
        assert chosen <= pool and len(chosen) == 5


def test_all_retain_is_the_whole_retain_set_under_the_forgotten_label():
    task = new_task()
    memory = memory_set(task, "all_retain", None, None)
    assert same_set(memory, task.retain) and memory.labels.tolist() == [7] * 108


@pytest.mark.parametrize(("size", "count"), [(None, 10), (4, 4)])
def test_fixed_k_is_the_same_few_retain_images_every_time(size, count):
    memory, again = (memory_set(new_task(), "fixed_k", size, None) for _ in range(2))
    assert torch.equal(memory.images, again.images) and memory.labels.tolist() == [7] * count
    chosen = set(map(bytes, memory.images.numpy()))
    assert len(chosen) == count and chosen <= set(map(bytes, new_task().retain.images.numpy()))
    assert not same_set(memory, memory_set(new_task(seed=1), "fixed_k", size, None))


def test_noise_is_uniform_over_all_grey_levels():
    memory = memory_set(new_task(), "noise", None, None)
    assert memory.images.shape == (256, 1, 8, 8) and memory.images.dtype == torch.uint8
    assert memory.labels.tolist() == [7] * 256 and memory.images.unique().tolist() == list(
        range(256)
    )
    assert memory.images.float().mean().item() == pytest.approx(127.5, abs=3)
    assert len(memory_set(new_task(), "noise", 6, None)) == 6


def test_generated_memory_is_drawn_by_the_original_model_which_stays_as_it_was(
    monkeypatch: pytest.MonkeyPatch,
):
    asked = []
    monkeypatch.setattr(
        objectives,
        "sample",
        lambda net, labels, **options: (
            asked.append((net, labels, options))
            or sample(net, labels, **options | {"num_inference_steps": 2})
        ),
    )
    module = DiMUM(new_task((3, 7)), memory="generated", memory_size=6, **SMALL)
    before = weights(module)
    module.denoiser.train()
    module.prepare()
    assert not moved(before, weights(module)) and module.denoiser.training
    assert all(p.grad is None for p in module.denoiser.parameters())
    assert (
        module.memory_data.images.shape == (12, 1, 8, 8)
        and module.memory_data.labels.tolist() == [3] * 6 + [7] * 6
    )
    assert [(net is module.denoiser, labels.tolist()) for net, labels, _ in asked] == [
        (True, [4] * 6),
        (True, [8] * 6),
    ]
    assert module.memory_data.images.flatten(1).unique(dim=0).shape[0] == 12


def test_nearest_class_is_the_one_a_search_over_all_classes_finds(oracle):
    for forget in ((7,), (0, 3, 8)):
        task = new_task(forget, oracle=oracle)
        for c in forget:

            def centre(data: ImageSet) -> Tensor:
                return sum(
                    oracle.features(image[None].float() / 127.5 - 1)[0] for image in data.images
                ) / len(data)

            distance = {
                k: math.dist(
                    centre(task.retain.of_classes([k])), centre(task.forget.of_classes([c]))
                )
                for k in range(10)
                if k not in forget
            }
            assert nearest_class(task, c) == min(distance, key=distance.get)
        memory = memory_set(task, "nearest_class", None, None)
        for c in forget:
            assert same_set(
                memory.of_classes([c]), task.retain.of_classes([nearest_class(task, c)])
            )


def test_only_the_nearest_class_needs_the_oracle(compose):
    for memory, parents in (("nearest_class", 2), ("another_class", 1), ("generated", 1)):
        assert (
            len(Cell(compose(f"method.memory={memory}"), "").unlearned.stage.spec.parents)
            == parents
        )


# ------------------------------------------------------------------------------------------ plateau


def dimum(**arguments) -> DiMUM:
    return DiMUM(new_task(), memory="another_class", **SMALL | {"max_steps": 12} | arguments)


@pytest.mark.parametrize(("tolerance", "steps"), [(None, 12), (-10.0, 12), (1.0, 8)])
def test_dimum_stops_at_the_second_window_only_if_the_memory_loss_has_stopped_falling(
    tolerance, steps, tmp_path: Path
):
    module = train(dimum(plateau_tolerance=tolerance, plateau_steps=4), tmp_path)
    assert module.rows[-1]["step"] == steps and len(module.rows) == steps


@pytest.mark.parametrize(
    ("memory", "stops"),
    [
        ([1.0, 1.0, 0.9, 0.9], False),
        ([1.0, 1.0, 0.96, 0.96], True),
        ([1.0, 1.0, 1.0, 0.7], False),
        ([1.0, 1.0, 1.0, 1.0, 1.0], False),  # in the middle of a window
        ([1.0, 1.0], False),
        ([5.0, 1.0, 1.0, 1.0, 1.0, 1.0], True),
    ],
)
def test_the_plateau_is_the_fall_from_one_window_to_the_next(memory, stops: bool):
    module = dimum(plateau_tolerance=0.05, plateau_steps=20)
    module.rows = [{"step": 10 * (k + 1), "memory": value} for k, value in enumerate(memory)]
    assert module.converged() is stops


def test_how_often_rows_are_recorded_does_not_change_where_dimum_stops(tmp_path: Path):
    ends = [
        train(
            dimum(max_steps=40, plateau_tolerance=0.3, plateau_steps=8),
            tmp_path / str(every),
            log_every_n_steps=every,
        ).rows[-1]["step"]
        for every in (1, 2, 8)
    ]
    assert len(set(ends)) == 1 and 16 <= ends[0] < 40
