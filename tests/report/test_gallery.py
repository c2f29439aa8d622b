"""One figure of what every method draws, before and after the attacks of a verdict."""

from pathlib import Path

import numpy as np
from made_up import run_of, with_hits, write_run
from safetensors.numpy import save_file

from unrelearn.report.gallery import galleries
from unrelearn.report.panel import panels
from unrelearn.report.records import collect
from unrelearn.report.table import results

METHODS, ATTACKS = ("retrain", "dimum"), ("none", "dimra", "embedding_inversion")


def made(folder: Path) -> list:
    for method in METHODS:
        for attack in ATTACKS:
            write_run(folder, with_hits(run_of(method, attack)))
    (panel,) = panels(results(collect([folder / "runs"])))
    return galleries(panel)


def test_without_sample_files_there_is_no_figure(tmp_path: Path):
    assert made(tmp_path) == []


def test_each_method_has_a_row_from_the_same_noise(tmp_path: Path):
    for method in METHODS:
        for attack in ATTACKS:
            for row in run_of(method, attack)["rows"]:
                folder = tmp_path / row["samples"]
                folder.mkdir(parents=True, exist_ok=True)
                images = np.zeros((16, 3, 8, 8), np.uint8)
                images[:] = 10 * np.arange(16)[:, None, None, None]  # told apart by their start
                tensors = {"forget/1.0": images, "forget/1.0/labels": np.full(16, 7)}
                save_file(tensors, folder / "samples.safetensors")
    (title, figure), *others = made(tmp_path)
    assert title.endswith("guidance 1, the same noise in each column") and not others
    grid = np.array(figure.axes).reshape(3, 3)
    heads = [axes.get_title(loc="left") for axes in grid[0]]
    assert heads == ["before", "after DiMRA", "after embedding inversion"]
    assert [line[0].texts[0].get_text() for line in grid] == ["original", "retrain", "DiMUM"]
    drawn = [axes.images[0].get_array() for line in grid[1:] for axes in line]
    assert all((each == drawn[0]).all() for each in drawn)
    shown = drawn[0][32, 32 :: drawn[0].shape[0] + 4, 0]
    assert shown.tolist() == [0, 10, 20, 30, 40, 50]
    assert not grid[0][1].images  # of the original there is but one strip
