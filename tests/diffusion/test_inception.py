"""The Inception network's loading, resizing and slicing, on a small network with the interface of
the published file.

The published file is 96 MB and not here; where it is, `UNRELEARN_INCEPTION=FILE python -m pytest
tests/diffusion/test_inception.py` also compares the whole of it with clean-fid.
"""

import os
import subprocess
import sys
import warnings
from pathlib import Path

import cleanfid.downloads_helper
import cleanfid.fid
import pytest
import torch
from cleanfid.inception_torchscript import InceptionV3W
from PIL import Image
from small_inception import StandIn, scripted, written
from torch import Tensor, nn
from torch.nn import functional as F

from unrelearn.artifact import sha256
from unrelearn.diffusion import inception
from unrelearn.diffusion.inception import NAME, Inception, weights
from unrelearn.errors import UsageError

REAL = os.environ.get("UNRELEARN_INCEPTION")


@pytest.fixture(scope="module")
def stand_in(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return written(tmp_path_factory.mktemp("weights") / NAME)


def images(n: int, channels: int, size: int = 32) -> Tensor:
    """Coarse noise, so that images still differ when they are made smaller."""
    coarse = torch.randint(
        256, (n, channels, 8, 8), generator=torch.Generator().manual_seed(n), dtype=torch.uint8
    )
    return F.interpolate(coarse, (size, size))


def as_clean_fid_sees(pictures: Tensor, file: Path, folder: Path) -> Tensor:
    """Through files and its own loader, in its mode `clean`."""
    paths = []
    for i, picture in enumerate(pictures.permute(0, 2, 3, 1).numpy()):
        paths.append(str(folder / f"{i:03}.png"))
        Image.fromarray(picture.squeeze()).save(paths[-1])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        network = InceptionV3W(str(file.parent), download=False)
    return torch.from_numpy(
        cleanfid.fid.get_files_features(
            paths,
            model=network,
            num_workers=0,
            batch_size=4,
            mode="clean",
            device=torch.device("cpu"),
            verbose=False,
        )
    )


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", [8, 32, 320])
def test_features_are_those_of_clean_fid(stand_in: Path, tmp_path: Path, channels: int, size: int):
    pictures = images(6, channels, size)
    features, _ = Inception(stand_in, "cpu").look(pictures, batch_size=4)
    assert features.shape == (6, 2048) and features.dtype == torch.float32
    assert features.std(0).mean() > 0.01  # the images are told apart
    torch.testing.assert_close(
        features, as_clean_fid_sees(pictures, stand_in, tmp_path), rtol=1e-5, atol=1e-6
    )


def agrees_with_its_own_forward(file: Path) -> None:
    pictures = images(3, 3, 299)  # resizing leaves this size alone
    features, probabilities = Inception(file, "cpu").look(pictures)
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore", FutureWarning)
        network = torch.jit.load(str(file)).eval()
        torch.testing.assert_close(
            features, network(pictures, return_features=True), rtol=1e-3, atol=1e-4
        )
        torch.testing.assert_close(
            probabilities, network(pictures, no_output_bias=True), rtol=1e-3, atol=1e-6
        )
    assert probabilities.shape == (3, 1008) and probabilities.dtype == torch.float32
    torch.testing.assert_close(probabilities.sum(1), torch.ones(3))
    assert probabilities.max() > 0.02


def test_probabilities_are_the_network_s_own_without_the_bias(stand_in: Path):
    agrees_with_its_own_forward(stand_in)


def test_grey_images_are_the_same_as_in_three_equal_channels(stand_in: Path):
    network, grey = Inception(stand_in, "cpu"), images(3, 1)
    for ours, theirs in zip(network.look(grey), network.look(grey.repeat(1, 3, 1, 1)), strict=True):
        assert torch.equal(ours, theirs)


def test_slices_are_parts_of_the_whole(stand_in: Path):
    network, pictures = Inception(stand_in, "cpu"), images(7, 3)
    whole = network.look(pictures, batch_size=7)
    parts = [
        network.look(pictures[piece], batch_size=2)
        for piece in (slice(0, 3), slice(3, 3), slice(3, 7))
    ]
    for found, pieces in zip(whole, zip(*parts, strict=True), strict=True):
        torch.testing.assert_close(torch.cat(pieces), found, rtol=1e-3, atol=1e-6)


@pytest.mark.skipif(REAL is None, reason="needs the published file; set UNRELEARN_INCEPTION=FILE")
def test_the_published_file_agrees_with_clean_fid_and_with_itself(tmp_path: Path):
    (tmp_path / NAME).symlink_to(Path(REAL).resolve())
    assert sha256(tmp_path / NAME) == inception.SHA256
    pictures = images(4, 3)
    features, _ = Inception(tmp_path / NAME, "cpu").look(pictures)
    torch.testing.assert_close(
        features, as_clean_fid_sees(pictures, tmp_path / NAME, tmp_path), rtol=1e-4, atol=1e-5
    )
    agrees_with_its_own_forward(tmp_path / NAME)


def test_only_those_who_look_load_clean_fid_and_nobody_needs_torchvision(stand_in: Path):
    code = (
        "import sys; sys.modules['torchvision'] = None\nimport torch; from pathlib import Path;"
        " from unrelearn.diffusion.inception import Inception\nassert 'cleanfid' not in"
        " sys.modules\nprint(Inception(Path(sys.argv[1]), 'cpu').look(torch.zeros(1, 3, 8, 8,"
        " dtype=torch.uint8))[0].shape)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(stand_in)], capture_output=True, text=True, timeout=900
    )
    assert done.stdout.strip() == "torch.Size([1, 2048])", done.stderr


# --------------------------------------------------------------------------------- finding the file


def line_of(error: pytest.ExceptionInfo) -> str:
    (line,) = error.value.problems
    assert "\n" not in line
    return line


def test_a_file_that_is_given_is_taken_and_else_the_one_in_the_cache(
    stand_in: Path, tmp_path: Path
):
    assert weights(str(stand_in), tmp_path, download=False) == stand_in
    assert weights(None, stand_in.parent, download=False) == stand_in


def test_a_file_that_is_given_must_be_there(tmp_path: Path):
    for path in (tmp_path / "none.pt", tmp_path):
        with pytest.raises(UsageError) as error:
            weights(str(path), tmp_path, download=True)
        assert line_of(error).startswith(
            f"paths.inception_weights={path}: no such file. Type paths.inception_weights=FILE"
        )


def test_without_the_file_one_line_says_where_to_put_it(tmp_path: Path):
    with pytest.raises(UsageError) as error:
        weights(None, tmp_path / "data", download=False)
    line = line_of(error)
    assert line.startswith("eval.fid") and line.endswith("type paths.inception_weights=FILE.")
    assert f"put {NAME} (" in line and f") into {tmp_path / 'data'} or" in line
    assert not (tmp_path / "data").exists()


def published_at(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cleanfid.downloads_helper, "inception_url", file.as_uri())


def test_the_file_is_downloaded_once_and_whole(
    stand_in: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    published_at(stand_in, monkeypatch)
    monkeypatch.setattr(inception, "SHA256", sha256(stand_in))
    found = weights(None, tmp_path / "data", download=True)
    assert found == tmp_path / "data" / NAME and found.read_bytes() == stand_in.read_bytes()
    published_at(tmp_path / "gone.pt", monkeypatch)
    assert weights(None, tmp_path / "data", download=True) == found
    assert Inception(found, "cpu").look(images(1, 3))[0].shape == (1, 2048)


def test_a_download_that_is_not_the_published_file_is_refused(
    stand_in: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    for published, reason in ((stand_in, inception.SHA256), (tmp_path / "gone.pt", "No such file")):
        published_at(published, monkeypatch)
        with pytest.raises(UsageError) as error:
            weights(None, tmp_path / "data", download=True)
        line = line_of(error)
        assert (
            f"into {tmp_path / 'data'} or type paths.inception_weights=FILE (" in line
            and reason in line
        )
        assert not (tmp_path / "data" / NAME).exists()


class TooFewLogits(StandIn):
    def __init__(self):
        super().__init__()
        self.output = nn.Linear(2048, 1000)


def test_a_file_that_is_not_the_network_is_named(stand_in: Path, tmp_path: Path):
    whole, files = (
        stand_in.read_bytes(),
        [tmp_path / name for name in ("empty", "torn", "weights", "layer", "imagenet")],
    )
    files[0].touch()
    files[1].write_bytes(whole[: len(whole) // 2])
    torch.save({"weight": torch.zeros(2)}, files[2])
    scripted(nn.Linear(2, 2), files[3])
    scripted(TooFewLogits(), files[4])
    for file in files:
        with pytest.raises(UsageError) as error:
            Inception(file, "cpu")
        line = line_of(error)
        assert line.startswith(f"paths.inception_weights={file}: is not the network {NAME} (")
        assert "Type paths.inception_weights=FILE" in line
    assert "(1000, 2048)" in line
