"""Many classifiers at once are the same as one by one."""

import pytest
import torch
from torch.nn import functional as F

from unrelearn.classification.bank import Bank, Member, batches, unit
from unrelearn.classification.networks import Network, NetworkConfig, build
from unrelearn.classification.recipe import Recipe
from unrelearn.data import ImageData
from unrelearn.data.digits import Digits

CONFIG = NetworkConfig("fast", 8, 10, widths=(4, 6, 8))
RECIPE = Recipe(
    max_steps=8, batch_size=20, learning_rate=0.02, grad_clip=0.3, augmentation="crop_flip"
)
# of different sizes, and such that one of them ends an epoch in the middle of a batch
MEMBERS = [
    Member(3, torch.arange(0, 500)),
    Member(4, torch.arange(250, 300)),
    Member(3, torch.arange(9, 90)),
]


@pytest.fixture(scope="module")
def data() -> ImageData:
    return Digits(label_noise=0.2).load()


@pytest.fixture(scope="module")
def bank(data: ImageData) -> Bank:
    trained = Bank(CONFIG, MEMBERS)
    trained.train(data.train, RECIPE)
    return trained


def trained_alone(member: Member, data: ImageData) -> Network:
    """PyTorch's own loop."""
    network = build(CONFIG, member.seed).train()
    optimizer = torch.optim.SGD(network.parameters(), 0.02, momentum=0.9, weight_decay=5e-4)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.02, total_steps=RECIPE.max_steps)
    stream = batches(data.train, member, RECIPE)
    for _ in range(RECIPE.max_steps):
        x, labels = next(stream)
        optimizer.zero_grad()
        F.cross_entropy(network(x), labels).backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), RECIPE.grad_clip)
        optimizer.step()
        schedule.step()
    return network.eval()


@pytest.mark.parametrize("number", range(3))
def test_a_member_is_what_it_is_by_itself(number: int, bank: Bank, data: ImageData):
    alone = trained_alone(MEMBERS[number], data)
    ours, theirs = bank.state_dict(number), alone.state_dict()
    assert ours.keys() == theirs.keys()
    # in 8 steps of a small rate rounding has not grown: of 32 bits, in another order of sums
    for name, value in theirs.items():  # running statistics of BatchNorm among them
        assert torch.allclose(ours[name].double(), value.double(), rtol=1e-5, atol=1e-5), name
    start = build(CONFIG, MEMBERS[number].seed).state_dict()
    moved = (ours["head.weight"] - start["head.weight"]).abs().max()
    assert moved > 1e-4  # it did learn
    assert ours["body.4.num_batches_tracked"] == RECIPE.max_steps


def test_predictions_are_those_of_each_network(bank: Bank, data: ImageData):
    logits = bank.predict(data.test.images, batch_size=77)
    assert logits.shape == (3, 500, 10)
    for number in range(3):
        network = build(CONFIG, 0)
        network.load_state_dict(bank.state_dict(number))
        with torch.inference_mode():
            expected = network.eval()(unit(data.test.images))
        assert torch.allclose(logits[number], expected, atol=1e-5)
    assert not torch.allclose(logits[0], logits[2], atol=1e-3)  # one seed, other images


def test_predicting_changes_no_statistics(bank: Bank, data: ImageData):
    before = bank.state_dict(0)
    bank.predict(data.test.images[:50])
    assert all(torch.equal(before[name], value) for name, value in bank.state_dict(0).items())


def test_batches_are_epochs_of_the_members_images_alone(data: ImageData):
    indexes = torch.arange(250, 300)
    stream = batches(data.train, Member(0, indexes), Recipe(1, 20, 0.1))
    images = torch.cat([next(stream)[0] for _ in range(5)])  # two epochs
    own = sorted(image.numpy().tobytes() for image in unit(data.train.images[indexes]))
    for epoch in images.split(50):
        assert sorted(image.numpy().tobytes() for image in epoch) == own
    assert not torch.equal(*images.split(50))
