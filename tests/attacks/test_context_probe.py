"""Sampling from noised real images."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tiny import (
    SCHEDULE,
    denoising,
    moved,
    network,
    new_task,
)

from unrelearn.attacks.context_probe import ContextProbe
from unrelearn.data import to_model_range
from unrelearn.diffusion import denoiser as denoisers
from unrelearn.diffusion.maths import alphas_cumprod
from unrelearn.diffusion.sampling import sample
from unrelearn.randomness import generator_for


def test_a_context_probe_leaves_the_images_to_start_from_in_the_order_of_the_labels(tmp_path: Path):
    task = new_task((3, 7))
    module = denoising(ContextProbe(levels=[0.5], num_images=4), task)
    with module.edited(0.5):
        assert module.save(tmp_path) == "raw"
    images = load_file(tmp_path / "start.safetensors")["images"]
    assert images.shape == (8, 1, 8, 8) and not moved(
        network().state_dict(), denoisers.load(tmp_path / "raw").state_dict()
    )
    for k, image in enumerate(images):
        own = task.forget.of_classes([(3, 7)[k % 2]]).images
        assert any(torch.equal(image, other) for other in own)
    assert torch.equal(images[::2], task.shots(4).of_classes([3]).images)
    others = load_file(tmp_path / "start.safetensors")[
        "others"
    ]  # as many of other classes, in turn
    assert others.shape == images.shape and len(others.flatten(1).unique(dim=0)) == 8
    for image, c in zip(others, (0, 1, 2, 4, 5, 6, 8, 9), strict=True):
        assert any(torch.equal(image, other) for other in task.retain.of_classes([c]).images)


class Watching(torch.nn.Module):
    """Answers zero and notes what it was asked."""

    def __init__(self):
        super().__init__()
        self.config, self.seen = network().config, []
        self.weight = torch.nn.Parameter(torch.zeros(1))

    def forward(self, x_t, t, class_labels, return_dict):
        self.seen.append((x_t.clone(), int(t)))
        return (torch.zeros_like(x_t),)


WAYS = [dict(name="ddim"), dict(name="ddim", eta=1.0), dict(name="ddpm"), dict(name="dpmsolver++")]


@pytest.mark.parametrize("way", WAYS, ids=str)
@pytest.mark.parametrize(
    ("start_time", "expected"), [(0.3, 299), (0.45, 399), (1.0, 999), (0.001, 99)]
)
def test_the_sampler_starts_at_the_time_asked_for_from_the_images_noised_to_it(
    way: dict, start_time: float, expected: int
):
    watching, start = Watching(), new_task().forget.images[:3]
    images = sample(
        watching,
        torch.full((4,), 7),
        schedule=SCHEDULE,
        num_inference_steps=10,
        seed=3,
        stream="forget",
        first=2,
        start=start,
        start_time=start_time,
        batch_size=3,
        **way,
    )
    x_t, t = watching.seen[0]
    assert t == expected and images.shape == (4, 1, 8, 8)
    assert [time for _, time in watching.seen] == list(range(expected, 0, -100)) * 2  # two batches
    a = alphas_cumprod()[expected]
    noise = torch.stack(
        [torch.randn(1, 8, 8, generator=generator_for(3, "forget", k)) for k in range(2, 5)]
    )
    x_0 = to_model_range(start[torch.tensor([2, 0, 1])])
    torch.testing.assert_close(x_t, a.sqrt() * x_0 + (1 - a).sqrt() * noise, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["ddim", "dpmsolver++"])
def test_a_perfect_network_gives_the_images_back(name: str):
    class Perfect(Watching):
        def forward(self, x_t, t, class_labels, return_dict):
            a = alphas_cumprod()[int(t)]
            return ((x_t - a.sqrt() * to_model_range(start)) / (1 - a).sqrt(),)

    start = new_task().forget.images[:3]
    images = sample(
        Perfect(),
        torch.full((3,), 7),
        schedule=SCHEDULE,
        name=name,
        num_inference_steps=10,
        start=start,
        start_time=0.5,
    )
    assert (images.int() - start.int()).abs().max() <= 1
