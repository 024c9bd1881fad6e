import sys

import numpy as np
import pytest

from jaxseg.core import UserError
from jaxseg.refine import PAMR, REFINERS, DenseCRF, DenseCRFReference


def test_each_refiner_returns_distributions():
    rng = np.random.default_rng(0)
    probabilities = rng.dirichlet(np.ones(3), (2, 6, 5)).astype(np.float32)
    image = rng.integers(0, 256, (2, 6, 5, 4), np.uint8)
    for name, refiner in REFINERS.items():
        if name == "crf_reference":
            pytest.importorskip("pydensecrf")
        found = np.asarray(refiner()(probabilities, image))
        assert found.shape == probabilities.shape
        assert found.dtype == np.float32
        np.testing.assert_allclose(found.sum(-1), 1, atol=1e-5)


def test_the_reference_says_what_it_needs(monkeypatch):
    monkeypatch.setitem(sys.modules, "pydensecrf.densecrf", None)
    with pytest.raises(UserError, match=r"install jaxseg\[crf\]"):
        DenseCRFReference()(np.ones((1, 4, 4, 2)) / 2, np.zeros((1, 4, 4, 3), np.uint8))


def test_values_that_make_no_sense_are_refused():
    with pytest.raises(UserError, match="bilateral_sigma_rgb is 0; it must be above 0"):
        DenseCRF(bilateral_sigma_rgb=0)
    with pytest.raises(UserError, match="steps is -1"):
        DenseCRFReference(steps=-1)
    with pytest.raises(UserError, match="steps is -1"):
        PAMR(steps=-1)
    with pytest.raises(UserError, match="dilations is 0; it must be at least 1"):
        PAMR(dilations=())
    assert hash(PAMR(dilations=[1, 2])) == hash(PAMR(dilations=(1, 2)))
