"""Images that stay on disk give what the same images in memory give, to the bit; a thread reads
them ahead.
"""

import threading
import typing
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from test_resume import assert_same, train_in_two_parts
from tiny import classifier_training, denoising, digits, new_oracle, new_task, tensors, train

from unrelearn import distributed
from unrelearn.attacks.dimra import DiMRA
from unrelearn.attacks.few_shot import FewShot
from unrelearn.data import ImageSet, MappedImages
from unrelearn.diffusion.denoising import DenoiserPretraining, Denoising, DenoisingTask
from unrelearn.diffusion.memory import Memory, memory_set
from unrelearn.methods.dimum import DiMUM
from unrelearn.methods.finetune import Finetune
from unrelearn.methods.salun import SalUn
from unrelearn.reading import READER

SMALL = dict(batch_size=12, learning_rate=1e-3)


@pytest.fixture(scope="module")
def mapped(tmp_path_factory: pytest.TempPathFactory) -> Callable[[ImageSet], ImageSet]:
    """The same images, from a file that holds them in another order among others."""
    folder = tmp_path_factory.mktemp("mapped")

    def from_disk(data: ImageSet) -> ImageSet:
        path = folder / f"{len(list(folder.iterdir()))}.npy"
        order = torch.randperm(len(data), generator=torch.Generator().manual_seed(0))
        np.save(path, torch.cat([255 - data.images[:5], data.images[order]]).numpy())
        store = torch.from_numpy(np.load(path, mmap_mode="c"))
        return ImageSet(MappedImages(store, 5 + order.argsort()), data.labels)

    return from_disk


@pytest.fixture(scope="module")
def on_disk(mapped: Callable) -> Callable[[DenoisingTask], DenoisingTask]:
    whole = mapped(digits())

    def moved_there(task: DenoisingTask) -> DenoisingTask:
        forget, retain = (
            whole.of_classes(task.forget_classes, keep=keep) for keep in (True, False)
        )
        assert isinstance(retain.images, MappedImages)
        return replace(task, forget=forget, retain=retain)

    return moved_there


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, list[int]]]:
    """(thread, rows of the store) of each look at images on disk."""
    READER.submit(lambda: None).result()  # what another test has left it to read
    seen, read = [], MappedImages.__getitem__

    def watched(self, index):
        seen.append((threading.current_thread().name, self.rows[index].tolist()))
        return read(self, index)

    monkeypatch.setattr(MappedImages, "__getitem__", watched)
    return seen


def pretraining(task: DenoisingTask) -> Denoising:
    return denoising(
        DenoiserPretraining(max_steps=7, lr_schedule="one_cycle", ema_decay=0.9, **SMALL), task
    )


def dimum(task: DenoisingTask) -> Denoising:
    return denoising(DiMUM(memory="another_class", max_steps=7, **SMALL), task)


def few_shot(task: DenoisingTask) -> Denoising:
    return denoising(FewShot(num_images=4, budgets=[0, 7], **SMALL), task)


def salun(task: DenoisingTask) -> Denoising:
    return denoising(
        SalUn(
            retain_weight=1.0,
            saliency_fraction=0.5,
            saliency_guidance_scale=3.0,
            max_steps=7,
            **SMALL,
        ),
        task,
    )


TRAININGS = [pretraining, dimum, few_shot, salun]


def new(make: Callable) -> DenoisingTask:
    return new_task(() if make is pretraining else (3, 7), horizontal_flip=True)


# ----------------------------------------------------------------------------------------- training


@pytest.mark.parametrize("make", TRAININGS)
@pytest.mark.parametrize("limit", [None, 4])
def test_training_from_disk_is_training_from_memory(
    make: Callable, limit, on_disk: Callable, reads: list, tmp_path: Path
):
    memory = train(make(new(make)), tmp_path / "memory", batch_size_per_device=limit)
    assert not reads
    disk = train(make(on_disk(new(make))), tmp_path / "disk", batch_size_per_device=limit)
    assert reads
    assert_same(memory, disk)
    assert (memory.mask is None) == (disk.mask is None)
    for name, mask in (memory.mask or {}).items():
        assert torch.equal(mask, disk.mask[name])


def test_a_classifier_trained_from_disk_is_the_one_trained_from_memory(
    mapped: Callable, tmp_path: Path
):
    memory, disk = classifier_training(5), classifier_training(5)
    disk.task.retain = mapped(disk.task.retain)
    assert_same(train(memory, tmp_path / "memory"), train(disk, tmp_path / "disk"))


@pytest.mark.parametrize("make", [dimum, salun])
def test_a_stopped_run_goes_on_from_disk_to_the_same_bits(
    make: Callable, on_disk: Callable, tmp_path: Path
):
    whole = train(make(new(make)), tmp_path / "whole")
    assert_same(whole, train_in_two_parts(lambda: make(on_disk(new(make))), tmp_path / "parts", 5))


def test_looking_at_images_on_disk_is_looking_at_them_in_memory(mapped: Callable):
    memory, classifier = digits(), new_oracle()
    for a, b in zip(
        classifier.look(memory.images, 50), classifier.look(mapped(memory).images, 50), strict=True
    ):
        assert torch.equal(a, b)


