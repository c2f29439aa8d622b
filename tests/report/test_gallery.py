"""One figure of what every method draws, before and after the attacks of a verdict."""

from pathlib import Path

import numpy as np
import pytest
from made_up import run_of, with_hits, write_run
from safetensors.numpy import save_file

from unrelearn.report.gallery import galleries
from unrelearn.report.panel import panels
from unrelearn.report.records import collect
from unrelearn.report.table import results

ATTACKS = ("none", "dimra", "embedding_inversion")


def figures(folder: Path, *methods: str) -> list:
    for method in methods:
        for attack in ATTACKS:
            write_run(folder, with_hits(run_of(method, attack)))
    (panel,) = panels(results(collect([folder / "runs"])))
    return galleries(panel)


def draw(folder: Path, *methods: str) -> None:
    """Sample files in which an image is told by its start."""
    images = np.zeros((16, 3, 8, 8), np.uint8)
    images[:] = 10 * np.arange(16)[:, None, None, None]
    tensors = {"forget/1.0": images, "forget/1.0/labels": np.full(16, 7)}
    for method in methods:
        for attack in ATTACKS:
            for row in run_of(method, attack)["rows"]:
                (folder / row["samples"]).mkdir(parents=True, exist_ok=True)
                save_file(tensors, folder / row["samples"] / "samples.safetensors")


def test_without_sample_files_there_is_no_figure(tmp_path: Path):
    assert figures(tmp_path, "retrain", "dimum") == []


@pytest.mark.parametrize("methods", [("retrain", "dimum"), ("original", "retrain", "dimum")])
def test_each_method_has_a_row_from_the_same_noise(methods: tuple[str, ...], tmp_path: Path):
    draw(tmp_path, *methods)
    (title, figure), *others = figures(tmp_path, *methods)
    assert title.endswith("guidance 1, the same noise in each column") and not others
    grid = np.array(figure.axes).reshape(3, 3)
    heads = [axes.get_title(loc="left") for axes in grid[0]]
    assert heads == ["before", "after DiMRA", "after embedding inversion"]
    assert [line[0].texts[0].get_text() for line in grid] == ["original", "retrain", "DiMUM"]
    shown = [axes.images[0].get_array() for line in grid[1:] for axes in line]
    assert all((each == shown[0]).all() for each in shown)
    assert shown[0][32, 32 :: shown[0].shape[0] + 4, 0].tolist() == [0, 10, 20, 30, 40, 50]
    assert bool(grid[0][1].images) == ("original" in methods)  # whether it was attacked
