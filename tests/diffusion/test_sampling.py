"""Sampling: image i is a function of (model, label, seed, stream, i), whatever is drawn beside
it.
"""

from types import SimpleNamespace

import pytest
import torch
from diffusers import UNet2DModel
from tiny import SHORT_SCHEDULE as SCHEDULE
from tiny import network as new_network

from unrelearn.data import to_model_range
from unrelearn.diffusion import denoiser as denoisers
from unrelearn.diffusion import drawing
from unrelearn.diffusion.maths import alphas_cumprod, target
from unrelearn.diffusion.sampling import SAMPLERS, make_scheduler, sample
from unrelearn.randomness import generator_for

LABELS = torch.tensor([0, 1, 2, 0, 1, 2, 0])
WAYS = [
    dict(name="ddim"),
    dict(name="ddim", eta=1.0),
    dict(name="ddpm"),
    dict(name="dpmsolver++"),
    dict(name="lms"),
]
STOCHASTIC = WAYS[1:3]


@pytest.fixture(scope="module")
def network() -> UNet2DModel:
    return new_network(num_classes=3, dropout=0.5).eval()


def draw(network: torch.nn.Module, labels: torch.Tensor = LABELS, **arguments) -> torch.Tensor:
    """int32, so that grey levels can be subtracted."""
    images = sample(
        network, labels, **{"schedule": SCHEDULE, "num_inference_steps": 6, **arguments}
    )
    assert images.dtype == torch.uint8 and images.shape[0] == len(labels)
    return images.int()


def grey_levels_apart(a: torch.Tensor, b: torch.Tensor) -> int:
    assert a.shape == b.shape
    return (a - b).abs().max().item()


def watched(
    network: torch.nn.Module, *arguments, **options
) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """The images, and what the network was given at each forward pass."""
    inputs = []
    hook = network.register_forward_pre_hook(lambda module, given: inputs.append(given[0].clone()))
    try:
        return draw(network, *arguments, **options), inputs
    finally:
        hook.remove()


# ------------------------------------------------------------------------------------- common noise


@pytest.mark.parametrize("way", WAYS, ids=str)
@pytest.mark.parametrize("guidance_scale", [1.0, 2.0])
def test_an_image_is_the_same_whatever_the_batch_size(
    network: UNet2DModel, way: dict, guidance_scale: float
):
    whole = draw(network, guidance_scale=guidance_scale, **way)
    assert len(whole.unique()) > 20  # not all black and white, where anything would be the same
    for batch_size in (
        1,
        3,
    ):  # sums are taken in another order, so the last bit of a float may differ
        assert (
            grey_levels_apart(
                draw(network, batch_size=batch_size, guidance_scale=guidance_scale, **way), whole
            )
            <= 1
        )


@pytest.mark.parametrize("way", WAYS, ids=str)
def test_a_slice_of_the_images_is_the_same_slice_of_all_of_them(network: UNet2DModel, way: dict):
    whole = draw(network, **way)
    for part in (slice(0, 2), slice(2, 7), slice(6, 7)):
        assert (
            grey_levels_apart(draw(network, LABELS[part], first=part.start, **way), whole[part])
            <= 1
        )


def test_image_i_starts_from_the_bits_of_noise_i(network: UNet2DModel):
    noise = torch.stack(
        [torch.randn(1, 8, 8, generator=generator_for(3, "forget", i)) for i in range(7)]
    )
    _, inputs = watched(network, seed=3, stream="forget", num_inference_steps=1)
    assert torch.equal(torch.cat(inputs), noise)
    _, inputs = watched(network, seed=3, stream="forget", num_inference_steps=1, batch_size=2)
    assert torch.equal(torch.cat(inputs), noise)
    _, inputs = watched(
        network,
        LABELS[4:],
        first=4,
        seed=3,
        stream="forget",
        num_inference_steps=1,
        guidance_scale=2.0,
    )
    assert torch.equal(torch.cat(inputs), torch.cat([noise[4:], noise[4:]]))


@pytest.mark.parametrize("way", WAYS, ids=str)
def test_an_image_does_not_depend_on_the_images_beside_it(network: UNet2DModel, way: dict):
    other = torch.tensor([0, 2, 0, 0, 0, 1, 0])  # the same labels at 0, 3 and 6
    ours, theirs = (
        draw(network, guidance_scale=2.0, **way),
        draw(network, other, guidance_scale=2.0, **way),
    )
    assert grey_levels_apart(ours[::3], theirs[::3]) <= 1
    assert grey_levels_apart(ours[1], theirs[1]) > 1


