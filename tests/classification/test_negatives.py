"""The class that means nothing: what it is trained on, and that noise, greys and ruined images end
there while digits do not.
"""

import pytest
import torch
from tiny import SCHEDULE, digits, network, new_task, train
from torch import nn

from unrelearn.classification import negatives
from unrelearn.classification.classifier import Classifier, halves, new_classifier
from unrelearn.classification.training import EMPTY, VEILED, ClassifierTraining, OracleRecipe
from unrelearn.data import ImageSet, MappedImages, to_model_range, to_uint8
from unrelearn.data.digits import Digits
from unrelearn.diffusion.sampling import sample

NOTHING = 10


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize(
    "make", [*dict.fromkeys(negatives.KINDS), negatives.draw], ids=lambda make: make.__name__
)
def test_negatives_are_a_function_of_the_images_and_the_generator(make):
    images = torch.rand(9, 3, 8, 8, generator=generator(1)) * 2 - 1
    before, mean = images.clone(), images.mean(0)
    given = (mean, images) if make is negatives.draw else (images, mean)
    made, again, others = (make(*given, generator(seed)) for seed in (3, 3, 4))
    assert made.shape == images.shape and made.dtype == torch.float32 and made.isfinite().all()
    assert (
        torch.equal(made, again) and not torch.equal(made, others) and torch.equal(images, before)
    )
    assert len(made.flatten(1).unique(dim=0)) == 9
    if make is negatives.draw:
        assert made.abs().max() <= 1


def test_negatives_show_nothing_of_the_images_they_are_made_of():
    images = to_model_range(digits(12).images)
    mean = images.mean(0)
    permuted = negatives.permuted(images, mean, generator())
    assert torch.equal(
        permuted.flatten(1).sort(1).values, images.flatten(1).sort(1).values
    )  # the same pixels, elsewhere
    centred = (images - mean).flatten(1)
    for make in dict.fromkeys(negatives.KINDS):
        made = make(images, mean, generator())
        share = (centred * (made - mean).flatten(1)).sum(1) / centred.square().sum(1)
        assert abs(share.mean()) < 0.3, make.__name__
    seen = negatives.veiled(images, generator())
    assert (centred * (seen - mean).flatten(1)).sum(1).div(centred.square().sum(1)).mean() > 0.6


def test_the_halves_are_the_even_and_the_odd_images_of_each_class():
    labels = torch.tensor([1, 0, 1, 1, 0, 0, 2, 1])
    data = ImageSet(
        torch.arange(8, dtype=torch.uint8).view(8, 1, 1, 1).expand(8, 1, 4, 4).contiguous(), labels
    )
    first, second = halves(data)
    assert first.images[:, 0, 0, 0].tolist() == [0, 1, 3, 5, 6] and second.images[
        :, 0, 0, 0
    ].tolist() == [2, 4, 7]
    assert first.labels.tolist() == [1, 0, 1, 0, 2] and second.labels.tolist() == [1, 0, 1]
    mapped = halves(ImageSet(MappedImages(data.images), labels))[1]
    assert isinstance(mapped.images, MappedImages) and torch.equal(mapped.images[:], second.images)
    train = Digits().load().train
    whole = ImageSet.join(list(halves(train)))
    assert torch.equal(whole.labels.bincount(), train.labels.bincount()) and len(whole) == len(
        train
    )


def training(
    architecture: str = "plain", *, width: int = 8, data: ImageSet | None = None, **changes
) -> ClassifierTraining:
    classifier = new_classifier(
        2, architecture=architecture, image_size=8, channels=1, num_classes=10, width=width
    )
    sizes = dict(
        max_steps=4,
        batch_size=18,
        learning_rate=4e-3,
        weight_decay=1e-2,
        label_smoothing=0.05,
        shift=0,
    )
    recipe = OracleRecipe(**sizes | changes)
    return ClassifierTraining(recipe, classifier, data or digits(), seed=2, flip=False)


def test_a_step_has_its_share_of_nothing_and_of_noisy_images(monkeypatch: pytest.MonkeyPatch):
    module = training(batch_size=18)
    monkeypatch.setattr(type(module), "global_step", 5)
    seen = []
    module.network.features = lambda x: seen.append(x.clone()) or torch.zeros(len(x), 64)
    monkeypatch.setattr(
        torch.nn.functional,
        "cross_entropy",
        lambda logits, labels, **_: seen.append(labels) or logits.sum(),
    )
    for _ in range(2):
        module.training_step(None, 0)
    x, labels, again, same = seen
    assert torch.equal(x, again) and torch.equal(labels, same)  # a function of seed and step
    place = torch.arange(18)
    assert place[labels == NOTHING].tolist() == place[EMPTY].tolist() == [3, 7, 11, 15]
    clean = place[~torch.isin(place, torch.cat([place[EMPTY], place[VEILED]]))].tolist()
    real = to_model_range(digits().images)
    for k in range(18):
        assert any(torch.equal(x[k], image) for image in real) == (k in clean), k
    assert len(clean) == 9


