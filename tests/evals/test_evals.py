"""The measurements against other people's code, closed forms and evidence whose answer is known."""

import math
from dataclasses import replace

import pytest
import scipy.linalg
import scipy.stats
import torch
from scipy.stats import binomtest
from torchmetrics.image.fid import _compute_fid
from torchmetrics.image.kid import poly_mmd

from unrelearn.classification.classifier import Classifier, halves, new_classifier
from unrelearn.data import ImageSet
from unrelearn.data.digits import Digits
from unrelearn.evals import (
    agreement,
    entropy,
    fd_oracle,
    forget_accuracy,
    kid_oracle,
    other_sampler,
    replacement,
    retain_accuracy,
)
from unrelearn.evals.evidence import (
    Evidence,
    Observers,
    Predictions,
    first_of_each_class,
    gather_evidence,
    spread,
    stretch_contrast,
    wilson,
)
from unrelearn.evals.fd_oracle import frechet_distance
from unrelearn.evals.kid_oracle import squared_mmd
from unrelearn.record import recovery


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


NOTHING = 4


def probabilities(classes: list[int], *, of: int = 5, sure: float = 0.7) -> torch.Tensor:
    """`sure` on the class, the rest spread evenly over the others: four classes and nothing."""
    rows = torch.full((len(classes), of), (1 - sure) / (of - 1), dtype=torch.float64)
    rows[torch.arange(len(classes)), torch.tensor(classes)] = sure
    return rows


def predictions(
    labels: list[int],
    predicted: list[int],
    held_out: list[int] | None = None,
    features: torch.Tensor | None = None,
    sure: float = 0.7,
) -> Predictions:
    return Predictions(
        torch.tensor(labels),
        probabilities(predicted, sure=sure),
        probabilities(held_out or predicted),
        normal(len(labels), 3) if features is None else features,
    )


def evidence(
    forget: dict | None = None,
    retain: dict | None = None,
    train: Predictions | None = None,
    test: Predictions | None = None,
    **more,
) -> Evidence:
    """Four classes, of which class 2 is forgotten."""
    real = predictions([0, 1, 3], [0, 1, 3])
    return Evidence(
        forget or {},
        retain or {},
        train or real,
        test or real,
        forget_classes=[2],
        num_classes=4,
        **more,
    )


# ---------------------------------------------------------------------------------------- intervals


@pytest.mark.parametrize(
    "successes, n", [(0, 10), (10, 10), (1, 3), (7, 20), (499, 500), (250, 500)]
)
@pytest.mark.parametrize("confidence", [0.95, 0.8])
def test_the_interval_is_that_of_scipy(successes: int, n: int, confidence: float):
    theirs = binomtest(successes, n).proportion_ci(confidence, method="wilson")
    ours = wilson(successes, n, confidence)
    assert ours == {
        "value": successes / n,
        "low": pytest.approx(theirs.low, abs=1e-12),
        "high": pytest.approx(theirs.high, abs=1e-12),
        "n": n,
    }
    assert 0.0 <= ours["low"] <= ours["value"] <= ours["high"] <= 1.0


def test_the_interval_is_of_95_percent_unless_told_otherwise():
    assert wilson(3, 10) == wilson(3, 10, 0.95)


def test_no_images_have_no_accuracy():
    assert wilson(0, 0) == {"value": None, "low": None, "high": None, "n": 0}


# --------------------------------------------------------------------------------- Frechet distance


def exactly(mean: list[float], variance: list[float]) -> torch.Tensor:
    """Features whose sample mean and (diagonal) covariance are these to the last digit: 2D points
    on the axes.
    """
    d = len(mean)
    offsets = torch.diag(torch.tensor(variance, dtype=torch.float64).mul((2 * d - 1) / 2).sqrt())
    return torch.tensor(mean, dtype=torch.float64) + torch.cat([offsets, -offsets])