@pytest.mark.parametrize("way", STOCHASTIC, ids=str)
def test_a_stochastic_sampler_reads_the_generators_of_its_images_and_no_other(
    network: UNet2DModel, way: dict
):
    torch.manual_seed(1)
    first = draw(network, **way)
    torch.manual_seed(2)
    before = torch.get_rng_state()
    assert torch.equal(draw(network, **way), first)
    assert torch.equal(torch.get_rng_state(), before)


def test_eta_makes_ddim_stochastic(network: UNet2DModel):
    assert grey_levels_apart(draw(network, eta=1.0), draw(network, eta=0.0)) > 10


@pytest.mark.parametrize("change", [dict(seed=1), dict(stream="retain"), dict(first=7)], ids=str)
def test_another_seed_stream_or_number_is_another_image(network: UNet2DModel, change: dict):
    ours, theirs = draw(network), draw(network, **change)
    assert all(grey_levels_apart(a, b) > 10 for a, b in zip(ours, theirs, strict=True))


# ----------------------------------------------------------------------------------------- guidance


class Guided(torch.nn.Module):
    """Guidance written the slow way: two forward passes and Ho & Salimans' formula with w = s -
    1.
    """

    def __init__(self, network: UNet2DModel, w: float):
        super().__init__()
        self.network, self.w, self.config = network, w, network.config

    def forward(self, x_t, t, class_labels, return_dict):
        conditional = denoisers.predict(self.network, x_t, t, class_labels)
        unconditional = denoisers.predict(self.network, x_t, t, torch.full_like(class_labels, 3))
        return ((1 + self.w) * conditional - self.w * unconditional,)


@pytest.mark.parametrize("guidance_scale", [0.0, 0.5, 2.0, 4.0])
def test_one_batched_forward_pass_is_two_separate_ones(network: UNet2DModel, guidance_scale: float):
    ours = draw(network, guidance_scale=guidance_scale)
    assert grey_levels_apart(ours, draw(Guided(network, guidance_scale - 1).eval())) <= 1
    assert grey_levels_apart(ours, draw(network)) > 1


def test_without_guidance_there_is_one_forward_pass_a_step_and_with_it_one_of_twice_the_size(
    network: UNet2DModel,
):
    _, inputs = watched(network, guidance_scale=1.0)
    assert [len(x) for x in inputs] == [7] * 6
    _, inputs = watched(network, guidance_scale=1)
    assert [len(x) for x in inputs] == [7] * 6
    _, inputs = watched(network, guidance_scale=2.0)
    assert [len(x) for x in inputs] == [14] * 6


def test_guidance_zero_is_the_unconditional_model(network: UNet2DModel):
    unconditional = draw(network, torch.full_like(LABELS, 3))
    assert grey_levels_apart(draw(network, guidance_scale=0.0), unconditional) <= 1


# ----------------------------------------------------------------------------------------- samplers


class KnowsOneImage(torch.nn.Module):
    """The perfect denoiser of a data set that holds one image."""

    def __init__(self, image: torch.Tensor, prediction_type: str):
        super().__init__()
        self.config = SimpleNamespace(in_channels=1, sample_size=8, num_class_embeds=4)
        self.x_0 = torch.nn.Parameter(to_model_range(image)[None])
        self.alphas_cumprod = alphas_cumprod(100, 1e-3, 0.1)
        self.prediction_type = prediction_type

    def forward(self, x_t, t, class_labels, return_dict):
        t = t.long()
        abar, x_0 = self.alphas_cumprod[t], self.x_0.expand_as(x_t)
        noise = (x_t - abar.sqrt() * x_0) / (1 - abar).sqrt()
        return (target(x_0, noise, t.expand(len(x_t)), self.alphas_cumprod, self.prediction_type),)


@pytest.mark.parametrize("prediction_type", ["epsilon", "sample", "v_prediction"])
@pytest.mark.parametrize("steps", [1, 7, 20])
@pytest.mark.parametrize("way", WAYS, ids=str)
def test_every_sampler_brings_a_perfect_denoiser_to_its_image(
    way: dict, steps: int, prediction_type: str
):
    if way == {"name": "lms"}:  # from the first time to the last: these steps end at whole ones
        steps = {1: 12, 7: 34, 20: 100}[steps]
    image = torch.randint(256, (1, 8, 8), generator=generator_for("the image"), dtype=torch.uint8)
    images = draw(
        KnowsOneImage(image, prediction_type),
        LABELS[:2],
        num_inference_steps=steps,
        schedule={**SCHEDULE, "prediction_type": prediction_type},
        **way,
    )
    assert torch.equal(images, image.int().expand(2, -1, -1, -1))


