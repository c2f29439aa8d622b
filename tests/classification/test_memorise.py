"""Which images models remember, by models that each saw half of them."""

from collections.abc import Callable
from pathlib import Path

import torch
from runs import Cell, execute
from test_run import TINY

from unrelearn import tracks
from unrelearn.config.classifiers import FIRST_HALF
from unrelearn.stages.images import images
from unrelearn.stages.memorise import Memorisation, halves


def test_halves_are_each_others_rest_and_differ_from_pair_to_pair():
    seen = halves(6, 101)
    assert seen.sum(0).tolist() == [3] * 101
    assert torch.equal(seen[0], ~seen[1]) and not torch.equal(seen[0], seen[2])
    assert torch.equal(halves(2, 101), seen[:2])  # more models are these and others


def test_what_is_memorised_most_is_what_was_labelled_wrong(
    compose: Callable[..., dict], tmp_path: Path
):
    words = [*TINY, "model.pretrain.max_steps=400", "model.network.widths=[8,16,16]"]
    words += ["references.halves=4", "references.count=2", "stages=[pretrain,unlearn]"]
    words += ["method=random_label", f"paths.outputs={tmp_path}"]
    assert execute(compose(*words, "forget=memorised:0.1"), "test") is None
    cell = Cell(compose(*words, "forget=memorised:0.1"))
    data = images(cell)
    wrong = data.true_labels != data.train.labels
    forgotten = cell.kind.mask(data)
    assert forgotten.sum() == round(0.1 * len(data.train))
    assert wrong[forgotten].float().mean() > 2 * wrong.float().mean()
    scores = Memorisation(cell).read()
    assert scores[forgotten].min() >= scores[~forgotten].max()
    assert scores.abs().max() <= 1 and not scores.isnan().any()
    # other models: another artefact, and so another forget set in every key
    other = Cell(compose(*words, "references.halves=6", "forget=memorised:0.1"))
    assert Memorisation(other).key != Memorisation(cell).key
    augmented = Cell(compose(*words, "augment.base=crop_flip", "forget=memorised:0.1"))
    kinds = [one.kind.forgotten for one in (cell, other, augmented)]
    assert all(kinds.count(one) == 1 for one in kinds)
    about = [tracks.about(one)["forgotten"] for one in (cell, other)]
    assert about[0] != about[1]  # or a report would average two forget sets
    assert {one["seeds"] for one in (*kinds, *about)} == {FIRST_HALF}  # whose models they were
