"""The supervised ceiling, begun with what another run has learned."""

import jax
import numpy as np
import pytest

from configs import supervised_scenes_transfer
from jaxseg.checkpoint import Checkpoints
from jaxseg.core import Batch
from jaxseg.methods.picie import PiCIE
from jaxseg.methods.supervised import Supervised
from jaxseg.workdir import init_from

NET = {"backbone": "resnet_tiny", "dim": 8}
SPEC = Batch(
    index=jax.ShapeDtypeStruct((2,), np.int32),
    seed=jax.ShapeDtypeStruct((2,), np.uint32),
    image=jax.ShapeDtypeStruct((2, 1, 32, 32, 3), np.uint8),
)


def state_of(method, value):
    """Returns a state of the method in which each number is `value`."""
    shapes = jax.eval_shape(lambda key: method.init(key, SPEC), jax.random.key(0))
    return jax.tree.map(lambda x: np.full(x.shape, value, x.dtype), shapes)


def test_a_transfer_run_takes_all_of_picie_s_network_and_no_classifier(tmp_path):
    final = Checkpoints(tmp_path / "final", keep=1)
    final.save(state_of(PiCIE(clusters=4, **NET), 1))
    final.close()
    groups = supervised_scenes_transfer.get_config().train.init_groups
    before = state_of(Supervised(classes=3, **NET), 0)
    state, lines = init_from(before, str(tmp_path), tuple(groups))
    assert not [line for line in lines if line.startswith("did not fit")]
    assert lines[0] == "left as drawn: head"
    for part in (state.params["backbone"], state.params["fpn"], state.extra):
        assert all((np.asarray(leaf) == 1).all() for leaf in jax.tree.leaves(part))
    assert all((leaf == 0).all() for leaf in jax.tree.leaves(state.params["head"]))


def test_its_rate_is_that_of_the_paper():
    config = supervised_scenes_transfer.get_config()
    assert config.optim.learning_rate == pytest.approx(1e-3)
    assert config.train.init_from == "runs/picie_scenes"
