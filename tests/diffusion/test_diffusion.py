"""The diffusion maths against diffusers' own, and the generators on which every comparison between
models rests.
"""

import pytest
import torch
from diffusers import DDPMScheduler

from unrelearn.diffusion.maths import add_noise, alphas_cumprod, divergence, drop_labels, target
from unrelearn.randomness import generator_for

T = 1000


@pytest.fixture
def images() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """x_0, noise (6, 3, 4, 4) and t (6,) with both ends among the times."""
    g = torch.Generator().manual_seed(0)
    x_0 = torch.rand(6, 3, 4, 4, generator=g) * 2 - 1
    return x_0, torch.randn(x_0.shape, generator=g), torch.tensor([0, 1, 250, 500, 998, 999])


@pytest.mark.parametrize("beta_start, beta_end, steps", [(1e-4, 0.02, 1000), (1e-3, 0.05, 50)])
def test_the_schedule_is_that_of_diffusers(beta_start: float, beta_end: float, steps: int):
    theirs = DDPMScheduler(steps, beta_start, beta_end, "linear").alphas_cumprod
    ours = alphas_cumprod(steps, beta_start, beta_end)
    assert ours.dtype == torch.float32 and ours.shape == (steps,)
    torch.testing.assert_close(ours, theirs, rtol=2e-5, atol=0)


def test_the_defaults_are_those_of_ddpm():
    torch.testing.assert_close(alphas_cumprod(), DDPMScheduler().alphas_cumprod, rtol=2e-5, atol=0)


def test_noising_is_that_of_diffusers(images: tuple):
    x_0, noise, t = images
    theirs = DDPMScheduler(T).add_noise(x_0, noise, t)
    torch.testing.assert_close(
        add_noise(x_0, noise, t, alphas_cumprod()), theirs, rtol=0, atol=2e-5
    )


def test_noise_is_almost_absent_at_the_start_and_almost_everything_at_the_end(images: tuple):
    x_0, noise, _ = images
    first, last = torch.zeros(6, dtype=torch.long), torch.full((6,), T - 1)
    assert (add_noise(x_0, noise, first, alphas_cumprod()) - x_0).abs().max() < 0.05
    assert (add_noise(x_0, noise, last, alphas_cumprod()) - noise).abs().max() < 0.01
    assert torch.equal(add_noise(x_0, noise, first, torch.ones(1)), x_0)
    assert torch.equal(add_noise(x_0, noise, first, torch.zeros(1)), noise)


def test_targets_are_those_of_diffusers(images: tuple):
    x_0, noise, t = images
    assert target(x_0, noise, t, alphas_cumprod()) is noise
    assert target(x_0, noise, t, alphas_cumprod(), "epsilon") is noise
    assert target(x_0, noise, t, alphas_cumprod(), "sample") is x_0
    velocity = DDPMScheduler(T).get_velocity(x_0, noise, t)
    torch.testing.assert_close(
        target(x_0, noise, t, alphas_cumprod(), "v_prediction"), velocity, rtol=0, atol=2e-5
    )


@pytest.mark.parametrize("kind", ["epsilon", "sample", "v_prediction"])
def test_image_and_noise_are_found_again_from_the_target(images: tuple, kind: str):
    x_0, noise, t = (part.double() if part.is_floating_point() else part for part in images)
    abar = alphas_cumprod().double()
    x_t, answer = add_noise(x_0, noise, t, abar), target(x_0, noise, t, abar, kind)
    a, s = abar[t].sqrt().view(-1, 1, 1, 1), (1 - abar[t]).sqrt().view(-1, 1, 1, 1)
    found_x_0, found_noise = {
        "epsilon": ((x_t - s * answer) / a, answer),
        "sample": (answer, (x_t - a * answer) / s),
        "v_prediction": (a * x_t - s * answer, s * x_t + a * answer),
    }[kind]
    torch.testing.assert_close(found_x_0, x_0)
    torch.testing.assert_close(found_noise, noise)