@pytest.mark.parametrize("name", SAMPLERS)
def test_every_sampler_starts_at_the_last_time_and_has_the_schedule_of_the_training(name: str):
    scheduler = make_scheduler(name, {**SCHEDULE, "prediction_type": "v_prediction"})
    scheduler.set_timesteps(5)
    even = [99, 74.25, 49.5, 24.75, 0]  # as published beside it
    assert scheduler.timesteps.tolist() == (even if name == "lms" else [99, 79, 59, 39, 19])
    assert scheduler.config.prediction_type == "v_prediction"
    torch.testing.assert_close(
        scheduler.alphas_cumprod, alphas_cumprod(100, 1e-3, 0.1), rtol=2e-5, atol=0
    )


def test_the_samplers_are_not_one_and_the_same(network: UNet2DModel):
    images = [draw(network, **way) for way in WAYS]
    assert all(grey_levels_apart(a, b) > 10 for i, a in enumerate(images) for b in images[:i])


# ------------------------------------------------------------------------------------------ manners


def test_the_network_is_used_in_evaluation_mode_and_given_back_as_it_was(network: UNet2DModel):
    expected = draw(network)
    assert not network.training
    network.train()
    try:
        assert torch.equal(draw(network), expected)
        assert network.training and all(module.training for module in network.modules())
    finally:
        network.eval()


class SmallMemory(torch.nn.Module):
    """Takes so many images at a time, and says of more what a GPU says; notes every attempt."""

    def __init__(self, network: UNet2DModel, room: int):
        super().__init__()
        self.network, self.room, self.config, self.attempts = network, room, network.config, []
        self.class_embedding = network.class_embedding

    def forward(self, x_t, t, class_labels, return_dict):
        if not self.attempts or self.attempts[-1] != len(x_t):
            self.attempts.append(len(x_t))
        if len(x_t) > self.room:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return self.network(x_t, t, class_labels=class_labels, return_dict=return_dict)


@pytest.mark.parametrize("way", WAYS, ids=str)
def test_a_batch_that_does_not_fit_is_halved_and_the_images_stay_the_same(
    network: UNet2DModel, way: dict
):
    small, counted = SmallMemory(network, room=3).eval(), []
    images = draw(small, progress=counted.append, **way)
    assert small.attempts == [7, 3, 1] and counted == [3, 3, 1]
    assert grey_levels_apart(images, draw(network, **way)) <= 1


def test_the_size_that_fitted_is_tried_first_from_then_on_for_this_network_alone(
    network: UNet2DModel,
):
    labels, known = LABELS.repeat(3), {"fitting": {}}
    small = SmallMemory(network, room=6).eval()
    draw(small, labels, **known)
    assert small.attempts == [21, 10, 5, 1]
    small.attempts.clear()
    draw(small, labels, guidance_scale=2.0, **known)  # of twice the size
    assert small.attempts == [10, 4, 2]
    small.attempts.clear()
    draw(small, labels, **known)
    assert small.attempts == [2, 1]
    other = SmallMemory(
        denoisers.build(
            image_size=8,
            channels=1,
            num_classes=3,
            block_out_channels=[8],
            layers_per_block=1,
            norm_num_groups=4,
            attention_levels=[],
            dropout=0.0,
        ).eval(),
        room=99,
    )
    draw(other, labels, **known)
    assert other.attempts == [21]
    small.attempts.clear()
    draw(small, labels)  # of what was found elsewhere nothing is known
    assert small.attempts[0] == 21


def test_an_image_that_does_not_fit_alone_is_an_error(network: UNet2DModel):
    small = SmallMemory(network, room=0).train()
    with pytest.raises(torch.OutOfMemoryError):
        draw(small)
    assert small.attempts == [7, 3, 1] and small.training and network.training
    network.eval()


def test_the_network_is_given_back_as_it_was_also_when_sampling_fails(network: UNet2DModel):
    class Broken(Exception):
        pass

    def fail(images: int) -> None:
        assert not network.training
        raise Broken

    network.train()
    try:
        with pytest.raises(Broken):
            draw(network, progress=fail)
        assert all(module.training for module in network.modules())
    finally:
        network.eval()