def test_frechet_distance_of_diagonal_gaussians_is_the_closed_form():
    mean_a, mean_b, variance_a, variance_b = (
        [0.0, 1.0, -2.0],
        [0.5, 1.0, 1.0],
        [1.0, 4.0, 0.25],
        [9.0, 4.0, 0.0],
    )
    expected = sum((p - q) ** 2 for p, q in zip(mean_a, mean_b, strict=True))
    expected += sum(
        (math.sqrt(p) - math.sqrt(q)) ** 2 for p, q in zip(variance_a, variance_b, strict=True)
    )
    a, b = exactly(mean_a, variance_a), exactly(mean_b, variance_b)
    assert frechet_distance(a, b) == pytest.approx(expected, rel=1e-9)
    assert frechet_distance(b, a) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize(
    "n, m", [(400, 300), (40, 300), (12, 9)], ids=["full rank", "one rank-deficient", "both"]
)
def test_frechet_distance_is_that_of_torchmetrics_and_scipy(n: int, m: int):
    mixing = normal(50, 50, seed=1)
    a, b = normal(n, 50, seed=2) @ mixing, normal(m, 50, seed=3) @ mixing * 0.7 + 0.3
    ours = frechet_distance(a, b)
    theirs = _compute_fid(a.mean(0), torch.cov(a.T), b.mean(0), torch.cov(b.T)).item()
    assert ours == pytest.approx(theirs, rel=1e-5)
    if min(n, m) > 50:
        root = scipy.linalg.sqrtm((torch.cov(a.T) @ torch.cov(b.T)).numpy()).real
        trace = torch.cov(a.T).trace() + torch.cov(b.T).trace() - 2 * root.trace()
        assert ours == pytest.approx(
            ((a.mean(0) - b.mean(0)).square().sum() + trace).item(), rel=1e-8
        )


@pytest.mark.parametrize("n", [200, 10])
def test_frechet_distance_of_a_set_to_itself_is_zero(n: int):
    a = normal(n, 64)
    assert 0.0 <= frechet_distance(a, a) < 1e-5
    assert 0.0 <= frechet_distance(a, a.flip(0)) < 1e-5
    assert frechet_distance(a, a + 1.0) == pytest.approx(64.0, rel=1e-6)


# ---------------------------------------------------------------------------------- kernel distance


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
    values = [
        squared_mmd(normal(20, 4, seed=2 * i), normal(20, 4, seed=2 * i + 1))[0] for i in range(200)
    ]
    mean, error = torch.tensor(values).mean(), torch.tensor(values).std() / 200**0.5
    assert min(values) < 0 and abs(mean) < 3 * error


def test_pairs_are_weighted_by_class_as_the_loop_says():
    """The definition written out, and the jackknife of both sides by leaving one row after the
    other out.
    """

    def k(p: torch.Tensor, q: torch.Tensor) -> float:
        return ((p @ q).item() / 5 + 1) ** 3

    def mean(
        p: torch.Tensor, a: torch.Tensor, q: torch.Tensor, b: torch.Tensor, one: int, two: int
    ) -> float:
        pairs = [
            k(p[i], q[j])
            for i in range(len(p))
            for j in range(len(q))
            if a[i] == one and b[j] == two and (p is not q or i != j)
        ]
        return sum(pairs) / len(pairs)

    def mmd(x: torch.Tensor, a: torch.Tensor, y: torch.Tensor, b: torch.Tensor) -> float:
        return sum(
            pi[c]
            * pi[d]
            * (mean(x, a, x, a, c, d) + mean(y, b, y, b, c, d) - 2 * mean(x, a, y, b, c, d))
            for c in pi
            for d in pi
        )

    def without(z: torch.Tensor, i: int) -> torch.Tensor:
        return torch.cat([z[:i], z[i + 1 :]])

    x, a = normal(9, 5, seed=1), torch.tensor([4, 1, 4, 1, 4, 1, 4, 1, 4])
    y, b = normal(11, 5, seed=2) + 0.3, torch.tensor([1, 4, 1, 1, 1, 1, 4, 1, 1, 4, 1])
    pi = {1: 8 / 11, 4: 3 / 11}
    value, error = squared_mmd(x, y, a, b)
    assert value == pytest.approx(mmd(x, a, y, b), rel=1e-12)
    variance = 0.0
    for labels, left_out in (
        (a, lambda i: mmd(without(x, i), without(a, i), y, b)),
        (b, lambda i: mmd(x, a, without(y, i), without(b, i))),
    ):
        for c in pi:
            found = torch.tensor(
                [left_out(i) for i in torch.where(labels == c)[0].tolist()], dtype=torch.float64
            )
            variance += (
                (len(found) - 1) / len(found) * (found - found.mean()).square().sum()
            ).item()
    assert error == pytest.approx(variance**0.5, rel=1e-9)
    # classes of one side alone, and of which there are too few to have a pair, are left out
    x, a = torch.cat([x, normal(3, 5, seed=3)]), torch.cat([a, torch.tensor([2, 2, 9])])
    y, b = torch.cat([y, normal(3, 5, seed=4)]), torch.cat([b, torch.tensor([2, 7, 7])])
    assert squared_mmd(x, y, a, b) == pytest.approx((value, error), rel=1e-12)


