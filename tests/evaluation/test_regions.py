"""Scores of groups against regions, beside what the formulas say, read pixel by pixel."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from jaxseg.evaluation.regions import RegionScores, compare

SHAPE = st.tuples(st.integers(1, 6), st.integers(1, 6))


@st.composite
def maps(draw, count=1):
    """Draws (regions, groups) of a few images, with pixels in neither, and a foreground."""
    images = []
    for _ in range(count):
        shape = draw(SHAPE)
        images.append(
            tuple(draw(hnp.arrays(np.int32, shape, elements=st.integers(-1, 3))) for _ in range(2))
        )
    return images, np.array(draw(st.lists(st.booleans(), min_size=4, max_size=4)))


def brute(images, foreground, dropped=False):
    """Returns covering, nfcovering and fscore from sets of pixels."""
    covering, normalised, fscores = [], [], []
    for regions, groups in images:
        pixels = range(regions.size)
        region, group = regions.reshape(-1), groups.reshape(-1)
        seen = {p for p in pixels if region[p] >= 0 or not dropped}
        sets = {r: {p for p in seen if region[p] == r} for r in set(region) if r >= 0}
        parts = [{p for p in seen if group[p] == g} for g in set(group) if g >= 0]
        best = {
            r: max((len(s & t) / len(s | t) for t in parts), default=0) for r, s in sets.items()
        }
        if sets:
            covering.append(
                sum(len(s) * best[r] for r, s in sets.items()) / sum(map(len, sets.values()))
            )
        chosen = [r for r in sets if foreground[r]]
        if chosen:
            normalised.append(np.mean([best[r] for r in chosen]))
        fscores += [
            max((2 * len(sets[r] & t) / (len(sets[r]) + len(t)) for t in parts), default=0)
            for r in chosen
        ]
    return [np.mean(x) if x else np.nan for x in (covering, normalised, fscores)]


def score(images, foreground, dropped=False):
    record = RegionScores()
    for regions, groups in images:
        table = compare(regions, groups)
        if dropped:
            table[-1] = 0
        record = record.update(table, foreground[: len(table) - 1])
    return record


@settings(deadline=None)
@given(maps(count=3), st.booleans())
def test_scores_are_those_of_sets_of_pixels(drawn, dropped):
    found = score(*drawn, dropped).result()
    np.testing.assert_allclose(list(found.values()), brute(*drawn, dropped), rtol=1e-12)


@settings(deadline=None)
@given(maps(count=3), st.integers(0, 3))
def test_records_can_be_merged(drawn, cut):
    images, foreground = drawn
    parts = [score(part, foreground) for part in (images[:cut], images[cut:])]
    np.testing.assert_allclose(
        list(parts[0].merge(parts[1]).result().values()),
        list(score(images, foreground).result().values()),
        rtol=1e-12,
    )


def test_the_regions_themselves_score_one():
    regions = np.array([[0, 0, 1], [2, 2, -1]])
    found = score([(regions, 5 + np.where(regions < 0, 9, regions))], np.ones(3, bool)).result()
    assert set(found.values()) == {1.0}


def test_one_group_for_all_by_hand():
    regions = np.array([[0, 0, 0, 1]])
    found = score([(regions, np.zeros((1, 4), int))], np.array([False, True])).result()
    assert found["covering"] == pytest.approx(3 / 4 * 3 / 4 + 1 / 4 * 1 / 4)
    assert found["nfcovering"] == pytest.approx(1 / 4)
    assert found["fscore"] == pytest.approx(2 / 5)


def test_the_table_counts_every_pixel_once():
    rng = np.random.default_rng(0)
    regions, groups = rng.integers(-1, 5, (2, 20, 30))
    table = compare(regions, groups)
    assert table.shape == (6, 6)
    for r in range(-1, 5):
        for g in range(-1, 5):
            assert table[r, g] == np.sum((regions == r) & (groups == g))
