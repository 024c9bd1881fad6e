"""What tests share: eight virtual devices, strict broadcasting, real data where there is some."""

import atexit
import importlib.metadata
import json
import os
import pathlib

from tests import compiled_programs

# Before jax starts. Tests of the mesh need several devices, and a CPU pretends to be any number.
# The networks of tests are tiny, so that compiling them takes longer than running them: XLA and
# LLVM need not try hard. The smoke run of .ci/run compiles as users do.
os.environ["XLA_FLAGS"] = (
    os.environ.get("XLA_FLAGS", "")
    + " --xla_force_host_platform_device_count=8"
    + " --xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"
    + " --xla_cpu_parallel_codegen_split_count=1"
)
# Convolutions compile in half the time without; a test that needs the usual fusions says =true.
if (
    importlib.metadata.version("jaxlib") < "0.11"  # newer ones do not know it and end
    and "--xla_cpu_use_fusion_emitters" not in os.environ["XLA_FLAGS"]
):
    os.environ["XLA_FLAGS"] += " --xla_cpu_use_fusion_emitters=false"
os.environ.setdefault("JAX_PLATFORMS", "cpu")
# Compiled programs are shared by the tests of a process and the runs that they start one after
# another, and are left to later runs of the tests.
os.environ["JAX_COMPILATION_CACHE_DIR"] = str(
    compiled_programs.borrow(compiled_programs.store_folder())
)
# With caches of a GPU's own, the folder's name would be in every key.
os.environ["JAX_PERSISTENT_CACHE_ENABLE_XLA_CACHES"] = "none"
os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"

import jax
import pytest
from absl import flags

compiled_programs.keep_those_of_one_device()
atexit.register(
    compiled_programs.give_back,
    pathlib.Path(os.environ["JAX_COMPILATION_CACHE_DIR"]),
    compiled_programs.store_folder(),
)
jax.config.update("jax_numpy_rank_promotion", "raise")
# grain reads absl flags, which only absl.app parses.
flags.FLAGS.mark_as_parsed()

ROOT = pathlib.Path(__file__).parents[1]
DATA = pathlib.Path(os.environ.get("JAXSEG_DATA", ROOT / "../shared/data")).resolve()


@pytest.fixture(scope="module", autouse=True)
def _free_compiled_programs():
    """Frees a module's programs: XLA maps each into memory, of which a process has 65,530 maps."""
    yield
    jax.clear_caches()


@pytest.fixture
def real_data():
    """Returns a function from a data set's name to its folder; skips the test without it."""

    def find(name: str) -> pathlib.Path:
        if not (DATA / name).is_dir():
            pytest.skip(f"no real data: {DATA / name} is missing (set JAXSEG_DATA)")
        return DATA / name

    return find


@pytest.fixture
def label_maps():
    """Returns the reference of label merges, label_maps.json; skips the test without it."""
    path = DATA.parent / "label_maps.json"
    if not path.is_file():
        pytest.skip(f"no real data: {path} is missing (set JAXSEG_DATA)")
    return json.loads(path.read_text(encoding="utf-8"))


def pytest_terminal_summary(terminalreporter):
    """Says how many tests were skipped for want of data."""
    skipped = terminalreporter.stats.get("skipped", [])
    wanting = sum("no real data" in str(report.longrepr) for report in skipped)
    terminalreporter.write_line(f"{wanting} tests skipped for want of real data in {DATA}")
