"""The measurements against other people's code, closed forms and evidence whose answer is known."""

import math

import pytest
import scipy.linalg
import torch
from scipy.stats import binomtest
from torchmetrics.image.fid import _compute_fid
from torchmetrics.image.kid import poly_mmd

from unrelearn.data import ImageSet
from unrelearn.evals import agreement, entropy, fd_oracle, forget_accuracy, kid_oracle, replacement, retain_accuracy
from unrelearn.evals.evidence import (
    Evidence,
    Eyes,
    Sight,
    first_of_each_class,
    gather_evidence,
    spread,
    stretch_contrast,
    wilson,
)
from unrelearn.evals.fd_oracle import frechet_distance
from unrelearn.evals.kid_oracle import squared_mmd
from unrelearn.oracle import Classifier, new_classifier
from unrelearn.pipeline import recovery


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def probabilities(classes: list[int], *, of: int = 4, sure: float = 0.7) -> torch.Tensor:
    """`sure` on the class, the rest spread evenly over the others."""
    rows = torch.full((len(classes), of), (1 - sure) / (of - 1), dtype=torch.float64)
    rows[torch.arange(len(classes)), torch.tensor(classes)] = sure
    return rows


def sight(labels: list[int], predicted: list[int], held_out: list[int] | None = None,
          features: torch.Tensor | None = None, sure: float = 0.7) -> Sight:
    return Sight(torch.tensor(labels), probabilities(predicted, sure=sure), probabilities(held_out or predicted),
                 normal(len(labels), 3) if features is None else features)


def evidence(forget: dict | None = None, retain: dict | None = None, train: Sight | None = None,
             test: Sight | None = None) -> Evidence:
    """Four classes, of which class 2 is forgotten."""
    real = sight([0, 1, 3], [0, 1, 3])
    return Evidence(forget or {}, retain or {}, train or real, test or real, forget_classes=[2], num_classes=4)


# ----------------------------------------------------------------------------------------------------------- intervals


@pytest.mark.parametrize("successes, n", [(0, 10), (10, 10), (1, 3), (7, 20), (499, 500), (250, 500)])
@pytest.mark.parametrize("confidence", [0.95, 0.8])
def test_the_interval_is_that_of_scipy(successes: int, n: int, confidence: float):
    theirs = binomtest(successes, n).proportion_ci(confidence, method="wilson")
    ours = wilson(successes, n, confidence)
    assert ours == {"value": successes / n, "low": pytest.approx(theirs.low, abs=1e-12),
                    "high": pytest.approx(theirs.high, abs=1e-12), "n": n}
    assert 0.0 <= ours["low"] <= ours["value"] <= ours["high"] <= 1.0


def test_the_interval_is_of_95_percent_unless_told_otherwise():
    assert wilson(3, 10) == wilson(3, 10, 0.95)


def test_no_images_have_no_accuracy():
    assert wilson(0, 0) == {"value": None, "low": None, "high": None, "n": 0}


# --------------------------------------------------------------------------------------------------- Frechet distance


def exactly(mean: list[float], variance: list[float]) -> torch.Tensor:
    """Features whose sample mean and (diagonal) covariance are these to the last digit: 2D points on the axes."""
    d = len(mean)
    offsets = torch.diag(torch.tensor(variance, dtype=torch.float64).mul((2 * d - 1) / 2).sqrt())
    return torch.tensor(mean, dtype=torch.float64) + torch.cat([offsets, -offsets])


def test_frechet_distance_of_diagonal_gaussians_is_the_closed_form():
    mean_a, mean_b, variance_a, variance_b = [0.0, 1.0, -2.0], [0.5, 1.0, 1.0], [1.0, 4.0, 0.25], [9.0, 4.0, 0.0]
    expected = sum((p - q) ** 2 for p, q in zip(mean_a, mean_b, strict=True))
    expected += sum((math.sqrt(p) - math.sqrt(q)) ** 2 for p, q in zip(variance_a, variance_b, strict=True))
    a, b = exactly(mean_a, variance_a), exactly(mean_b, variance_b)
    assert frechet_distance(a, b) == pytest.approx(expected, rel=1e-9)
    assert frechet_distance(b, a) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("n, m", [(400, 300), (40, 300), (12, 9)], ids=["full rank", "one rank-deficient", "both"])
