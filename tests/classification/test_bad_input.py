"""Bad input of classifiers, to the command itself: one line each, exit code 2, nothing computed."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from unrelearn.errors import UsageError

# {} is the folder of the test, which holds lists of indexes and nothing else
BAD = {
    "forget=random:0": ["forget=random:0: ", "more than 0 and less than 1", "forget=random:0.1"],
    "forget=random:1.5": ["forget=random:1.5: ", "less than 1", "type forget=random:0.1"],
    "forget=file:{}/outside.npy": [
        "forget=file:{}/outside.npy: ",
        "1 of 2 indexes are out of range, the first is 1297",
        "save whole numbers from 0 to 1296",
    ],
    "forget=file:{}/repeated.npy": [
        "forget=file:{}/repeated.npy: ",
        "1 indexes are repeated, the first is 5",
        "each once, by numpy.save",
    ],
    "forget=file:{}": ["forget=file:{}: is a folder", "Type forget=file:/path/indexes.npy"],
    "forget=[0,1,2,3,4,5,6,7,8,9]": [
        "forget=[0, 1, 2, 3, 4, 5, 6, 7, 8, 9]: ",
        "every class",
        "retain set empty",
    ],
    "method=esd": ["method=esd: ", "another kind of model", "method="],
    "stages=[oracle]": ["stages=", "a classifier has none", "pretrain, unlearn, attack, evaluate"],
    "+method.parameters=key_value": [
        "method.parameters=key_value: ",
        "no cross-attention",
        "Leave method.parameters out",
    ],
    "audit.fail_above=0.05": ["audit.fail_above=0.05: ", "only weights from elsewhere"],
    "augment.base=foo": ["augment.base=foo: ", "crop_flip", "Type augment.base=none"],
    "augment.base=null": ["augment.base=null: ", "crop_flip", "Type augment.base=none"],
    "augment.base=crop_flip augment.retain=foo": ["augment.retain=foo: ", "crop_flip"],
    "dataset=svhn dataset.root={} dataset.download=false": [
        "dataset.root={}: missing train_32x32.mat, test_32x32.mat",
        "type dataset.root=/path",
        "or dataset.download=true",
    ],
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "lists"
    made.mkdir()
    np.save(made / "outside.npy", np.array([0, 1297]))
    np.save(made / "repeated.npy", np.array([0, 5, 5]))
    return made


@pytest.mark.parametrize("overrides", BAD)
def test_one_line_says_what_is_wrong_and_what_to_type(
    overrides: str, complaint: Callable[..., list[str]], folder: Path
):
    words = [word.format(folder) for word in overrides.split(" ")]
    (line,) = complaint("experiment=classification", *words)
    key, *parts = (part.format(folder) for part in BAD[overrides])
    assert line.startswith(f"error: {key}"), line
    assert all(part in line for part in parts), line


def test_measurements_of_another_kind_say_what_fits(compose: Callable[..., dict]):
    for words, fitting in (
        (["experiment=classification", "model=unet_tiny"], "or leave experiment=... out for all"),
        (["model=fast"], "or experiment=classification for all that fits"),
    ):
        with pytest.raises(UsageError) as error:
            compose(*words)
        said = [line for line in error.value.problems if "measures another kind" in line]
        assert said and all(fitting in line for line in said)
