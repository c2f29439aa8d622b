"""Features of published sets, and scores of records by them, each against a small case."""

import numpy as np
import pytest

from unrelearn.audits import bounds, features, scores

TABLE = np.array([[0.0, 1.0, 5.0], [2.0, 3.0, 5.0], [4.0, 8.0, 5.0]])


def test_naive_features_are_mean_median_and_variance_of_each_column():
    assert features.naive(TABLE) == pytest.approx([2, 4, 5, 2, 3, 5, 8 / 3, (9 + 1 + 16) / 3, 0])


def test_correlations_of_a_constant_column_are_nought():
    found = features.correlations(TABLE)
    assert found == pytest.approx([np.corrcoef(TABLE[:, 0], TABLE[:, 1])[0, 1], 0, 0])


def test_the_histogram_reads_public_ranges_and_clips_what_lies_beyond():
    found = features.histogram(TABLE[:, :1], [(1.0, 3.0)])
    assert found.shape == (45,) and found.sum() == pytest.approx(1)
    assert found[0] == found[-1] == found[22] == pytest.approx(1 / 3)


def test_the_nearer_a_published_row_the_higher():
    found = features.nearest(TABLE, np.array([2.0, 3.0, 5.0]), (1, 2, 9))
    assert found == pytest.approx([0, -8, -8 - 29])


def test_features_do_not_depend_on_the_order_of_rows_or_of_tables():
    table = np.random.default_rng(0).normal(size=(50, 4))
    known = table[3], [(-3, 3)] * 4
    first = features.of_table(table, *known)
    features.of_table(table * 9, *known)
    assert features.of_table(table[::-1], *known) == pytest.approx(first)
    assert len(first) == 12 + 6 + 180 + 6


def test_images_are_what_a_classifier_sees_in_them():
    probabilities = np.array([[0.9, 0.1], [0.2, 0.8], [0.4, 0.6]])
    shown = features.of_images(probabilities, TABLE, TABLE[1])
    assert len(shown) == 2 + 3 + 3 + 6
    assert shown[:2] == pytest.approx([1 / 3, 2 / 3]) and shown[2:5] == pytest.approx([2, 4, 5])
    assert shown[5:8] == pytest.approx(features.correlations(TABLE))
    assert shown[8] == 0 and (np.diff(shown[8:]) <= 0).all()


def test_a_published_record_is_nearest_to_itself():
    published = np.random.default_rng(0).normal(size=(30, 2))
    others = published + 5
    found = scores.nearest_records(published, np.concatenate([published[:3], others[:3]]))
    assert (found[:3] == 0).all() and (found[3:] < 0).all()
    apart = np.linalg.norm(published - others[0], axis=1).min()
    assert found[3] == pytest.approx(-apart)


def test_the_density_ratio_finds_what_is_denser_than_the_population():
    """Published rows crowd around twenty records of a population that is as wide."""
    rng = np.random.default_rng(0)
    members, others, reference = (rng.normal(size=(n, 4)) for n in (20, 20, 400))
    published = np.repeat(members, 20, axis=0) + 0.05 * rng.normal(size=(400, 4))
    found = scores.density_ratio(published, reference, np.concatenate([members, others]))
    assert bounds.auc(found[:20], found[20:]) > 0.85
    null = scores.density_ratio(rng.normal(size=(400, 4)), reference, rng.normal(size=(200, 4)))
    assert abs(np.median(null)) < 0.15