def test_progress_counts_every_image_once(network: UNet2DModel):
    counted = []
    draw(network, batch_size=3, progress=counted.append)
    assert counted == [3, 3, 1]


def test_no_labels_give_no_images(network: UNet2DModel):
    """More devices than images: a device's share may be empty."""
    assert sample(network, LABELS[:0], schedule=SCHEDULE).shape == (0, 1, 8, 8)


# ------------------------------------------------------------------------- what is drawn of a model


CONFIG = dict(
    name="ddim",
    num_inference_steps=4,
    eta=0.0,
    clip_sample=True,
    guidance_scales=[1.0, 2.0],
    num_images=31,
    retain_guidance_scales=[1.0],
    images_per_retained_class=2,
    seed=3,
    off_grid_share=0.05,
    second={"name": "dpmsolver++", "num_inference_steps": 5, "num_images": 4},
)


@pytest.mark.parametrize(
    ("share", "num_images", "expected"),
    [
        (0.05, 500, 25),
        (0.05, 100, 10),
        (0.05, 20, 10),
        (0.05, 6, 3),
        (0.05, 1, 0),
        (0.5, 100, 50),
        (0, 500, 0),
    ],
)
def test_a_share_of_the_images_is_drawn_at_other_times(
    share: float, num_images: int, expected: int
):
    assert drawing.off_grid_images(share, num_images) == expected


def test_other_times_are_three_steps_more_or_fewer():
    assert [
        drawing.off_grid_steps(*pair) for pair in ((10, 1000), (997, 1000), (1000, 1000), (2, 3))
    ] == [13, 1000, 997, 1]


def test_each_stream_is_what_sample_draws_with_its_noise_times_and_starts(network: UNet2DModel):
    starts = {
        name: torch.randint(
            256, (3, 1, 8, 8), generator=torch.Generator().manual_seed(k), dtype=torch.uint8
        )
        for k, name in enumerate(("images", "others"))
    }
    for beside in ({}, starts):
        todo = drawing.jobs(CONFIG, [1, 2], 3, 100, bool(beside))
        found = drawing.draw_all(network, CONFIG, todo, beside, 0.5, schedule=SCHEDULE)
        labels = torch.tensor([1, 2]).repeat(16)[:31]
        for stream, images in {
            "forget": "images",
            **({"other_starts": "others"} if beside else {}),
        }.items():
            for scale in (1.0, 2.0):
                name = f"{stream}/{scale}"
                assert (
                    torch.equal(found[f"{name}/labels"], labels)
                    and found[f"{name}/off_grid"].tolist() == [False] * 21 + [True] * 10
                )
                options = dict(
                    guidance_scale=scale,
                    seed=3,
                    stream="forget",
                    **({"start": starts[images], "start_time": 0.5} if beside else {}),
                )
                usual = draw(network, labels[:21], num_inference_steps=4, **options)
                others = draw(network, labels[21:], num_inference_steps=7, first=21, **options)
                assert grey_levels_apart(found[name].int(), torch.cat([usual, others])) <= 1
                assert (
                    not beside or found[f"{name}/start"].tolist() == (torch.arange(31) % 3).tolist()
                )
        retained = draw(
            network, torch.tensor([0, 0]), num_inference_steps=4, seed=3, stream="retain"
        )
        assert grey_levels_apart(found["retain/1.0"].int(), retained) <= 1
        second = draw(
            network,
            labels[:4],
            name="dpmsolver++",
            num_inference_steps=5,
            seed=3,
            stream="other_sampler",
            **({"start": starts["images"], "start_time": 0.5} if beside else {}),
        )
        assert grey_levels_apart(found["other_sampler/1.0"].int(), second) <= 1
        streams = [
            "forget/1.0",
            "forget/2.0",
            "retain/1.0",
            "other_sampler/1.0",
            "other_sampler/2.0",
        ]
        streams += ["other_starts/1.0", "other_starts/2.0"] * bool(beside)
        assert [name for name in found if name.count("/") == 1] == streams
    plain = drawing.jobs(CONFIG | {"second": None, "off_grid_share": 0}, [1], 3, 100)
    assert [(job.stream, job.scale, len(job.labels)) for job in plain] == [
        ("forget", 1.0, 31),
        ("forget", 2.0, 31),
        ("retain", 1.0, 4),
    ]