def test_the_kernel_distance_is_unbiased_where_classes_are_drawn_in_equal_numbers():
    """Two parts of one set, 100 times: plainly the mean over pairs lies below nought by many
    standard errors.
    """
    train = halves(Digits().load().train.of_classes([7], keep=False))[0]
    flat = train.images.flatten(1).double() / 32
    features = flat @ torch.linalg.eigh(torch.cov(flat.T))[1][:, -12:] - 3
    found = []
    for split in range(100):
        order = torch.randperm(len(features), generator=torch.Generator().manual_seed(split))
        small = torch.cat([order[train.labels[order] == c][:20] for c in train.labels.unique()])
        rest = order[~torch.isin(order, small)]
        x, y = features[small], features[rest]
        found.append(
            (squared_mmd(x, y, train.labels[small], train.labels[rest])[0], squared_mmd(x, y)[0])
        )
    mean, error = torch.tensor(found).mean(0), torch.tensor(found).std(0) / 10
    assert abs(mean[0]) < 3 * error[0]
    assert mean[1] < -20 * error[1]


@pytest.mark.parametrize(
    "measurement, value",
    [(fd_oracle, frechet_distance), (kid_oracle, lambda x, y: squared_mmd(x, y)[0])],
    ids=["fd", "kid"],
)
def test_distances_compare_equal_numbers_of_images_with_the_training_set(measurement, value):
    train, test, generated = normal(60, 3, seed=1), normal(25, 3, seed=2), normal(40, 3, seed=3) + 1

    def seen(features: torch.Tensor) -> Predictions:
        return predictions([0] * len(features), [0] * len(features), features=features)

    result = measurement.run(
        evidence(
            retain={"1.0": seen(generated), "2.0": seen(test)}, train=seen(train), test=seen(test)
        )
    )
    assert result["1.0"]["n"] == 25
    assert result["1.0"]["value"] == pytest.approx(value(spread(generated, 25), train), rel=1e-9)
    assert result["1.0"]["floor"] == pytest.approx(value(test, train), rel=1e-9)
    assert result["1.0"]["value"] > 2 * result["1.0"]["floor"]
    assert result["2.0"]["value"] == pytest.approx(
        result["2.0"]["floor"], rel=1e-9
    )  # real images are the floor
    assert result["1.0"].get("std", 1.0) > 0 and result["1.0"].get("reference_n", 60) == 60


def test_spread_takes_the_same_rows_from_all_over_the_set():
    x = torch.arange(100)[:, None]
    chosen = spread(x, 20).flatten()
    assert torch.equal(chosen, spread(x, 20).flatten())
    assert (
        len(chosen.unique()) == 20
        and chosen.max() > 60
        and chosen.tolist() != sorted(chosen.tolist())
    )
    assert sorted(spread(x, 500).flatten().tolist()) == list(range(100))


# ----------------------------------------------------------------- accuracies, entropy, replacement


def test_forget_accuracy_counts_what_is_still_taken_for_the_class():
    result = forget_accuracy.run(
        evidence(
            forget={
                "1.0": predictions([2, 2, 2, 2, 2], [2, 0, NOTHING, 2, 1]),
                "2.0": predictions([2, 2], [2, 2]),
            }
        )
    )
    assert result == {
        "1.0": {
            **wilson(2, 5),
            "another": 0.4,
            "nothing": 0.2,
            "hits": "10010",
            "mean_probability": pytest.approx((2 * 0.7 + 3 * 0.075) / 5),
        },
        "2.0": {
            **wilson(2, 2),
            "another": 0.0,
            "nothing": 0.0,
            "hits": "11",
            "mean_probability": pytest.approx(0.7),
        },
    }


def test_images_drawn_at_other_times_count_and_are_told_apart_too():
    off_grid = torch.tensor([False, False, False, True, True])
    seen = replace(predictions([2] * 5, [2, 0, 2, 0, 2]), off_grid=off_grid)
    result = forget_accuracy.run(
        evidence(forget={"1.0": seen, "2.0": replace(seen, off_grid=off_grid & False)})
    )
    assert (
        result["1.0"]["off_grid"] == wilson(1, 2)
        and result["1.0"]["n"] == 5
        and result["1.0"]["value"] == 0.6
    )
    assert "off_grid" not in result["2.0"]