def test_frechet_distance_is_that_of_torchmetrics_and_scipy(n: int, m: int):
    mixing = normal(50, 50, seed=1)
    a, b = normal(n, 50, seed=2) @ mixing, normal(m, 50, seed=3) @ mixing * 0.7 + 0.3
    ours = frechet_distance(a, b)
    theirs = _compute_fid(a.mean(0), torch.cov(a.T), b.mean(0), torch.cov(b.T)).item()
    assert ours == pytest.approx(theirs, rel=1e-5)
    if min(n, m) > 50:
        root = scipy.linalg.sqrtm((torch.cov(a.T) @ torch.cov(b.T)).numpy()).real
        trace = torch.cov(a.T).trace() + torch.cov(b.T).trace() - 2 * root.trace()
        assert ours == pytest.approx(((a.mean(0) - b.mean(0)).square().sum() + trace).item(), rel=1e-8)


@pytest.mark.parametrize("n", [200, 10])
def test_frechet_distance_of_a_set_to_itself_is_zero(n: int):
    a = normal(n, 64)
    assert 0.0 <= frechet_distance(a, a) < 1e-5
    assert 0.0 <= frechet_distance(a, a.flip(0)) < 1e-5
    assert frechet_distance(a, a + 1.0) == pytest.approx(64.0, rel=1e-6)


# ----------------------------------------------------------------------------------------------------- kernel distance


def test_squared_mmd_is_that_of_torchmetrics():
    x, y = normal(30, 8, seed=1), normal(45, 8, seed=2) + 0.5
    assert squared_mmd(x, y[:30])[0] == pytest.approx(poly_mmd(x, y[:30]).item(), rel=1e-9)

    # torchmetrics takes sets of one size only; of two sizes, the definition
    def k(p: torch.Tensor, q: torch.Tensor) -> float:
        return ((p @ q).item() / 8 + 1) ** 3

    within_x = sum(k(p, q) for i, p in enumerate(x) for j, q in enumerate(x) if i != j) / (30 * 29)
    within_y = sum(k(p, q) for i, p in enumerate(y) for j, q in enumerate(y) if i != j) / (45 * 44)
    between = sum(k(p, q) for p in x for q in y) / (30 * 45)
    assert squared_mmd(x, y)[0] == pytest.approx(within_x + within_y - 2 * between, rel=1e-9)


def test_squared_mmd_is_unbiased():
    values = [squared_mmd(normal(20, 4, seed=2 * i), normal(20, 4, seed=2 * i + 1))[0] for i in range(200)]
    mean, error = torch.tensor(values).mean(), torch.tensor(values).std() / 200**0.5
    assert min(values) < 0 and abs(mean) < 3 * error


def test_the_jackknife_is_the_brute_force_one():
    x, y = normal(12, 5, seed=1), normal(20, 5, seed=2) + 0.3
    left_out = torch.tensor([squared_mmd(torch.cat([x[:i], x[i + 1:]]), y)[0] for i in range(12)], dtype=torch.float64)
    expected = (11 / 12 * (left_out - left_out.mean()).square().sum()).sqrt().item()
    assert squared_mmd(x, y)[1] == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("measurement, value", [
    (fd_oracle, frechet_distance), (kid_oracle, lambda x, y: squared_mmd(x, y)[0])], ids=["fd", "kid"])
