"""Compiled programs are kept on disk, so that the second start of a run needs no compiling."""

import os
import pathlib
import platform
import zlib

import jax


def keep() -> None:
    """Lets JAX keep compiled programs, below the user's cache folder.

    JAX_COMPILATION_CACHE_DIR names another folder; set but empty, nothing is kept. The folder may
    be deleted at any time. Call it before anything is compiled, and after `processes.join`, for it
    starts the devices.

    Where several CPUs work together, simulated ones or processes, nothing is kept: of a program
    that was read back they may begin with different exchanges of data, and then wait for each other
    for ever (seen with jaxlib 0.10.2).
    """
    try:
        several_cpus = jax.default_backend() == "cpu" and jax.device_count() > 1
    except Exception:  # there is no device: what needs one will say so
        several_cpus = False
    if several_cpus:
        jax.config.update("jax_enable_compilation_cache", False)
    elif "JAX_COMPILATION_CACHE_DIR" not in os.environ:
        jax.config.update("jax_compilation_cache_dir", str(_folder()))


def _folder() -> pathlib.Path:
    """Returns a folder for the programs of processors like this one.

    XLA compiles for the very instructions that the processor has, and a home may be shared by
    machines that have others.
    """
    try:
        lines = pathlib.Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    named = next((line for line in lines if line.startswith(("flags", "Features"))), "")
    kind = f"{platform.machine()}-{zlib.crc32(named.encode()):08x}"
    cache = os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache"
    return pathlib.Path(cache) / "jaxseg" / kind