def test_what_starts_from_images_of_the_class_is_read_beside_what_starts_from_others():
    """Twelve images from three starts each; the interval is Welch's over the starts, not over the
    images.
    """
    own, other = [2, 2, 0] * 3 + [2, 2, 2], [0, 2, 1] * 3 + [2, 2, NOTHING]
    start = torch.arange(12) % 3
    result = forget_accuracy.run(
        evidence(
            forget={"1.0": replace(predictions([2] * 12, own), start=start)},
            other_starts={"1.0": replace(predictions([2] * 12, other), start=start)},
        )
    )["1.0"]
    assert (
        result["value"] == 0.75
        and result["starts"] == 3
        and result["other_starts"] == wilson(5, 12)
    )
    theirs = scipy.stats.ttest_ind([1, 1, 0.25], [0.25, 1, 0], equal_var=False).confidence_interval(
        0.95
    )
    assert result["difference"] == {
        "value": pytest.approx(4 / 12),
        "low": pytest.approx(theirs.low),
        "high": pytest.approx(theirs.high),
        "n_starts": 3,
    }
    assert (
        result["difference"]["low"] < wilson(9, 12)["low"] - wilson(5, 12)["high"]
    )  # as if images were independent
    one, same = (
        torch.tensor([0.5], dtype=torch.float64),
        torch.tensor([1.0, 1.0], dtype=torch.float64),
    )
    assert forget_accuracy.difference(one, one) == {
        "value": 0.0,
        "low": None,
        "high": None,
        "n_starts": 1,
    }
    assert forget_accuracy.difference(same, 0 * same) == {
        "value": 1.0,
        "low": 1.0,
        "high": 1.0,
        "n_starts": 2,
    }


def test_a_second_sampler_has_its_own_forget_accuracy_and_name():
    found = evidence(
        other_sampler={"1.0": predictions([2] * 4, [2, NOTHING, 0, 0])},
        second="dpmsolver++, 13 steps",
    )
    assert other_sampler.run(found) == {
        "1.0": {**wilson(1, 4), "nothing": 0.25, "sampler": "dpmsolver++, 13 steps"}
    }
    assert other_sampler.run(evidence()) == {}


def test_forget_accuracy_of_several_classes_asks_each_image_for_its_own():
    result = forget_accuracy.run(evidence(forget={"1.0": predictions([1, 2, 1, 2], [2, 1, 1, 2])}))
    assert result["1.0"]["value"] == 0.5
    assert result["1.0"]["mean_probability"] == pytest.approx((2 * 0.7 + 2 * 0.075) / 4)


def test_entropy_is_zero_when_sure_and_log_k_when_not():
    result = entropy.run(
        evidence(
            forget={
                "1.0": predictions([2, 2], [2, 0], sure=1.0),
                "2.0": predictions([2], [2], sure=0.2),
                "4.0": predictions([2, 2], [2, 0], sure=0.7),
            }
        )
    )
    assert result == {
        "1.0": 0.0,
        "2.0": pytest.approx(math.log(5)),  # of four classes and nothing
        "4.0": pytest.approx(-0.7 * math.log(0.7) - 0.3 * math.log(0.075)),
    }


def test_replacement_counts_every_class_and_nothing():
    result = replacement.run(
        evidence(
            forget={
                "1.0": predictions([2] * 6, [3, 3, 0, 2, NOTHING, 0]),
                "2.0": predictions([2], [0]),
            }
        )
    )
    assert result == {"1.0": [2, 0, 1, 2, 1], "2.0": [1, 0, 0, 0, 0]}


def test_retain_accuracy_is_told_in_all_and_per_class():
    result = retain_accuracy.run(
        evidence(retain={"1.0": predictions([0, 0, 1, 1, 3, 3], [0, 1, 1, 1, 2, 0])})
    )
    assert result == {"1.0": {**wilson(3, 6), "per_class": [0.5, 1.0, None, 0.0]}}


def test_agreement_is_between_the_two_classifiers_and_the_held_out_one_is_told_too():
    result = agreement.run(
        evidence(
            forget={
                "1.0": predictions([2, 2, 2, 2], [2, 0, 0, NOTHING], held_out=[2, 2, 2, NOTHING])
            },
            retain={
                "1.0": predictions([0, 1, 3], [0, 1, 1], held_out=[1, 1, 3]),
                "3.0": predictions([0], [0], held_out=[0]),
            },
        )
    )
    assert result == {
        "1.0": {
            "forget": 0.5,
            "held_out_forget_accuracy": wilson(3, 4),
            "held_out_nothing": 0.25,
            "retain": pytest.approx(1 / 3),
            "held_out_retain_accuracy": wilson(2, 3),
        },
        "3.0": {"retain": 1.0, "held_out_retain_accuracy": wilson(1, 1)},
    }


