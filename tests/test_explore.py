"""What the notebook looks through; the figures are looked at in tests/test_notebook.py."""

import jax.numpy as jnp
import numpy as np
import pytest

from jaxseg import explore
from jaxseg.core import Batch, Output, State, UserError
from jaxseg.methods import METHODS


def test_features_are_coloured_by_their_main_directions():
    rng = np.random.default_rng(0)
    value = rng.normal(size=(2, 6, 7, 1))
    direction = np.array([0.0, 3.0, -4.0, 0.0])
    features = 5 + value * direction + 0.01 * rng.normal(size=(2, 6, 7, 4))
    found = explore.feature_colours(jnp.asarray(features, jnp.float32))
    assert found.dtype == np.uint8
    assert found.shape == (2, 6, 7, 3)
    # Red follows that value (or its opposite) but for the stretched ends; 4 % of 84 are cut off.
    red = found[..., 0].reshape(-1).astype(float)
    assert abs(np.corrcoef(red, value.reshape(-1))[0, 1]) > 0.97
    assert red.min() == 0
    assert red.max() == 255
    assert not explore.feature_colours(features[..., :2])[..., 2].any()


def test_a_pixel_has_the_number_of_its_cell():
    cells = np.arange(6).reshape(1, 2, 3)
    found = explore.resized(cells, (4, 3))
    np.testing.assert_array_equal(found[0], [[0, 1, 2], [0, 1, 2], [3, 4, 5], [3, 4, 5]])
    assert explore.resized(np.zeros((2, 2, 2, 3)), (5, 4)).shape == (2, 5, 4, 3)


def test_columns_are_those_that_there_is_something_for():
    image = np.zeros((2, 2, 8, 8, 4), np.uint8)
    batch = Batch(index=jnp.arange(2), seed=jnp.arange(2), image=jnp.asarray(image))
    titles = [axis.get_title() for axis in explore.view_figure(batch).axes]
    assert [title for title in titles if title] == ["view 0", "view 1"]
    with_regions = batch.replace(regions=jnp.zeros((2, 2, 8, 8), jnp.int32))
    assert len(explore.view_figure(with_regions, rows=1).axes) == 4
    output = Output(features=jnp.ones((2, 4, 4, 5)), logits=jnp.ones((2, 4, 4, 3)))
    titles = [axis.get_title() for axis in explore.level_figure(image[:, 0], output).axes]
    assert [title for title in titles if title] == ["image", "features", "clusters"]


def test_terms_are_drawn_by_step():
    history = [{"loss": jnp.float32(3), "L": jnp.float32(1)}, {"loss": 2.0, "L": 4.0}]
    axes = [axis for axis in explore.term_figure(history).axes if axis.lines]
    assert [axis.get_title() for axis in axes] == ["L", "loss"]
    np.testing.assert_array_equal(axes[1].lines[0].get_xydata(), [[1, 3], [2, 2]])


def test_methods_without_segments():
    method = METHODS["infoseg"](clusters=3)
    state = State(step=jnp.zeros(()), params={}, extra={}, frozen={})
    with pytest.raises(UserError, match="InfoSeg has no segments"):
        explore.training_segments(method, state, Batch(index=jnp.arange(1), seed=jnp.arange(1)))
