"""The largest differences from reference values: what the golden tests compare, as JSON.

python benchmarks/golden.py

Runs the tests of the frozen-backbone family that compare with tests/golden and with the expected
tokens of the real ViT-Tiny (in JAXSEG_DATA, else left out), and keeps of each test the largest
difference that a comparison saw, and that relative to the largest expected value. The dense CRF's
agreement is in benchmarks/crf.py.
"""

import json
import pathlib
import sys

import numpy as np
import pytest

ROOT = pathlib.Path(__file__).parents[1]
TESTS = (
    "tests/models/test_vit.py::test_tokens_keys_and_attention",
    "tests/commands/test_convert.py::test_real_vit_tiny_has_the_expected_tokens",
    "tests/losses/test_smoothness.py::test_energy_and_gradients_match_the_reference",
    "tests/losses/test_correspondence.py::test_mean_and_gradients_match_the_reference",
    "tests/losses/test_correspondence.py::test_every_pair_matches_the_reference",
)


class Recorder:
    """A pytest plugin that looks over the shoulder of np.testing.assert_allclose."""

    def __init__(self) -> None:
        self.found: dict[str, dict[str, float]] = {}
        self._compare = np.testing.assert_allclose

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_call(self, item):
        """Records the comparisons of a test under its name."""
        largest = {"difference": 0.0, "relative": 0.0}

        def compare(actual, desired, *arguments, **fields):
            difference = float(np.max(np.abs(np.asarray(actual) - np.asarray(desired))))
            relative = difference / max(float(np.max(np.abs(desired))), 1e-30)
            largest["difference"] = max(largest["difference"], difference)
            largest["relative"] = max(largest["relative"], relative)
            self._compare(actual, desired, *arguments, **fields)

        np.testing.assert_allclose = compare
        try:
            result = yield
        finally:
            np.testing.assert_allclose = self._compare
        self.found[item.nodeid] = {k: float(f"{v:.2g}") for k, v in largest.items()}
        return result


def main() -> None:
    recorder = Recorder()
    tests = [str(ROOT / test) for test in TESTS]
    code = pytest.main(["-q", "-p", "no:cacheprovider", f"--rootdir={ROOT}", *tests], [recorder])
    print(json.dumps(recorder.found, indent=2))
    sys.exit(int(code))


if __name__ == "__main__":
    main()
