"""FID in 64 features: the first layers are torch-fidelity's, the distance is torchmetrics' own."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import command
import pytest
import torch
import torch_fidelity.feature_extractor_inceptionv3 as fidelity
from runs import Cell
from test_evals import evidence, predictions
from torch import Tensor
from torchmetrics.image.fid import FrechetInceptionDistance

from unrelearn.evals import fid_64
from unrelearn.evals.fid_64 import NAME, Early

TINY = [word for word in command.TINY if word.partition(".")[0] != "trainer"]


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The whole network as it is published, its weights drawn."""
    path = tmp_path_factory.mktemp("weights") / NAME
    torch.save({}, path)
    torch.manual_seed(0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fidelity.FeatureExtractorInceptionV3, "load_state_dict", lambda *_: None)
        network = fidelity.FeatureExtractorInceptionV3("drawn", ["64"], str(path))
    state = network.state_dict()
    for name, value in state.items():
        if name.endswith("running_mean"):
            value.normal_()
        elif name.endswith("running_var"):
            value.uniform_(0.5, 2)
    torch.save(state, path)
    return path


def images(n: int, channels: int, size: int, seed: int = 0) -> Tensor:
    g = torch.Generator().manual_seed(seed)
    return torch.randint(256, (n, channels, size, size), generator=g, dtype=torch.uint8)


@pytest.mark.parametrize("size", [8, 299, 320])
def test_features_are_those_of_torch_fidelity(file: Path, size: int):
    network = fidelity.FeatureExtractorInceptionV3("published", ["64"], str(file))
    pictures = images(3, 3, size)
    mine = Early(str(file), "cpu")
    torch.testing.assert_close(mine(pictures, batch_size=2), network(pictures)[0])
    grey = images(1, 1, size)
    torch.testing.assert_close(mine(grey), network(grey.expand(-1, 3, -1, -1))[0])
    assert mine(pictures[:0]).shape == (0, 64)


def test_the_distance_is_that_of_torchmetrics(file: Path):
    theirs = FrechetInceptionDistance(64, feature_extractor_weights_path=str(file), antialias=False)
    drawn, real = images(10, 3, 16), images(12, 3, 16, seed=1) // 2
    theirs.update(real, real=True)
    theirs.update(drawn, real=False)
    look = Early(str(file), "cpu")
    seen, train, test = (
        replace(predictions([0] * len(shown), [0] * len(shown)), early_features=look(shown))
        for shown in (drawn, real, real[:10])
    )
    given = evidence(retain={"1.0": seen}, train=train, test=test)
    found = fid_64.run(given, str(file))["1.0"]
    assert found["n"] == 10 and found["reference_n"] == 12
    assert found["value"] == pytest.approx(float(theirs.compute()), rel=1e-3)
    assert found["floor"] < found["value"] / 10


def test_a_run_measures_it_beside_the_others(
    compose: Callable, file: Path, monkeypatch: pytest.MonkeyPatch
):
    def of_thumbs(self: Early, images: Tensor) -> Tensor:  # 299 pixels each take minutes
        return images.flatten(1).float()

    monkeypatch.setattr(Early, "__call__", of_thumbs)
    words = [*TINY, "method=original", "attack=none", f"eval.fid_64.file={file}"]
    record = Cell(compose(*words, "eval=[forget_accuracy,fid_64]")).complete()
    for row in record["rows"]:
        assert row["metrics"]["fid_64"]["1.0"]["value"] > 0


@pytest.mark.parametrize(
    ("given", "says"), [("/nowhere", "no such file, and none is fetched here"), ("{}", "is not")]
)
def test_a_file_that_it_is_not(complaint: Callable, tmp_path: Path, given: str, says: str):
    torch.save({"fc.bias": torch.zeros(1000)}, tmp_path / "other.pth")  # as torchvision's
    path = given.format(tmp_path / "other.pth")
    (line,) = complaint("eval=[fid_64]", f"eval.fid_64.file={path}")
    assert line.startswith(f"error: eval.fid_64.file={path}: {says}") and NAME in line
