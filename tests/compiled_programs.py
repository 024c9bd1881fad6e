"""Compiled programs that one run of the tests leaves to the next.

A folder of the user's cache holds them: JAXSEG_TEST_CACHE, or jaxseg-tests under $XDG_CACHE_HOME or
~/.cache; an empty JAXSEG_TEST_CACHE keeps none. A process works on links of its own, for a cache
that is written and read at once has crashed; making and removing a link is one act of the file
system, so that runs beside one another cannot see half a file. Names are JAX's keys, which differ
with the program, its options and the version of jaxlib, but not with the processor.
"""

import contextlib
import hashlib
import os
import pathlib
import shutil
import tempfile
import time

LIMIT = 2 << 30  # bytes of all programs
STALE = 24 * 3600  # seconds after which the links of a process that was killed are removed


def store_folder() -> pathlib.Path | None:
    """Returns the folder of this machine's programs; None = none are kept."""
    base = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    chosen = os.environ.get("JAXSEG_TEST_CACHE", os.path.join(base, "jaxseg-tests"))
    if not chosen:
        return None
    try:
        lines = pathlib.Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return None
    processor = "".join(sorted({line for line in lines if line.startswith(("flags", "Features"))}))
    return pathlib.Path(chosen).resolve() / hashlib.sha256(processor.encode()).hexdigest()[:16]


def borrow(store: pathlib.Path | None) -> pathlib.Path:
    """Returns a new folder with the programs of `store`; an empty one where that is no use."""
    if store is None:
        return pathlib.Path(tempfile.mkdtemp(prefix="jaxseg-compiled-"))
    try:
        store.mkdir(parents=True, exist_ok=True)
        for left in store.glob("own-*"):
            if left.stat().st_mtime < time.time() - STALE:
                shutil.rmtree(left, ignore_errors=True)
        own = pathlib.Path(tempfile.mkdtemp(prefix="own-", dir=store))
        for program in store.glob("*-cache"):
            _link(program, own)
    except OSError:
        return borrow(None)
    return own


def give_back(own: pathlib.Path, store: pathlib.Path | None) -> None:
    """Moves new and whole programs of `own` to `store`, and removes `own` and what is too much."""
    try:
        if store is not None and own.parent == store:
            known = {program.name for program in store.glob("*-cache")}
            for program in own.glob("*-cache"):
                if program.name not in known and _whole(program):
                    _link(program, store)
            _prune(store)
    except OSError:
        pass  # The next run compiles again.
    shutil.rmtree(own, ignore_errors=True)


def keep_those_of_one_device() -> None:
    """Makes JAX keep programs of a single device alone; `jaxseg.compiled.keep` says why."""
    from jax._src import compilation_cache

    read = compilation_cache.get_executable_and_time
    write = compilation_cache.put_executable_and_time

    def read_single(key, options, backend, devices):
        return read(key, options, backend, devices) if len(devices) == 1 else (None, None)

    def write_single(key, name, executable, backend, seconds):
        if len(executable.local_devices()) == 1:
            write(key, name, executable, backend, seconds)

    compilation_cache.get_executable_and_time = read_single
    compilation_cache.put_executable_and_time = write_single


def _link(program: pathlib.Path, folder: pathlib.Path) -> None:
    # Another run may just have left or removed it.
    with contextlib.suppress(FileExistsError, FileNotFoundError):
        os.link(program, folder / program.name)


def _whole(program: pathlib.Path) -> bool:
    """Says whether a program can be unpacked: tests kill processes that write one."""
    from jax._src.compilation_cache import decompress_executable

    try:
        return bool(decompress_executable(program.read_bytes()))
    except Exception:  # of whichever library packed it
        return False


def _prune(store: pathlib.Path) -> None:
    """Removes the oldest programs until the rest has at most LIMIT bytes."""
    found = [(program.stat(), program) for program in store.glob("*-cache")]
    total = sum(stat.st_size for stat, _ in found)
    for stat, program in sorted(found, key=lambda entry: entry[0].st_mtime):
        if total <= LIMIT:
            return
        program.unlink(missing_ok=True)
        total -= stat.st_size
