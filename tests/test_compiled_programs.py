"""Compiled programs that runs of the tests hand on."""

import os
import pathlib
import time

import jax
import pytest
from jax._src.compilation_cache import compress_executable

from tests import compiled_programs
from tests.compiled_programs import borrow, give_back, store_folder

PROGRAM = compress_executable(b"program" * 100)


def write(own, name, content=PROGRAM):
    (own / f"{name}-cache").write_bytes(content)


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_whole_programs_are_handed_on(tmp_path):
    store = tmp_path / "store"
    first, beside = borrow(store), borrow(store)
    write(first, "a")
    write(first, "cut", PROGRAM[:-8])
    write(beside, "a")
    write(beside, "b")
    give_back(first, store)
    give_back(beside, store)
    assert names(store) == ["a-cache", "b-cache"]
    later = borrow(store)
    assert names(later) == ["a-cache", "b-cache"]
    assert (later / "a-cache").read_bytes() == PROGRAM


def test_the_oldest_go_and_links_of_killed_processes_too(tmp_path, monkeypatch):
    monkeypatch.setattr(compiled_programs, "LIMIT", 2 * len(PROGRAM))
    killed, own = borrow(tmp_path), borrow(tmp_path)
    os.utime(killed, (0, 0))
    for age, name in enumerate("abc"):
        write(own, name)
        os.utime(own / f"{name}-cache", (time.time() - age,) * 2)
    give_back(own, tmp_path)
    assert names(tmp_path) == ["a-cache", "b-cache", killed.name]
    next_one = borrow(tmp_path)
    assert names(tmp_path) == ["a-cache", "b-cache", next_one.name]


def test_without_a_place_nothing_is_kept(tmp_path, monkeypatch):
    monkeypatch.setenv("JAXSEG_TEST_CACHE", "")
    assert store_folder() is None
    no_folder = tmp_path / "file"
    no_folder.touch()
    for store in (None, no_folder / "store"):
        own = borrow(store)
        write(own, "a")
        give_back(own, store)
        assert not own.exists()
    assert names(tmp_path) == ["file"]


@pytest.mark.parametrize("chosen", [True, False])
def test_where_they_are_kept(tmp_path, monkeypatch, chosen):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv("JAXSEG_TEST_CACHE", raising=False)
    if chosen:
        monkeypatch.setenv("JAXSEG_TEST_CACHE", str(tmp_path / "chosen"))
    assert store_folder().parent == tmp_path / ("chosen" if chosen else "jaxseg-tests")


def test_programs_of_several_devices_are_not_kept():
    folder = pathlib.Path(os.environ["JAX_COMPILATION_CACHE_DIR"])

    def kept(count):
        mesh = jax.make_mesh((count,), ("data",), devices=jax.devices()[:count])
        spread = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("data"))

        def added(x):
            return x.sum()

        added.__name__ = f"of_{count}_devices"  # names the file
        jax.jit(added, in_shardings=spread).lower(jax.numpy.ones(8)).compile()
        return any(folder.glob(f"jit_{added.__name__}*"))

    assert kept(1)
    assert not kept(2)
