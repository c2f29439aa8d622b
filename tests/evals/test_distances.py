"""Distances between sets of features, against closed forms, other libraries and loops that spell
out the definition.
"""

import math
import warnings

import cleanfid.fid
import numpy as np
import pytest
import torch
from torch import Tensor
from torchmetrics.image.fid import _compute_fid
from torchmetrics.image.kid import poly_mmd

from unrelearn.evals import (
    density_coverage,
    fd_oracle,
    fid,
    inception_score,
    kid,
    kid_oracle,
    precision_recall,
)
from unrelearn.evals.evidence import Evidence, Predictions, spread
from unrelearn.evals.fd_oracle import frechet_distance
from unrelearn.evals.kid_oracle import squared_mmd


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def rotation(d: int, seed: int) -> Tensor:
    return torch.linalg.qr(normal(d, d, seed=seed))[0]


# --------------------------------------------------------------------------------- Frechet distance


@pytest.mark.parametrize("commuting", [True, False])
@pytest.mark.parametrize("n", [300, 10], ids=["full rank", "fewer rows than columns"])
def test_frechet_distance_is_that_of_the_optimal_map(commuting: bool, n: int):
    """x -> T x + s with T symmetric and positive is the optimal map between Gaussians (Knott &
    Smith 1984), so that

    the distance is |s|^2 + tr(C) + tr(T C T) - 2 tr(T C), for covariances that commute as for
    others.
    """
    d, shift = 16, torch.linspace(-1, 1, 16, dtype=torch.float64)
    own, other = rotation(d, seed=1), rotation(d, seed=2)
    a = normal(n, d) * torch.linspace(0.2, 3, d, dtype=torch.float64) @ own.T
    c = torch.cov(a.T)
    axes = torch.linalg.eigh(c)[1] if commuting else other
    t = axes * torch.linspace(0.1, 2, d, dtype=torch.float64) @ axes.T
    b = a @ t + shift + (a.mean(0) - a.mean(0) @ t)  # the map moves the mean by s alone
    assert ((c @ (t @ c @ t) - (t @ c @ t) @ c).abs().max() < 1e-10) == commuting
    expected = shift.square().sum() + c.trace() + (t @ c @ t).trace() - 2 * (t @ c).trace()
    assert frechet_distance(a, b) == pytest.approx(expected.item(), rel=1e-6)
    assert frechet_distance(b, a) == pytest.approx(expected.item(), rel=1e-6)


@pytest.mark.parametrize(
    "n, m, tolerance",
    [(300, 400, 1e-9), (40, 300, 1e-6), (40, 50, 1e-5)],
    ids=["full rank", "one of low rank", "both"],
)
def test_frechet_distance_is_that_of_clean_fid_and_torchmetrics(n: int, m: int, tolerance: float):
    mixing = normal(64, 64, seed=1)
    a, b = normal(n, 64, seed=2) @ mixing, normal(m, 64, seed=3) @ mixing * 0.7 + 0.3
    moments = a.mean(0), torch.cov(a.T), b.mean(0), torch.cov(b.T)
    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore", DeprecationWarning
        )  # of scipy, for an argument that clean-fid gives it
        theirs = cleanfid.fid.frechet_distance(*(moment.numpy() for moment in moments))
    assert frechet_distance(a, b) == pytest.approx(theirs, rel=tolerance)
    assert frechet_distance(a, b) == pytest.approx(_compute_fid(*moments).item(), rel=tolerance)


def test_one_image_has_no_frechet_distance():
    assert frechet_distance(normal(1, 4), normal(9, 4)) is None
    assert frechet_distance(normal(9, 4), normal(1, 4)) is None
    assert frechet_distance(normal(2, 4), normal(9, 4)) > 0


# ---------------------------------------------------------------------------------- kernel distance


def test_squared_mmd_is_that_of_clean_fid_and_torchmetrics():
    x, y = normal(60, 32, seed=1), normal(60, 32, seed=2) * 1.1 + 0.2
    ours = squared_mmd(x, y)[0]
    assert ours == pytest.approx(
        cleanfid.fid.kernel_distance(x.numpy(), y.numpy(), num_subsets=1), rel=1e-9
    )
    assert ours == pytest.approx(poly_mmd(x, y).item(), rel=1e-9)