# ----------------------------------------------------------------------------------------- evidence


@pytest.fixture
def classifiers() -> tuple[Classifier, Classifier]:
    shape = dict(image_size=8, channels=1, num_classes=4, width=8)
    return (
        new_classifier(0, architecture="plain", **shape).eval(),
        new_classifier(1, architecture="residual", **shape).eval(),
    )


def images(n: int, seed: int) -> torch.Tensor:
    return torch.randint(
        256, (n, 1, 8, 8), generator=torch.Generator().manual_seed(seed), dtype=torch.uint8
    )


def test_evidence_holds_what_each_classifier_sees_in_each_set(classifiers: tuple):
    oracle, held_out = classifiers
    train, test = (
        ImageSet(images(8, 0), torch.arange(8) % 4),
        ImageSet(images(4, 1), torch.arange(4)),
    )
    observers = Observers(oracle, held_out)
    real_train, real_test = (observers.look(part.images, part.labels) for part in (train, test))
    samples = {
        "forget/1.0": images(3, 2),
        "forget/1.0/labels": torch.tensor([2, 2, 2]),
        "forget/2.0": images(3, 3),
        "forget/2.0/labels": torch.tensor([2, 2, 2]),
        "retain/1.0": images(3, 4),
        "retain/1.0/labels": torch.tensor([0, 1, 3]),
        "other_sampler/2.0": images(2, 5),
        "other_sampler/2.0/labels": torch.tensor([2, 2]),
        "forget/2.0/off_grid": torch.tensor([False, False, True]),
        "forget/2.0/start": torch.tensor([0, 1, 0]),
        "other_starts/2.0": images(3, 6),
        "other_starts/2.0/labels": torch.tensor([2, 2, 2]),
        "other_starts/2.0/start": torch.tensor([0, 1, 0]),
    }
    found = gather_evidence(samples, real_train, real_test, [2], observers, "ddpm, 9 steps")
    assert (
        list(found.forget) == ["1.0", "2.0"]
        and list(found.retain) == ["1.0"]
        and found.second == "ddpm, 9 steps"
    )
    assert (
        list(found.other_sampler) == list(found.other_starts) == ["2.0"]
        and found.forget["1.0"].off_grid is None
    )
    assert found.forget["2.0"].off_grid.tolist() == [False, False, True] and found.forget[
        "2.0"
    ].start.tolist() == [0, 1, 0]
    assert found.other_starts["2.0"].start.tolist() == [
        0,
        1,
        0,
    ] and found.real_train.probabilities.shape == (6, 5)
    assert found.num_classes == 4 and found.forget_classes == [2]
    assert found.real_train.labels.tolist() == [
        0,
        1,
        3,
        0,
        1,
        3,
    ] and found.real_test.labels.tolist() == [0, 1, 3]
    assert found.retain["1.0"].labels.tolist() == [0, 1, 3]
    for seen, pictures in [
        (found.forget["2.0"], images(3, 3)),
        (found.retain["1.0"], images(3, 4)),
    ]:
        assert torch.equal(seen.probabilities, oracle.look(pictures)[0])
        assert torch.equal(seen.features, oracle.look(pictures)[1])
        assert torch.equal(seen.held_out, held_out.look(pictures)[0])
        assert seen.probabilities.dtype == seen.features.dtype == torch.float64
        torch.testing.assert_close(seen.probabilities.sum(1), torch.ones(3, dtype=torch.float64))


def test_real_images_are_the_retained_ones_as_seen_by_all_eyes(classifiers: tuple):
    test = ImageSet(images(1100, 1), torch.arange(1100) % 4)  # three pieces
    seen = Observers(*classifiers).look(test.images, test.labels)
    found = gather_evidence({}, seen, seen, [1, 2], Observers(*classifiers))
    kept = torch.isin(test.labels, torch.tensor([0, 3]))
    torch.testing.assert_close(
        found.real_test.features, classifiers[0].look(test.images[kept])[1], atol=1e-6, rtol=1e-6
    )
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
    seen = Observers(*classifiers, stretch=True).look(pictures, labels)
    assert torch.equal(seen.features, classifiers[0].look(stretch_contrast(pictures))[1])