def test_labels_are_dropped_where_the_uniform_number_is_below_the_probability():
    labels = torch.arange(5)
    uniform = torch.tensor([0.0, 0.0999, 0.1, 0.5, 0.9999])
    assert drop_labels(labels, uniform, 0.1, null_label=9).tolist() == [9, 9, 2, 3, 4]
    assert drop_labels(labels, uniform, 0.0, null_label=9).tolist() == [0, 1, 2, 3, 4]
    assert drop_labels(labels, uniform, 1.0, null_label=9).tolist() == [9] * 5
    assert labels.tolist() == [0, 1, 2, 3, 4]


def test_the_share_of_dropped_labels_is_the_probability():
    labels = torch.randint(10, (20_000,), generator=generator_for(0, "labels"))
    uniform = torch.rand(20_000, generator=generator_for(0, "uniform"))
    dropped = drop_labels(labels, uniform, 0.1, null_label=10)
    assert (dropped == 10).double().mean().item() == pytest.approx(
        0.1, abs=0.007
    )  # 3 standard errors
    assert torch.equal(dropped[dropped != 10], labels[dropped != 10])
    assert torch.equal(dropped, drop_labels(labels, uniform, 0.1, null_label=10))


def draw(*identity: object) -> list[int]:
    return torch.randint(2**31, (4,), generator=generator_for(*identity)).tolist()


def test_a_generator_is_a_function_of_its_identity():
    before = torch.get_rng_state()
    first = draw(0, "unlearn", "retain", 7)
    torch.rand(3)
    torch.manual_seed(1)
    assert draw(0, "unlearn", "retain", 7) == first
    torch.set_rng_state(before)
    generator_for(0, "unlearn")
    assert torch.equal(torch.get_rng_state(), before)


def test_generators_of_different_identities_differ():
    identities = [
        (seed, stream, step)
        for seed in range(10)
        for stream in ("image", "forget")
        for step in range(500)
    ]
    # one after the other, in other words and of other types
    identities += [
        (1, 23),
        (12, 3),
        (123,),
        ("1", 23),
        (1, "23"),
        (),
        (("image", 0),),
        (3, "image", 7, 0),
    ]
    seeds = [generator_for(*identity).initial_seed() for identity in identities]
    assert len(set(seeds)) == len(identities)


def test_neighbouring_generators_are_uncorrelated():
    noise = torch.stack(
        [torch.randn(2000, generator=generator_for(0, "image", i)) for i in range(20)]
    )
    off_diagonal = torch.corrcoef(noise)[~torch.eye(20, dtype=torch.bool)]
    assert off_diagonal.abs().max() < 0.12  # 5 standard errors


def test_the_generators_are_those_of_every_result_so_far():
    """If this fails, all randomness has changed: every artefact's stage version must rise
    (its `version`).
    """
    assert generator_for(0, "image", 0).initial_seed() == 1051710222869315453
    assert draw(0, "image", 0) == [2143411019, 797047885, 1133140194, 297657004]


def test_divergence_is_the_squared_hellinger_distance_of_gaussians_at_one_half():
    answer, wanted, variance = (
        torch.tensor([[[[0.3]]]]).double(),
        torch.tensor([[[[-0.9]]]]).double(),
        0.7,
    )
    x = torch.linspace(-20, 20, 200_001, dtype=torch.float64)
    p, q = (
        torch.distributions.Normal(mean.item(), variance**0.5).log_prob(x).exp()
        for mean in (answer, wanted)
    )
    squared_hellinger = torch.trapezoid((p.sqrt() - q.sqrt()).square(), x) / 2
    torch.testing.assert_close(
        divergence(answer, wanted, 0.5, variance), 4 * 2 * variance * squared_hellinger
    )


def test_divergence_is_the_mean_squared_error_for_small_errors_and_saturates_for_large_ones():
    wanted = torch.zeros(2, 1, 4, 4, dtype=torch.float64)
    for error, alpha in ((1e-3, 0.5), (1e-3, 0.2)):
        assert divergence(wanted + error, wanted, alpha, 1.0).item() == pytest.approx(
            error**2, rel=1e-5
        )
    assert divergence(wanted + 100, wanted, 0.5, 1.0).item() == pytest.approx(8.0)
    g = torch.Generator().manual_seed(0)
    answer = torch.randn(wanted.shape, generator=g, dtype=torch.float64)
    torch.testing.assert_close(
        divergence(answer, wanted, None, 1.0), (answer - wanted).square().mean()
    )
