"""Freed memory that the process keeps."""

import subprocess
import sys

import pytest

PROGRAM = """
import resource
import numpy as np
from jaxseg import memory
if {kept}:
    memory.keep()

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    np.ones(1 << 25, np.uint8)[0]
    np.ones(100 << 20, np.uint8)[0]
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

faults()
print(faults())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="glibc")
def test_a_large_array_after_another_needs_no_new_pages():
    def run(kept):
        command = [sys.executable, "-c", PROGRAM.format(kept=kept)]
        return int(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)

    assert run(False) > 1_000
    assert run(True) < 100