def test_the_first_images_of_each_class_keep_their_order():
    data = ImageSet(images(8, 0), torch.tensor([1, 0, 1, 1, 0, 0, 2, 1]))
    chosen = first_of_each_class(data, 2)
    assert chosen.labels.tolist() == [1, 0, 1, 0, 2] and torch.equal(
        chosen.images[3], data.images[4]
    )
    assert first_of_each_class(data, None) is data


# ----------------------------------------------------------------------------------------- recovery


def row(step: int | None, **values: float) -> dict:
    """A row of a record; scales are written s1, s2."""
    return {
        "step": step,
        "metrics": {"forget_accuracy": {f"{k[1:]}.0": {"value": v} for k, v in values.items()}},
    }


DIVERGED = {"step": 20, "metrics": {}}


def test_recovery_is_the_mean_over_the_budget_and_the_step_of_half_way_back():
    rows = [row(None, s1=0.8), row(None, s1=0.0), row(10, s1=0.2), row(30, s1=0.6)]
    assert recovery(rows) == {
        "1.0": {
            "budgets": [0, 10, 30],
            "forget_accuracy": [0.0, 0.2, 0.6],
            "area": pytest.approx((10 * 0.1 + 20 * 0.4) / 30),
            "steps_to_half": pytest.approx(20.0),
        }
    }


@pytest.mark.parametrize(
    "curve, expected",
    [
        ([0.0, 0.1, 0.3], None),  # never
        ([0.5, 0.1, 0.9], 0.0),  # there at the start
        ([0.4, 0.1, 0.9], 0.0),  # exactly half at the start
        ([0.0, 0.4, 0.9], 10.0),  # exactly half at a budget
        ([0.0, 0.8, 0.0], 5.0),  # and lost again: the first time counts
    ],
    ids=str,
)
def test_half_way_is_where_the_curve_first_reaches_half_of_the_original(
    curve: list[float], expected: float | None
):
    rows = [row(None, s1=0.8)] + [
        row(step, s1=y) for step, y in zip((None, 10, 30), curve, strict=True)
    ]
    reached = recovery(rows)["1.0"]["steps_to_half"]
    assert reached == (None if expected is None else pytest.approx(expected))


@pytest.mark.parametrize(
    ("original", "classes", "absent"),
    [
        ({"value": 0.0, "low": 0.0}, 10, True),
        ({"value": 0.0}, None, True),
        ({"value": 0.09, "low": 0.06}, 10, True),
        ({"value": 0.11, "low": 0.08}, 10, False),
        ({"value": 0.4, "low": 0.3}, 2, True),
        ({"value": 0.09, "low": 0.06}, None, False),
    ],
)
def test_what_the_original_does_not_show_can_not_come_back(
    original: dict, classes: int | None, absent: bool
):
    first = {"step": None, "metrics": {"forget_accuracy": {"1.0": original}}}
    found = recovery([first, row(None, s1=0.0), row(10, s1=0.5)], num_classes=classes)["1.0"]
    assert (found["steps_to_half"] is None) == absent and found.get(
        "nothing_to_recover", False
    ) == absent
    assert found["area"] == 0.25


def test_diverged_rows_are_left_out_of_the_recovery():
    rows = [row(None, s1=0.8), row(None, s1=0.0), row(10, s1=0.2), DIVERGED, row(30, s1=0.6)]
    assert recovery(rows) == recovery(rows[:3] + rows[4:])
    assert recovery([row(None, s1=0.8), row(None, s1=0.3), DIVERGED]) == {
        "1.0": {"budgets": [0], "forget_accuracy": [0.3], "area": 0.3, "steps_to_half": None}
    }
    assert recovery([row(None, s1=0.8), DIVERGED, DIVERGED]) == {}
    assert recovery([DIVERGED, DIVERGED]) == {}


def test_each_guidance_scale_has_its_own_recovery():
    found = recovery(
        [row(None, s1=0.8, s2=1.0), row(None, s1=0.0, s2=0.2), row(10, s1=0.8, s2=0.2)]
    )
    assert found["1.0"]["area"] == pytest.approx(0.4) and found["1.0"][
        "steps_to_half"
    ] == pytest.approx(5.0)
    assert found["2.0"]["area"] == pytest.approx(0.2) and found["2.0"]["steps_to_half"] is None
