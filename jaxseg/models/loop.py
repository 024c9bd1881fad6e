"""Blocks of one form as a loop over their stacked variables.

One after another in the program, XLA on a CPU adds up the outputs of all residual blocks before
wherever it needs their sum, for an addition seems cheap to it: that takes time in proportion to the
square of the depth. In a loop a sum is computed once, and a block is compiled once.
"""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import Array, lax

_STATISTICS = "batch_stats"


def in_loop(
    owner: nn.Module,
    make: Callable[..., nn.Module],
    names: Sequence[str],
    call: Callable[[nn.Module, Array], Array],
    x: Array,
) -> Array:
    """Returns x after blocks of one form, whose variables lie in `owner` under their names.

    Elsewhere than on a CPU the loop is unrolled, and XLA leaves the stacking out.

    Args:
        owner: the module in whose compact method this is called.
        make: returns a block for `name=...`, or for `parent=None` one that belongs to no module.
        names: of the blocks, in their order.
        call: applies a block to x, which keeps shape and dtype.
    """
    if owner.is_initializing() or len(names) < 2:
        for name in names:
            x = call(make(name=name), x)
        return x
    variables = {
        kind: _stack([found[name] for name in names])
        for kind, found in owner.variables.items()
        if names[0] in found
    }
    apply = nn.apply(call, make(parent=None), mutable=[_STATISTICS])
    unroll = 1 if jax.default_backend() == "cpu" else len(names)
    x, changed = lax.scan(lambda x, block: apply(block, x), x, variables, unroll=unroll)
    if changed and owner.is_mutable_collection(_STATISTICS):
        for number, name in enumerate(names):
            own = jax.tree.map(lambda leaf, n=number: leaf[n], changed[_STATISTICS])
            owner.put_variable(_STATISTICS, name, own)
    return x


def _stack(trees: list) -> object:
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *trees)
