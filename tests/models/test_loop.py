"""Blocks in a loop: the same as one after another, with the same variables."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from jaxseg.models.loop import in_loop
from jaxseg.models.norm import batch_norm


class Block(nn.Module):
    train: bool

    @nn.compact
    def __call__(self, x):
        return x + nn.relu(batch_norm(jnp.float32, self.train, "norm")(nn.Dense(4)(x)))


class Blocks(nn.Module):
    looped: bool
    train: bool = True

    @nn.compact
    def __call__(self, x):
        make, names = functools.partial(Block, self.train), ["a", "b", "c"]
        if self.looped:
            return in_loop(self, make, names, lambda block, x: block(x), x)
        for name in names:
            x = make(name=name)(x)
        return x


def test_a_loop_changes_neither_variables_nor_values_gradients_or_statistics():
    x = jax.random.normal(jax.random.key(0), (5, 4))
    variables = Blocks(looped=True).init(jax.random.key(1), x)
    plain = Blocks(looped=False)
    jax.tree.map(np.testing.assert_array_equal, variables, plain.init(jax.random.key(1), x))

    def run(module):
        def loss(params):
            given = variables | {"params": params}
            y, moved = module.apply(given, x, mutable=["batch_stats"])
            return (y**2).sum(), moved

        return jax.value_and_grad(loss, has_aux=True)(variables["params"])

    close = functools.partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-5)
    jax.tree.map(close, run(Blocks(looped=True)), run(plain))
    # In evaluation nothing may be moved.
    outputs = [Blocks(looped, train=False).apply(variables, x) for looped in (True, False)]
    close(*outputs)
