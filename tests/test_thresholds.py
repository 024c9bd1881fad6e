"""The search for thresholds, with a fake trainer."""

import pytest

from jaxseg import thresholds
from jaxseg.core import UserError


def fake(within, across):
    """The coefficient grows with both; a strong push across images leaves two clusters."""
    used = 2.0 if across > 0.6 else 6.0
    return {"bimodality": 0.3 + within + 0.5 * across, "effective_clusters": used, "clusters": 10}


def test_the_highest_coefficient_without_collapse_is_suggested():
    seen = []
    found = thresholds.suggest(fake, (0.0, 0.1), (0.3, 0.5, 0.7), report=seen.append)
    assert (found.best.beta_within, found.best.beta_across) == (0.1, 0.5)
    assert len(found.trials) == 6
    assert list(found.trials) == seen
    assert [t.collapsed for t in found.trials] == [False, False, True] * 2
    lines = found.table().splitlines()
    assert len(lines) == 7
    assert lines[1].split() == ["0.100", "0.500", "0.650", "6.0", "of", "10", "<-", "suggested"]
    assert all(line.endswith("collapsed") for line in lines[-2:])


@pytest.mark.parametrize(("share", "across"), [(0.29, 0.7), (0.31, 0.3)])
def test_how_much_entropy_must_be_left_can_be_said(share, across):
    """Two of ten clusters have log 2 / log 10 = 0.301 of the largest entropy."""
    found = thresholds.suggest(fake, (0.0,), (0.3, 0.7), least_entropy=share)
    assert found.best.beta_across == across


def test_a_run_that_diverged_is_not_suggested():
    def diverged(within, across):
        return fake(within, across) | ({"bimodality": float("nan")} if within else {})

    found = thresholds.suggest(diverged, (0.0, 0.1), (0.5,))
    assert found.best.beta_within == 0.0
    assert "nan" in found.table().splitlines()[-1]


def test_where_everything_collapsed_nothing_is_suggested():
    found = thresholds.suggest(fake, (0.0,), (0.7, 0.8))
    assert found.best is None
    assert "Every pair collapsed" in found.table()


def test_wrong_searches_are_refused():
    with pytest.raises(UserError, match="grid of thresholds is empty"):
        thresholds.suggest(fake, (), (0.5,))
    with pytest.raises(UserError, match="least share of the entropy is 40"):
        thresholds.suggest(fake, least_entropy=40)