# ------------------------------------------------------------------------------------ reading ahead


@pytest.mark.parametrize("passes", [1, 3])
def test_the_thread_reads_each_batch_but_the_first_of_each_term(
    passes: int, on_disk: Callable, reads: list, tmp_path: Path
):
    train(dimum(on_disk(new_task())), tmp_path, batch_size_per_device=12 // passes)
    by_main = [name for name, _ in reads if not name.startswith("images")]
    assert by_main == ["MainThread"] * 2
    assert (
        2 * 7 * passes <= len(reads) <= 2 * (7 * passes + 1)
    )  # after the last pass it reads for one that never comes
    assert {len(rows) for _, rows in reads} == {12 // passes}


class AtStep(Denoising):
    """Draws for the step that it is told."""

    global_step = 0


def test_what_was_read_ahead_is_used_for_nothing_else(on_disk: Callable):
    memory, disk = (
        AtStep(Finetune(max_steps=1, **SMALL), task) for task in (new_task(), on_disk(new_task()))
    )
    # the same again; other data at the next step; another term; a step back; a step left out
    for step, term, data in [
        (0, "a", "retain"),
        (0, "a", "retain"),
        (1, "a", "forget"),
        (1, "b", "retain"),
        (2, "a", "retain"),
        (2, "b", "forget"),
        (1, "b", "forget"),
        (5, "a", "retain"),
        (6, "a", "retain"),
    ]:
        memory.global_step = disk.global_step = step
        ours, expected = (
            tensors(module.draw(term, getattr(module.task, data))) for module in (disk, memory)
        )
        assert all(torch.equal(ours[name], value) for name, value in expected.items()), (
            step,
            term,
            data,
        )


def test_each_process_reads_ahead_its_own_share(
    on_disk: Callable, reads: list, monkeypatch: pytest.MonkeyPatch
):
    memory, disk = (
        AtStep(Finetune(max_steps=1, **SMALL), task) for task in (new_task(), on_disk(new_task()))
    )
    monkeypatch.setattr(distributed, "my_slice", lambda n: slice(n // 2, n))
    for step in range(3):
        memory.global_step = disk.global_step = step
        x_0 = disk.draw("retain", disk.task.retain).x_0
        assert torch.equal(x_0, memory.draw("retain", memory.task.retain).x_0) and len(x_0) == 6
    disk.reader.arriving["retain"][1].result()
    assert [name.split("_")[0] for name, _ in reads] == ["MainThread", "images", "images", "images"]


# --------------------------------------------------------------------------------------------- sets


@pytest.mark.parametrize("memory", typing.get_args(Memory))
def test_memory_of_real_images_stays_on_disk_and_is_the_same(memory: str, on_disk: Callable):
    task = replace(new_task((3, 7), oracle=new_oracle()), counterparts={3: 2, 7: 9})
    ours, theirs = (memory_set(t, memory, 4, None) for t in (task, on_disk(task)))
    assert isinstance(theirs.images, MappedImages) is (memory not in ("generated", "noise"))
    assert torch.equal(ours.images, theirs.images[:]) and torch.equal(ours.labels, theirs.labels)
    assert theirs.labels.tolist() == [3] * 4 + [7] * 4


def test_the_counterparts_of_the_task_are_the_memory(on_disk: Callable):
    task = replace(on_disk(new_task((3, 7))), counterparts={3: 2, 7: 9})
    memory, data = memory_set(task, "counterpart", None, None), digits()
    for c, other in ((3, 2), (7, 9)):
        found = memory.of_classes([c]).images[:]
        assert sorted(map(bytes, found.numpy())) == sorted(
            map(bytes, data.of_classes([other]).images.numpy())
        )
    module = denoising(DiMUM(memory="counterpart", max_steps=1, **SMALL), task)
    module.prepare()
    assert torch.equal(module.method.memory_data.images[:], memory.images[:])


def test_joined_sets_follow_each_other_and_stay_where_they_are(mapped: Callable):
    data = digits()
    for whole in (data, mapped(data)):
        joined = ImageSet.join(
            [whole.of_classes([4]), whole.of_classes([1]), whole.of_classes([4])]
        )
        assert (
            isinstance(joined.images, type(whole.images))
            and joined.labels.tolist() == [4] * 12 + [1] * 12 + [4] * 12
        )
        expected = [data.of_classes([c]).images for c in (4, 1, 4)]
        assert torch.equal(joined.images[:], torch.cat(expected)) and joined.images.shape == (
            36,
            1,
            8,
            8,
        )
        assert torch.equal(joined.of_classes([1]).images[:], expected[1])


def test_an_attack_may_hold_a_share_of_what_is_on_disk(on_disk: Callable, tmp_path: Path):
    memory, disk = (
        denoising(DiMRA(retain_fraction=0.1, budgets=[0, 3], **SMALL), task)
        for task in (new_task(), on_disk(new_task()))
    )
    assert (
        isinstance(disk.method.auxiliary.images, MappedImages) and len(disk.method.auxiliary) == 11
    )
    assert_same(train(memory, tmp_path / "memory"), train(disk, tmp_path / "disk"))
