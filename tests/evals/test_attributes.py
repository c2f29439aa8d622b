"""What is measured of a feature: other attributes, and the pixels outside its region."""

import pytest
import torch

from unrelearn.data.avatars import Avatars
from unrelearn.evals import attributes_kept, outside_region
from unrelearn.evals.evidence import Evidence, Predictions

FACES = Avatars("nowhere", ["Eyeglasses", "Wearing_Hat", "Smiling"])
FORGOTTEN = FACES.groups["+Eyeglasses"]
BOX = {"left": 0.25, "top": 0.25, "right": 0.75, "bottom": 0.5}  # of 8x8: rows 2, 3; columns 2 to 5


def drawn(asked: list[int], shown: list[int], held_out: list[int] | None = None) -> Predictions:
    """Of classes; 8 is nothing."""
    sure = torch.eye(9, dtype=torch.float64)
    seen = sure[shown], sure[held_out or shown]
    return Predictions(torch.tensor(asked), *seen, torch.zeros(len(asked), 2))


def evidence(forget: Predictions, real: Predictions | None = None, **more) -> Evidence:
    real = real or drawn([0, 1], [0, 1])
    attributes = FACES.attributes
    return Evidence({"1.0": forget}, {}, real, real, FORGOTTEN, 8, attributes=attributes, **more)


def images(*places: tuple[int, int, int], value: int = 10) -> dict[str, torch.Tensor]:
    """Two black images, but for one pixel (image, row, column) each."""
    blank = torch.zeros(2, 3, 8, 8, dtype=torch.uint8)
    for image, row, column in places:
        blank[image, :, row, column] = value
    return {"forget/1.0": blank, "forget/1.0/labels": torch.tensor([4, 5])}


def test_other_attributes_are_counted_apart_and_the_forgotten_one_is_not():
    # glasses, hat and smile are the bits of a class: 4, 2 and 1
    asked, shown = [0b100, 0b110, 0b111, 0b101], [0b000, 0b100, 0b011, 8]
    result = attributes_kept.run(evidence(drawn(asked, shown, asked)))["1.0"]
    assert list(result) == ["Wearing_Hat", "Smiling"]  # glasses are gone from the first and third
    assert (result["Wearing_Hat"]["value"], result["Smiling"]["value"]) == (0.5, 0.75)
    assert result["Smiling"]["n"] == 4 and result["Smiling"]["held_out"] == 1.0


def test_what_the_oracle_can_not_tell_in_real_images_has_no_value(capsys):
    asked = [0b100, 0b110]
    real = drawn([0b000, 0b001, 0b010, 0b011], [0b000, 0b001, 0b010, 0b010])  # one smile unseen
    result = attributes_kept.run(evidence(drawn(asked, asked), real))["1.0"]
    assert result["Smiling"] == {"value": None, "real": 0.75}
    assert (result["Wearing_Hat"]["value"], result["Wearing_Hat"]["real"]) == (1.0, 1.0)
    (line,) = capsys.readouterr().err.splitlines()
    assert "Smiling has no value" in line and "75.0 %" in line and "Type oracle.max_steps=" in line


def test_a_data_set_without_attributes_has_no_others():
    seen = drawn([4, 5], [4, 5])
    plain = Evidence({"1.0": seen}, {}, seen, seen, FORGOTTEN, 8)
    assert attributes_kept.run(plain) == {"1.0": {}}


def test_only_what_changes_outside_the_box_is_counted():
    original, seen = images(), drawn([4, 5], [4, 5])
    within = evidence(seen, drawn=images((0, 2, 2), (1, 3, 5)), original=original)
    result = outside_region.run(within, **BOX)["1.0"]
    assert result["value"] == 0.0 and result["inside"] == pytest.approx(10 / 8) and result["n"] == 2
    beside = evidence(seen, drawn=images((0, 4, 2), (0, 2, 6)), original=original)
    result = outside_region.run(beside, **BOX)["1.0"]
    assert result["value"] == pytest.approx(10 / 56) and result["inside"] == 0.0
    half = 1.96 * torch.tensor([20 / 56, 0]).std().item() / 2**0.5
    assert (result["low"], result["high"]) == pytest.approx((0.0, 10 / 56 + half))


def test_there_is_nothing_to_compare_without_the_original_or_from_other_starts():
    seen, one = drawn([4, 5], [4, 5]), images((0, 4, 2))
    assert outside_region.run(evidence(seen, drawn=one), **BOX) == {}
    started = {**one, "forget/1.0/start": torch.tensor([0, 1])}
    assert outside_region.run(evidence(seen, drawn=started, original=images()), **BOX) == {}
