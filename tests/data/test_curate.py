"""Lists chosen by a rule: resumed, kept, and never mixed up."""

import pytest

from jaxseg.core import UserError
from jaxseg.data import curate
from jaxseg.data.curate import chosen, key_of

NAMES = [f"a {index}é.jpg" for index in range(7)]


def even(index: int) -> bool:
    return index % 2 == 0


def test_a_list_is_written_with_its_rule_and_read_again(tmp_path):
    directory = tmp_path / "new" / "lists"
    kept = chosen(str(directory), "rule", "even ones", "key", NAMES, even)
    assert kept == tuple(NAMES[::2])
    [path] = directory.iterdir()
    assert path.name == "rule-key.txt"
    lines = path.read_text(encoding="utf-8").splitlines()
    assert lines == ["# even ones", "# 4 of 7 images", *kept]
    assert chosen(str(directory), "rule", "even ones", "key", NAMES, None) == kept


def test_a_killed_run_goes_on(tmp_path, monkeypatch):
    monkeypatch.setattr(curate, "_CHUNK", 2)
    asked = []

    def dies_at_five(index: int) -> bool:
        if index == 5:
            raise KeyboardInterrupt
        return even(index)

    def counts(index: int) -> bool:
        asked.append(index)
        return even(index)

    with pytest.raises(KeyboardInterrupt):
        chosen(str(tmp_path), "rule", "", "key", NAMES, dies_at_five, threads=1)
    [part] = tmp_path.iterdir()
    with part.open("ab") as file:
        file.write(b"1 a 4")  # a line cut off
    kept = chosen(str(tmp_path), "rule", "", "key", NAMES, counts, threads=1)
    assert kept == tuple(NAMES[::2])
    assert asked == [4, 5, 6]
    assert [path.name for path in tmp_path.iterdir()] == ["rule-key.txt"]


def test_the_key_follows_the_files_and_the_rule(tmp_path):
    paths = [tmp_path / "a", tmp_path / "b"]
    for path in paths:
        path.write_text("1")
    keys = {key_of("rule", map(str, paths)), key_of("other", map(str, paths))}
    keys.add(key_of("rule", [str(paths[0])]))
    paths[0].write_text("22")
    keys.add(key_of("rule", map(str, paths)))
    assert len(keys) == 4


def test_a_list_changed_by_hand(tmp_path):
    chosen(str(tmp_path), "rule", "", "key", NAMES, even)
    (tmp_path / "rule-key.txt").write_text("x.jpg\n")
    with pytest.raises(UserError, match=r"rule-key\.txt names x\.jpg.*Delete it"):
        chosen(str(tmp_path), "rule", "", "key", NAMES, even)


def test_a_place_that_cannot_be_written(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"data\.lists_dir: cannot write .*file/rule-key"):
        chosen(str(tmp_path / "file"), "rule", "", "key", NAMES, even)