def test_distances_compare_equal_numbers_of_images_with_the_training_set(measurement, value):
    train, test, generated = normal(60, 3, seed=1), normal(25, 3, seed=2), normal(40, 3, seed=3) + 1
    def seen(features: torch.Tensor) -> Sight:
        return sight([0] * len(features), [0] * len(features), features=features)

    result = measurement.run(evidence(retain={"1.0": seen(generated), "2.0": seen(test)}, train=seen(train),
                                      test=seen(test)))
    assert result["1.0"]["n"] == 25
    assert result["1.0"]["value"] == pytest.approx(value(spread(generated, 25), train), rel=1e-9)
    assert result["1.0"]["floor"] == pytest.approx(value(test, train), rel=1e-9)
    assert result["1.0"]["value"] > 2 * result["1.0"]["floor"]
    assert result["2.0"]["value"] == pytest.approx(result["2.0"]["floor"], rel=1e-9)  # real images are the floor
    assert result["1.0"].get("std", 1.0) > 0 and result["1.0"].get("reference_n", 60) == 60


def test_spread_takes_the_same_rows_from_all_over_the_set():
    x = torch.arange(100)[:, None]
    chosen = spread(x, 20).flatten()
    assert torch.equal(chosen, spread(x, 20).flatten())
    assert len(chosen.unique()) == 20 and chosen.max() > 60 and chosen.tolist() != sorted(chosen.tolist())
    assert sorted(spread(x, 500).flatten().tolist()) == list(range(100))


# ----------------------------------------------------------------------------------- accuracies, entropy, replacement


def test_forget_accuracy_counts_what_is_still_taken_for_the_class():
    result = forget_accuracy.run(evidence(forget={"1.0": sight([2, 2, 2, 2, 2], [2, 0, 0, 2, 1]),
                                                  "2.0": sight([2, 2], [2, 2])}))
    assert result == {
        "1.0": {**wilson(2, 5), "hits": "10010", "mean_probability": pytest.approx((2 * 0.7 + 3 * 0.1) / 5)},
        "2.0": {**wilson(2, 2), "hits": "11", "mean_probability": pytest.approx(0.7)}}


def test_forget_accuracy_of_several_classes_asks_each_image_for_its_own():
    result = forget_accuracy.run(evidence(forget={"1.0": sight([1, 2, 1, 2], [2, 1, 1, 2])}))
    assert result["1.0"]["value"] == 0.5
    assert result["1.0"]["mean_probability"] == pytest.approx(0.4)


def test_entropy_is_zero_when_sure_and_log_k_when_not():
    result = entropy.run(evidence(forget={"1.0": sight([2, 2], [2, 0], sure=1.0), "2.0": sight([2], [2], sure=0.25),
                                          "4.0": sight([2, 2], [2, 0], sure=0.7)}))
    assert result == {"1.0": 0.0, "2.0": pytest.approx(math.log(4)),
                      "4.0": pytest.approx(-0.7 * math.log(0.7) - 0.3 * math.log(0.1))}


def test_replacement_counts_every_class():
    result = replacement.run(evidence(forget={"1.0": sight([2] * 6, [3, 3, 0, 2, 3, 0]), "2.0": sight([2], [0])}))
    assert result == {"1.0": [2, 0, 1, 3], "2.0": [1, 0, 0, 0]}


def test_retain_accuracy_is_told_in_all_and_per_class():
    result = retain_accuracy.run(evidence(retain={"1.0": sight([0, 0, 1, 1, 3, 3], [0, 1, 1, 1, 2, 0])}))
    assert result == {"1.0": {**wilson(3, 6), "per_class": [0.5, 1.0, None, 0.0]}}


def test_agreement_is_between_the_two_classifiers_and_the_held_out_one_is_told_too():
    result = agreement.run(evidence(
        forget={"1.0": sight([2, 2, 2, 2], [2, 0, 0, 0], held_out=[2, 2, 2, 0])},
        retain={"1.0": sight([0, 1, 3], [0, 1, 1], held_out=[1, 1, 3]), "3.0": sight([0], [0], held_out=[0])}))
    assert result == {
        "1.0": {"forget": 0.5, "held_out_forget_accuracy": wilson(3, 4),
                "retain": pytest.approx(1 / 3), "held_out_retain_accuracy": wilson(2, 3)},
        "3.0": {"retain": 1.0, "held_out_retain_accuracy": wilson(1, 1)}}