@pytest.mark.parametrize("block", [1, 100, 45 * 7, 45 * 30])
def test_blocks_make_the_whole(block: int, monkeypatch: pytest.MonkeyPatch):
    x, y = normal(30, 8, seed=1), normal(45, 8, seed=2) + 0.5
    whole = squared_mmd(x, y)
    monkeypatch.setattr(kid_oracle, "BLOCK", block)
    assert max(len(part) for part in kid_oracle.kernel_blocks(x, y)) == min(30, max(1, block // 45))
    assert squared_mmd(x, y) == pytest.approx(whole, rel=1e-12)
    known = kid_oracle.within(y, torch.ones(45, 1, dtype=torch.float64))
    assert squared_mmd(x, y, within_y=known) == pytest.approx(whole, rel=1e-12)


def test_squared_mmd_of_a_set_to_itself_counts_each_pair():
    x = normal(20, 3)
    assert squared_mmd(x, x) == squared_mmd(
        x, x.clone()
    )  # the diagonal is left out of pairs within a set only


def test_squared_mmd_and_its_error_are_right_on_average():
    """Drawn again and again from two small populations, whose distance is a plain mean over all
    pairs.
    """
    p, q = normal(30, 3, seed=1), normal(30, 3, seed=2) * 1.2 + 0.4

    def mean_kernel(a: Tensor, b: Tensor) -> float:
        return ((a @ b.T / 3 + 1) ** 3).mean().item()

    exact = mean_kernel(p, p) + mean_kernel(q, q) - 2 * mean_kernel(p, q)
    g = torch.Generator().manual_seed(0)
    found = torch.tensor(
        [
            squared_mmd(
                p[torch.randint(30, (25,), generator=g)], q[torch.randint(30, (25,), generator=g)]
            )[0]
            for _ in range(600)
        ],
        dtype=torch.float64,
    )
    assert abs(found.mean() - exact) < 3 * found.std() / 600**0.5
    # the jackknife is over both sides
    found = torch.tensor(
        [
            squared_mmd(
                p[torch.randint(30, (25,), generator=g)], q[torch.randint(30, (25,), generator=g)]
            )
            for _ in range(600)
        ]
    )
    assert found[:, 1].square().mean().sqrt() == pytest.approx(found[:, 0].std().item(), rel=0.2)


@pytest.mark.parametrize(
    "n, m, known",
    [
        (0, 9, (False, False)),
        (1, 9, (False, False)),
        (2, 9, (True, False)),
        (3, 9, (True, True)),
        (9, 1, (False, False)),
        (9, 2, (True, False)),
    ],
)
def test_what_too_few_images_can_not_tell_is_left_open(n: int, m: int, known: tuple[bool, bool]):
    found = squared_mmd(normal(n, 4, seed=1), normal(m, 4, seed=2))
    assert tuple(number is not None for number in found) == known
    assert all(math.isfinite(number) for number in found if number is not None)


# ------------------------------------------------------- precision and recall, density and coverage


def loops(real: Tensor, generated: Tensor, k: int) -> dict[str, float]:
    """The definitions, one pair of images at a time."""
    real, generated = real.numpy(), generated.numpy()

    def radius(points: np.ndarray, i: int) -> float:
        return sorted(np.linalg.norm(points[i] - p) for j, p in enumerate(points) if j != i)[k - 1]

    real_balls = [(x, radius(real, i)) for i, x in enumerate(real)]
    generated_balls = [(x, radius(generated, i)) for i, x in enumerate(generated)]

    def holds(ball: tuple, x: np.ndarray) -> bool:
        return np.linalg.norm(ball[0] - x) <= ball[1]

    return {
        "precision": np.mean([any(holds(ball, y) for ball in real_balls) for y in generated]),
        "recall": np.mean([any(holds(ball, x) for ball in generated_balls) for x in real]),
        "density": np.mean([sum(holds(ball, y) for ball in real_balls) for y in generated]) / k,
        "coverage": np.mean([any(holds(ball, y) for y in generated) for ball in real_balls]),
    }


def measured(real: Tensor, generated: Tensor, k: int) -> dict[str, float]:
    precision, recall = precision_recall.precision_recall(real, generated, k)
    density, coverage = density_coverage.density_coverage(real, generated, k)
    return {"precision": precision, "recall": recall, "density": density, "coverage": coverage}


@pytest.mark.parametrize("k", [1, 3, 5])
@pytest.mark.parametrize("block", [1, 40 * 13, 1 << 24])
def test_they_are_what_their_definitions_say(k: int, block: int, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(precision_recall, "BLOCK", block)
    real, generated = normal(40, 3, seed=1), normal(40, 3, seed=2) * 0.8 + 1.5
    expected = loops(real, generated, k)
    assert all(
        0 < value < 1 for value in (expected["precision"], expected["recall"], expected["coverage"])
    )
    assert measured(real, generated, k) == pytest.approx(expected, abs=1e-12)
    assert measured(real + 1000, generated + 1000, k) == pytest.approx(expected, abs=1e-12)


def test_of_the_same_images_everything_is_found():
    x = normal(50, 63, seed=1) + 100
    copies = x[:10].repeat(5, 1)  # balls of radius zero hold their own centre
    for images in (x, copies):
        found = measured(images, images.flip(0), k=3)
        assert (found["precision"], found["recall"], found["coverage"]) == (1.0, 1.0, 1.0)
        more = precision_recall.hits(images, torch.cat([images, images[:7]]), 3)[
            0
        ]  # other shapes are added up in other orders
        assert (more > 0).all()
    assert measured(x, x.flip(0), k=3)["density"] == pytest.approx(
        4 / 3
    )  # the ball's k neighbours and its centre
    assert measured(copies, copies.flip(0), k=3)["density"] == pytest.approx(5 / 3)


def test_of_images_far_apart_nothing_is_found():
    x = normal(50, 4, seed=1)
    assert measured(x, normal(50, 4, seed=2) + 100, k=5) == {
        "precision": 0,
        "recall": 0,
        "density": 0,
        "coverage": 0,
    }


def test_a_dropped_mode_lowers_recall_and_an_invented_one_precision():
    def modes(*centres: float, seed: int) -> Tensor:
        return torch.cat(
            [normal(200 // len(centres), 2, seed=seed + i) + c for i, c in enumerate(centres)]
        )

    dropped = measured(modes(0, 100, seed=1), modes(0, seed=5), k=3)
    assert dropped["precision"] > 0.9 and dropped["recall"] == pytest.approx(0.5, abs=0.05)
    assert dropped["density"] == pytest.approx(1, abs=0.2) and dropped["coverage"] == pytest.approx(
        0.5, abs=0.05
    )
    invented = measured(modes(0, seed=5), modes(0, 100, seed=1), k=3)
    assert invented["recall"] > 0.9 and invented["precision"] == pytest.approx(0.5, abs=0.05)
    assert invented["density"] == pytest.approx(0.5, abs=0.1)


@pytest.mark.parametrize("k", [1, 3])
def test_density_and_coverage_of_equal_distributions_are_as_expected(k: int):
    """Naeem et al. 2020, lemma 2: E[density] = 1, E[coverage] = 1 - (N-1)...(N-k) /
    ((2N-1)...(2N-k)) -> 1 - 1 / 2^k.
    """
    n, draws = 40, 150
    found = torch.tensor(
        [
            density_coverage.density_coverage(
                normal(n, 3, seed=2 * i), normal(n, 3, seed=2 * i + 1), k
            )
            for i in range(draws)
        ]
    )
    expected = torch.tensor([1.0, 1 - math.prod((n - i) / (2 * n - i) for i in range(1, k + 1))])
    assert expected[1] == pytest.approx(1 - 0.5**k, abs=0.02)
    assert ((found.mean(0) - expected).abs() < 3 * found.std(0) / draws**0.5).all()


# ---------------------------------------------------------------------------------- Inception Score


def test_the_inception_score_is_one_of_unsure_and_k_of_sure_predictions():
    same = torch.tensor([0.2, 0.5, 0.3], dtype=torch.float64).repeat(60, 1)
    for p in (torch.full((60, 8), 1 / 8, dtype=torch.float64), same):
        assert inception_score.inception_score(p) == pytest.approx((1, 0), abs=1e-9)
    sure = torch.eye(6, dtype=torch.float64).repeat(
        20, 1
    )  # each of the ten parts holds all six classes alike
    assert inception_score.inception_score(sure) == pytest.approx((6, 0), abs=1e-9)


def test_the_inception_score_is_what_its_definition_says():
    p = (normal(53, 7) * 2).softmax(1)
    scores = []
    for part in np.array_split(p.numpy(), 10):
        scores.append(np.exp(np.mean([sum(row * np.log(row / part.mean(0))) for row in part])))
    assert inception_score.inception_score(p) == pytest.approx(
        (np.mean(scores), np.std(scores)), rel=1e-9
    )
    assert all(
        math.isfinite(x) for x in inception_score.inception_score(p[:3])
    )  # fewer images than parts


# ---------------------------------------------------------------------------------- as measurements


def predictions(n: int, seed: int, *, inception: bool = True) -> Predictions:
    features, shown = normal(n, 6, seed=seed), normal(n, 9, seed=seed + 100).float() + 1
    return Predictions(
        torch.zeros(n, dtype=torch.int64),
        features.softmax(1),
        features.softmax(1),
        features,
        *((shown, (2 * shown).softmax(1)) if inception else ()),
    )


def evidence(
    *, generated: int = 40, train: int = 60, test: int = 25, inception: bool = True
) -> Evidence:
    return Evidence(
        {},
        {
            "1.0": predictions(generated, 1, inception=inception),
            "2.0": predictions(generated, 2, inception=inception),
        },
        predictions(train, 3, inception=inception),
        predictions(test, 4, inception=inception),
        forget_classes=[2],
        num_classes=4,
    )


@pytest.mark.parametrize(
    "measurement, distance",
    [(fid, frechet_distance), (kid, lambda x, y: squared_mmd(x, y)[0])],
    ids=["fid", "kid"],
)
def test_fid_and_kid_read_inception_features_in_float64(measurement, distance):
    seen, result = evidence(), measurement.run(evidence())
    reference, test = (
        seen.real_train.inception_features.double(),
        seen.real_test.inception_features.double(),
    )
    assert list(result) == ["1.0", "2.0"]
    for scale, row in result.items():
        features = seen.retain[scale].inception_features.double()
        assert row["n"] == 25 and row.get("reference_n", 60) == 60 and row.get("std", 1.0) > 0
        assert row["value"] == pytest.approx(distance(spread(features, 25), reference), rel=1e-12)
        assert row["floor"] == pytest.approx(distance(test, reference), rel=1e-9)
    assert result["1.0"]["value"] != result["2.0"]["value"]


@pytest.mark.parametrize("source", ["oracle", "inception"])
@pytest.mark.parametrize("generated, n", [(40, 40), (80, 60)])
def test_neighbours_are_counted_among_as_many_real_as_generated_images(
    source: str, generated: int, n: int
):
    seen = evidence(generated=generated)
    real, made = (fd_oracle.features_of(s, source) for s in (seen.real_train, seen.retain["2.0"]))
    expected = measured(spread(real, n), spread(made, n), k=3)
    common = {"n": n, "k": 3, "features": source}
    assert precision_recall.run(seen, features=source, k=3)["2.0"] == {
        "precision": expected["precision"],
        "recall": expected["recall"],
        **common,
    }
    assert density_coverage.run(seen, features=source, k=3)["2.0"] == {
        "density": expected["density"],
        "coverage": expected["coverage"],
        **common,
    }


def test_without_enough_neighbours_there_is_no_precision():
    seen = evidence(generated=3)
    assert precision_recall.run(seen, features="oracle", k=3)["1.0"]["precision"] is None
    assert density_coverage.run(seen, features="oracle", k=3)["1.0"] == {
        "density": None,
        "coverage": None,
        "n": 3,
        "k": 3,
        "features": "oracle",
    }
    assert 0 <= precision_recall.run(seen, features="oracle", k=2)["1.0"]["recall"] <= 1


def test_the_inception_score_stands_beside_that_of_as_many_real_images():
    seen, result = evidence(), inception_score.run(evidence())
    for scale, row in result.items():
        value, std = inception_score.inception_score(
            spread(seen.retain[scale].inception_probabilities.double(), 25)
        )
        real = inception_score.inception_score(
            spread(seen.real_test.inception_probabilities.double(), 25)
        )[0]
        assert row == {"value": value, "std": std, "n": 25, "real": real}
        assert 1 < row["value"] < 9 and row["std"] > 0


@pytest.mark.parametrize(
    "measure",
    [
        fid.run,
        kid.run,
        inception_score.run,
        lambda e: precision_recall.run(e, features="inception", k=3),
        lambda e: density_coverage.run(e, features="inception", k=3),
    ],
    ids=["fid", "kid", "is", "pr", "dc"],
)
def test_images_never_shown_to_inception_are_not_measured_by_it(measure):
    with pytest.raises(ValueError, match="not shown to the Inception network") as error:
        measure(evidence(inception=False))
    assert "\n" not in str(error.value)
