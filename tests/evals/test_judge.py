"""A published network as judge: its answers are torchvision's own, among all classes and some."""

from collections.abc import Callable

import pytest
import torch
from command import ROOT
from omegaconf import OmegaConf
from safetensors.torch import save_file
from test_evals import evidence, predictions
from torchvision.models import ResNet50_Weights, SqueezeNet1_1_Weights, squeezenet1_1

from unrelearn.config.denoisers import RESNET
from unrelearn.data import imagenette
from unrelearn.evals import judge

WEIGHTS = "SqueezeNet1_1_Weights.IMAGENET1K_V1"
FITTING = ["eval.judge.file={}/published.pth", f"eval.judge.weights={WEIGHTS}"]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple:
    """(network, its file)."""
    torch.manual_seed(0)
    network = squeezenet1_1(weights=None).eval()
    with torch.no_grad():  # told apart by what they see, where fresh weights answer alike
        network.classifier[1].weight.mul_(100)
    folder = tmp_path_factory.mktemp("judge")
    torch.save(network.state_dict(), folder / "published.pth")
    save_file(network.state_dict(), folder / "published.safetensors")
    return network, folder


@pytest.mark.parametrize("name", ["published.pth", "published.safetensors"])
def test_shares_are_those_of_torchvision(made: tuple, name: str):
    network, folder = made
    g = torch.Generator().manual_seed(1)
    images = torch.randint(256, (6, 3, 40, 40), generator=g, dtype=torch.uint8)
    images[:3] //= 8
    with torch.inference_mode():
        answer = network(SqueezeNet1_1_Weights.IMAGENET1K_V1.transforms()(images))
    second = int(answer.argmax(1)[0])
    first = (second + 1) % 1000  # a class it does not see
    classes = [first, 7, second, 11]  # of four classes of the data set
    labels = torch.tensor([2, 2, 2, 2, 0, 0])
    drawn = {"forget/1.0": images, "forget/1.0/labels": labels}
    drawn |= {"retain/1.0": images[:2], "retain/1.0/labels": torch.tensor([0, 1])}
    seen = predictions([2] * 6, [2] * 6)
    given = evidence({"1.0": seen}, {"1.0": predictions([0, 1], [0, 1])}, drawn=drawn)
    found = judge.run(given, str(folder / name), WEIGHTS, classes, batch_size=4)["1.0"]
    right = answer.argmax(1) == torch.tensor(classes)[labels]
    assert found["value"] == right.double().mean().item()
    among = answer[:, classes].argmax(1) == labels
    assert found["among"]["value"] == among.double().mean().item()
    right = answer[:2].argmax(1) == torch.tensor(classes[:2])
    assert found["retained"]["value"] == right.double().mean().item()
    assert found["n"] == 6 and 0 < found["value"] < 1


def test_the_ten_of_imagenette_are_where_torchvision_has_them():
    given = OmegaConf.load(ROOT / "conf" / "eval" / "judge.yaml")
    names = ResNet50_Weights.IMAGENET1K_V2.meta["categories"]
    assert [names[number] for number in given.classes] == list(imagenette.WORDS.values())
    assert given.weights == RESNET


@pytest.mark.parametrize(
    ("typed", "says"),
    [
        (["eval.judge.file={}/none.pth"], "eval.judge.file={}/none.pth: no such file"),
        (["eval.judge.file={}/published.pth"], "is not ResNet50_Weights.IMAGENET1K_V2"),
        (
            ["eval.judge.file={}/published.pth", "eval.judge.weights=resnet"],
            "eval.judge.weights=resnet: is no weights of torchvision",
        ),
        (
            [*FITTING, "eval.judge.classes=[1,2]"],
            "eval.judge.classes: has 2, and the data set 10",
        ),
        (
            [*FITTING, "eval.judge.classes=[0,1,2,3,4,5,6,7,8,1000]"],
            "must be numbers from 0 to 999",
        ),
        ([*FITTING, "eval.judge.classes=7"], "eval.judge.classes=7: "),
    ],
)
def test_a_judge_that_can_not_be(
    made: tuple, complaint: Callable[..., list[str]], typed: list[str], says: str
):
    (line,) = complaint("eval=[judge]", *(word.format(made[1]) for word in typed))
    assert says.format(made[1]) in line and "Type" in line
