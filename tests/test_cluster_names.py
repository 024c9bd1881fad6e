"""Names that were given to clusters are used as long as the clusters are the same."""

import json

import pytest

import jaxseg
from jaxseg.cluster_names import check_names, given_names, keep_names
from jaxseg.core import UserError
from jaxseg.trained import Trained
from tests.runs import INFOSEG, OWN, make_run

NAMES = ["water", "<b>land</b>", "Wald — ä"]


def test_names_are_kept_by_entry(tmp_path):
    keep_names(tmp_path, "a", "first", NAMES)
    keep_names(tmp_path, "", "second", ["x"])
    assert given_names(tmp_path, "a", lambda: "first") == NAMES
    assert given_names(tmp_path, "", lambda: "second") == ["x"]
    assert given_names(tmp_path, "b", lambda: "first") == []
    # Other clusters by now.
    assert given_names(tmp_path, "a", lambda: "third") == []
    assert [path.name for path in tmp_path.iterdir()] == ["names.json"]


@pytest.mark.parametrize("entry", [OWN, None], ids=["evaluated", "never evaluated"])
def test_a_loaded_run_and_its_bundle_have_the_names(tmp_path, entry):
    workdir = tmp_path / "run"
    make_run(workdir, INFOSEG, entry)
    before = Trained.load(workdir)
    keep_names(workdir, before.meta["entry_name"], before.clusters, NAMES)
    named = Trained.load(workdir)
    assert list(named.names) == NAMES
    assert named.clusters == before.clusters
    assert named.sha256 != before.sha256  # predict does its images again
    assert (named.colours == before.colours).all()
    named.save(tmp_path / "bundle")
    assert jaxseg.load(tmp_path / "bundle").names == tuple(NAMES)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["a", "b"], "There are 3 clusters; give a list of 3 names"),
        ("abc", "give a list of 3 names"),
        (["a", "b", 3], "cluster 2 is 3; give one of 1 to 80 letters"),
        (["a", " ", "c"], "cluster 1 is ' '"),
        (["a", "b", "c" * 81], "1 to 80 letters"),
        (["a\nb", "b", "c"], "control letters"),
    ],
)
def test_what_is_no_name(names, message):
    with pytest.raises(UserError, match=message):
        check_names(names, 3)


@pytest.mark.parametrize("text", ["{", "[]", '{"": {"names": ["a"]}}', '{"": {"clusters": 1}}'])
def test_a_damaged_file_is_named(tmp_path, text):
    (tmp_path / "names.json").write_text(text)
    with pytest.raises(UserError, match=r"names.json holds no names of clusters .* delete it"):
        given_names(tmp_path, "", lambda: "")


def test_blanks_around_names_are_cut(tmp_path):
    assert check_names([" a ", "b"], 2) == ["a", "b"]
    keep_names(tmp_path, "", "x", ["a"])
    assert json.loads((tmp_path / "names.json").read_text())[""]["names"] == ["a"]
