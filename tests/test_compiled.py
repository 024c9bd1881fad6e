"""Where compiled programs are kept."""

import subprocess
import sys

PROGRAM = """
import jax
from jaxseg import compiled
compiled.keep()
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
jax.jit(lambda x: x + 1)(1.0).block_until_ready()
"""
TWO = "--xla_force_host_platform_device_count=2"


def files(folder):
    return [path for path in folder.rglob("*") if path.is_file()]


def run(program=PROGRAM, **environment):
    command = [sys.executable, "-c", program]
    return subprocess.run(
        command, env=environment, check=True, stdout=subprocess.PIPE, text=True
    ).stdout


def test_programs_are_kept_below_the_users_cache(tmp_path):
    run(JAX_PLATFORMS="cpu", XDG_CACHE_HOME=str(tmp_path))
    assert files(tmp_path / "jaxseg")


def test_another_folder_or_none(tmp_path):
    other = tmp_path / "other"
    run(JAX_PLATFORMS="cpu", XDG_CACHE_HOME=str(tmp_path), JAX_COMPILATION_CACHE_DIR=str(other))
    assert files(other)
    run(JAX_PLATFORMS="cpu", XDG_CACHE_HOME=str(tmp_path), JAX_COMPILATION_CACHE_DIR="")
    assert not (tmp_path / "jaxseg").exists()


def test_nothing_where_several_cpus_work_together(tmp_path):
    run(JAX_PLATFORMS="cpu", XDG_CACHE_HOME=str(tmp_path), XLA_FLAGS=TWO)
    named = str(tmp_path / "named")
    run(JAX_PLATFORMS="cpu", JAX_COMPILATION_CACHE_DIR=named, XLA_FLAGS=TWO)
    assert not files(tmp_path)


def test_a_missing_device_is_left_to_what_needs_it(tmp_path):
    program = """
import jax
from jaxseg import compiled
compiled.keep()
print(jax.config.jax_compilation_cache_dir)
"""
    folder = run(program, JAX_PLATFORMS="cuda", XDG_CACHE_HOME=str(tmp_path))
    assert folder.startswith(str(tmp_path / "jaxseg"))
