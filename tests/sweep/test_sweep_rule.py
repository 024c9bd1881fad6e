"""The rule, on numbers that are made up."""

import json

import numpy as np
import pytest

from jaxseg.core import UserError
from jaxseg.sweep.rule import CRITERIA, Trial, decide

SILHOUETTE, STABILITY, MODULARITY = CRITERIA


def trial(clusters, silhouette=0.5, stability=0.5, modularity=0.5, noise=0.01, **fields):
    """A trial whose clouds without clusters have 0.1 in everything, give or take `noise`."""
    found = dict(zip(CRITERIA, (silhouette, stability, modularity), strict=True))
    references = dict.fromkeys(CRITERIA, (0.1 - noise, 0.1, 0.1 + noise))
    return Trial(clusters, found, references, float(clusters), **fields)


def test_the_highest_mean_share_is_recommended():
    found = decide([trial(8, 0.3, 0.7, 0.4), trial(2, 0.5, 0.9, 0.2), trial(4, 0.5, 0.8, 0.6)])
    assert [t.clusters for t in found.trials] == [2, 4, 8]
    assert found.best == 4
    assert found.voters == tuple(CRITERIA)
    wanted = {2: (1 + 1 + 0.1 / 0.5) / 3, 4: (1 + 0.7 / 0.8 + 1) / 3, 8: (0.5 + 0.75 + 0.6) / 3}
    assert found.scores == pytest.approx(wanted)
    assert found.noise == pytest.approx(dict.fromkeys(CRITERIA, 0.01))


def test_of_equals_the_smallest():
    assert decide([trial(6), trial(3), trial(9)]).best == 3


def test_a_criterion_without_structure_has_no_vote():
    """Its excess of 0.02 is within three times its noise, though it is highest at 8."""
    found = decide([trial(4, 0.11, 0.9, 0.9), trial(8, 0.12, 0.8, 0.8)])
    assert found.voters == (STABILITY, MODULARITY)
    assert found.best == 4
    more = decide([trial(4, 0.11, 0.9, 0.9), trial(8, 0.9, 0.8, 0.8)])
    assert more.best == 8


@pytest.mark.parametrize("others", [0.1, 0.05, 0.12])
def test_without_two_criteria_nothing_is_recommended(others):
    found = decide([trial(k, others, 0.9, others) for k in (2, 4)])
    assert found.best is None
    assert found.voters == (STABILITY,)
    assert "No K is recommended: fewer than two" in found.table()


def test_what_collapsed_or_has_no_value_takes_no_part():
    best = {"silhouette": 0.9, "stability": 1.0, "modularity": 0.9}
    found = decide(
        [trial(2, **best, collapsed=True), trial(4, **best | {"silhouette": float("nan")}),
         trial(8), trial(16, 0.4)]
    )  # fmt: skip
    assert found.best == 8
    assert np.isnan([found.scores[2], found.scores[4]]).all()
    assert found.table().splitlines()[1].endswith("collapsed")
    none = decide([trial(k, collapsed=True) for k in (2, 4)])
    assert none.best is None
    assert "every one of them collapsed" in none.verdict


def test_the_table_and_the_record_say_the_same():
    found = decide([trial(2), trial(4, 0.6, 0.9, 0.7), trial(8, float("nan"))])
    lines = found.table().splitlines()
    assert lines[2].split()[:3] == ["4", "0.600", "(+0.500)"]
    assert lines[2].endswith("<- recommended")
    record = json.loads(json.dumps(found.record(), allow_nan=False))
    assert record["recommended"] == 4
    assert record["trials"][1]["excess"]["stability"] == pytest.approx(0.8)
    assert record["trials"][2]["silhouette"] is None
    assert record["trials"][2]["score"] is None
    assert record["criteria"].keys() == CRITERIA.keys()


def test_what_is_nearly_as_good_is_said():
    found = decide([trial(2, 0.46), trial(4), trial(8, 0.2), trial(16, 0.4)])
    assert found.near == (2, 16)
    assert "Nearly as good: 2, 16." in found.verdict
    assert found.record()["nearly_as_good"] == [2, 16]
    assert decide([trial(k, collapsed=True) for k in (2, 4)]).near == ()


def test_an_end_of_the_sweep_is_said():
    up = decide([trial(2, 0.2, 0.2, 0.2), trial(4)])
    assert up.best == 4
    assert "try larger numbers" in up.verdict
    assert "try smaller numbers" in decide([trial(2), trial(4, 0.2, 0.2, 0.2)]).verdict


def test_one_trial_for_each_number():
    for trials in ([], [trial(4), trial(4)]):
        with pytest.raises(UserError, match="one trial for each"):
            decide(trials)