# ------------------------------------------------------------------------------------------------------------ evidence


@pytest.fixture
def classifiers() -> tuple[Classifier, Classifier]:
    shape = dict(image_size=8, channels=1, num_classes=4, width=8)
    return (new_classifier(0, architecture="plain", **shape).eval(),
            new_classifier(1, architecture="residual", **shape).eval())


def images(n: int, seed: int) -> torch.Tensor:
    return torch.randint(256, (n, 1, 8, 8), generator=torch.Generator().manual_seed(seed), dtype=torch.uint8)


def test_evidence_holds_what_each_classifier_sees_in_each_set(classifiers: tuple):
    oracle, held_out = classifiers
    train, test = ImageSet(images(8, 0), torch.arange(8) % 4), ImageSet(images(4, 1), torch.arange(4))
    eyes = Eyes(oracle, held_out)
    real_train, real_test = (eyes.look(part.images, part.labels) for part in (train, test))
    samples = {"forget/1.0": images(3, 2), "forget/1.0/labels": torch.tensor([2, 2, 2]),
               "forget/2.0": images(3, 3), "forget/2.0/labels": torch.tensor([2, 2, 2]),
               "retain/1.0": images(3, 4), "retain/1.0/labels": torch.tensor([0, 1, 3])}
    found = gather_evidence(samples, real_train, real_test, [2], 4, eyes)
    assert list(found.forget) == ["1.0", "2.0"] and list(found.retain) == ["1.0"]
    assert found.num_classes == 4 and found.forget_classes == [2]
    assert found.real_train.labels.tolist() == [0, 1, 3, 0, 1, 3] and found.real_test.labels.tolist() == [0, 1, 3]
    assert found.retain["1.0"].labels.tolist() == [0, 1, 3]
    for seen, pictures in [(found.forget["2.0"], images(3, 3)), (found.retain["1.0"], images(3, 4))]:
        assert torch.equal(seen.probabilities, oracle.look(pictures)[0])
        assert torch.equal(seen.features, oracle.look(pictures)[1])
        assert torch.equal(seen.held_out, held_out.look(pictures)[0])
        assert seen.probabilities.dtype == seen.features.dtype == torch.float64
        torch.testing.assert_close(seen.probabilities.sum(1), torch.ones(3, dtype=torch.float64))


def test_real_images_are_the_retained_ones_as_seen_by_all_eyes(classifiers: tuple):
    test = ImageSet(images(1100, 1), torch.arange(1100) % 4)  # three pieces
    seen = Eyes(*classifiers).look(test.images, test.labels)
    found = gather_evidence({}, seen, seen, [1, 2], 4, Eyes(*classifiers))
    kept = torch.isin(test.labels, torch.tensor([0, 3]))
    torch.testing.assert_close(found.real_test.features, classifiers[0].look(test.images[kept])[1], atol=1e-6, rtol=1e-6)
    assert found.real_train.inception_features is None


def test_stretching_uses_the_full_range_of_each_image():
    dull = torch.tensor([[[[100, 110], [120, 150]]], [[[7, 7], [7, 7]]]], dtype=torch.uint8)
    assert stretch_contrast(dull)[0].flatten().tolist() == [0, 51, 102, 255]
    assert stretch_contrast(dull)[1].flatten().tolist() == [0, 0, 0, 0]
    full = images(5, 0)
    full[:, 0, 0, 0], full[:, 0, 0, 1] = 0, 255
    assert torch.equal(stretch_contrast(full), full)


def test_eyes_that_stretch_see_the_stretched_images(classifiers: tuple):
    pictures, labels = images(6, 0) // 4 + 90, torch.arange(6) % 4
    seen = Eyes(*classifiers, stretch=True).look(pictures, labels)
    assert torch.equal(seen.features, classifiers[0].look(stretch_contrast(pictures))[1])


