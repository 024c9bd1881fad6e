"""A run that is killed at random moments ends in the same parameters, bit for bit."""

import json
import os
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[1]


@pytest.mark.slow
def test_killed_and_restarted_equals_unbroken():
    script = [
        sys.executable,
        "benchmarks/kill_and_resume.py",
        "--kills=2",
        "--steps=100",
        "--seed=4",
    ]
    # One device, as a user has it; the tests' eight virtual ones would only slow it down.
    flags = os.environ["XLA_FLAGS"] + " --xla_force_host_platform_device_count=1"
    environment = os.environ | {"XLA_FLAGS": flags}
    result = subprocess.run(
        script, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=900
    )
    assert result.returncode == 0, result.stderr + result.stdout
    found = json.loads(result.stdout)
    assert found["differing_arrays"] == 0
    assert len(found["kills"]) == 2