@pytest.fixture(scope="module", params=["plain", "residual", "resnet"])
def trained(request, tmp_path_factory) -> Classifier:
    """As an oracle is made, at half its width and in fewer steps."""
    module = training(
        request.param,
        width=16,
        data=halves(Digits().load().train)[0],
        batch_size=128,
        max_steps=300,
        shift=1,
        learning_rate=8e-3,
    )
    train(module, tmp_path_factory.mktemp("oracle"), log_every_n_steps=100)
    return module.network.eval()


def shows_nothing() -> dict[str, torch.Tensor]:
    """uint8 images, by what they are."""
    g, n = generator(7), 300
    mean = to_model_range(Digits().load().train.images).mean(0)
    return {
        "uniform noise": torch.randint(256, (n, 1, 8, 8), generator=g, dtype=torch.uint8),
        "Gaussian": to_uint8(torch.randn(n, 1, 8, 8, generator=g)),
        "binary noise": torch.randint(2, (n, 1, 8, 8), generator=g, dtype=torch.uint8) * 255,
        "greys": (
            torch.arange(256, dtype=torch.uint8).view(-1, 1, 1, 1).expand(-1, 1, 8, 8).contiguous()
        ),
        "mean digit + noise": to_uint8(mean + 0.2 * torch.randn(n, 1, 8, 8, generator=g)),
    }


def test_what_shows_nothing_is_called_nothing_and_no_digit_is(trained: Classifier):
    for name, images in shows_nothing().items():
        seen = trained.look(images)[0].argmax(1)
        assert (seen == NOTHING).double().mean() >= 0.95, (
            name,
            seen.bincount(minlength=11).tolist(),
        )
        assert (seen == new_task().other_class(7)).double().mean() <= 0.02, (
            name
        )  # 8, the default stand-in of the default class
    test = Digits().load().test
    seen = trained.look(test.images)[0].argmax(1)
    assert (seen == NOTHING).double().mean() <= 0.01 and (
        seen == test.labels
    ).double().mean() >= 0.95


def test_what_a_network_of_random_weights_draws_is_called_nothing(trained: Classifier):
    images = sample(network(1), torch.full((100,), 7), schedule=SCHEDULE, num_inference_steps=10)
    assert (trained.look(images)[0].argmax(1) == NOTHING).double().mean() >= 0.9


def test_a_digit_that_is_seen_through_noise_keeps_its_name(trained: Classifier):
    test = Digits().load().test
    noise = torch.randn(test.images.shape, generator=generator(3))
    for signal, named, nothing in (
        (0.9, 0.8, 0.05),
        (0.1, 0.1, 0.8),
    ):  # at least, at most; the other way round below
        x = to_uint8(
            (signal * to_model_range(test.images) + (1 - signal**2) ** 0.5 * noise).clamp(-1, 1)
        )
        seen = trained.look(x)[0].argmax(1)
        right, empty = (seen == test.labels).double().mean(), (seen == NOTHING).double().mean()
        assert (
            (right >= named and empty <= nothing)
            if signal > 0.5
            else (right <= named and empty >= nothing)
        ), (right, empty)


def test_standardised_weights_have_no_size_and_images_are_halved_as_in_the_others():
    shape = dict(image_size=32, channels=3, num_classes=10, width=8)
    networks = [
        new_classifier(0, architecture=name, **shape).eval()
        for name in ("plain", "residual", "resnet")
    ]
    assert len({network.body[-2].in_features for network in networks}) == 1
    assert len({sum(isinstance(m, nn.MaxPool2d) for m in n.body) for n in networks}) == 1
    images = torch.randint(256, (5, 3, 32, 32), generator=generator(0), dtype=torch.uint8)
    resnet = networks[-1]
    before = resnet.look(images)[0]
    with torch.no_grad():
        for weight in resnet.parameters():
            if weight.ndim == 4:
                weight.mul_(100).add_(1)
    assert torch.allclose(before, resnet.look(images)[0], atol=1e-4)
    (first, *_) = [m for m in resnet.modules() if isinstance(m, nn.Conv2d)]
    used = first(torch.eye(27).view(27, 3, 3, 3))[:, :, 1, 1].T  # (outputs, 27): its weights
    assert torch.allclose(used.mean(1), torch.zeros(8), atol=1e-4)
    assert torch.allclose(used.square().sum(1), torch.ones(8), atol=1e-3)