def test_the_first_images_of_each_class_keep_their_order():
    data = ImageSet(images(8, 0), torch.tensor([1, 0, 1, 1, 0, 0, 2, 1]))
    chosen = first_of_each_class(data, 2)
    assert chosen.labels.tolist() == [1, 0, 1, 0, 2] and torch.equal(chosen.images[3], data.images[4])
    assert first_of_each_class(data, None) is data


# ------------------------------------------------------------------------------------------------------------ recovery


def row(step: int | None, **values: float) -> dict:
    """A row of a record; scales are written s1, s2."""
    return {"step": step, "metrics": {"forget_accuracy": {f"{k[1:]}.0": {"value": v} for k, v in values.items()}}}


DIVERGED = {"step": 20, "metrics": {}}


def test_recovery_is_the_mean_over_the_budget_and_the_step_of_half_way_back():
    rows = [row(None, s1=0.8), row(None, s1=0.0), row(10, s1=0.2), row(30, s1=0.6)]
    assert recovery(rows) == {"1.0": {"budgets": [0, 10, 30], "forget_accuracy": [0.0, 0.2, 0.6],
                                      "area": pytest.approx((10 * 0.1 + 20 * 0.4) / 30),
                                      "steps_to_half": pytest.approx(20.0)}}


@pytest.mark.parametrize("curve, expected", [
    ([0.0, 0.1, 0.3], None),  # never
    ([0.5, 0.1, 0.9], 0.0),  # there at the start
    ([0.4, 0.1, 0.9], 0.0),  # exactly half at the start
    ([0.0, 0.4, 0.9], 10.0),  # exactly half at a budget
    ([0.0, 0.8, 0.0], 5.0),  # and lost again: the first time counts
], ids=str)
def test_half_way_is_where_the_curve_first_reaches_half_of_the_original(curve: list[float], expected: float | None):
    rows = [row(None, s1=0.8)] + [row(step, s1=y) for step, y in zip((None, 10, 30), curve, strict=True)]
    reached = recovery(rows)["1.0"]["steps_to_half"]
    assert reached == (None if expected is None else pytest.approx(expected))


@pytest.mark.parametrize(("original", "classes", "absent"), [
    ({"value": 0.0, "low": 0.0}, 10, True), ({"value": 0.0}, None, True), ({"value": 0.09, "low": 0.06}, 10, True),
    ({"value": 0.11, "low": 0.08}, 10, False), ({"value": 0.4, "low": 0.3}, 2, True), ({"value": 0.09, "low": 0.06}, None, False),
])
def test_what_the_original_does_not_show_can_not_come_back(original: dict, classes: int | None, absent: bool):
    first = {"step": None, "metrics": {"forget_accuracy": {"1.0": original}}}
    found = recovery([first, row(None, s1=0.0), row(10, s1=0.5)], num_classes=classes)["1.0"]
    assert (found["steps_to_half"] is None) == absent and found.get("nothing_to_recover", False) == absent
    assert found["area"] == 0.25


def test_diverged_rows_are_left_out_of_the_recovery():
    rows = [row(None, s1=0.8), row(None, s1=0.0), row(10, s1=0.2), DIVERGED, row(30, s1=0.6)]
    assert recovery(rows) == recovery(rows[:3] + rows[4:])
    assert recovery([row(None, s1=0.8), row(None, s1=0.3), DIVERGED]) == {
        "1.0": {"budgets": [0], "forget_accuracy": [0.3], "area": 0.3, "steps_to_half": None}}
    assert recovery([row(None, s1=0.8), DIVERGED, DIVERGED]) == {}
    assert recovery([DIVERGED, DIVERGED]) == {}


def test_each_guidance_scale_has_its_own_recovery():
    found = recovery([row(None, s1=0.8, s2=1.0), row(None, s1=0.0, s2=0.2), row(10, s1=0.8, s2=0.2)])
    assert found["1.0"]["area"] == pytest.approx(0.4) and found["1.0"]["steps_to_half"] == pytest.approx(5.0)
    assert found["2.0"]["area"] == pytest.approx(0.2) and found["2.0"]["steps_to_half"] is None
