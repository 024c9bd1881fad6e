"""A method small enough to check the loop and the evaluation by hand."""

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp

from jaxseg.core import Method, Output, State


@dataclasses.dataclass(frozen=True)
class Toy(Method):
    """Pulls a vector towards the mean colour of the batch; counts its refits in `extra`.

    The loss is infinite in the steps of `broken`. Group "b" moves in odd steps alone.
    """

    broken: tuple[int, ...] = ()
    noise: float = 0.0
    resets: ClassVar[tuple[str, ...]] = ("b",)

    def init(self, key, spec):
        return State(
            step=jnp.zeros((), jnp.int32),
            params={"a": {"w": jax.random.normal(key, (3,))}, "b": {"w": jnp.zeros((3,))}},
            extra={
                "refits": jnp.zeros((), jnp.int32),
                "seen": jnp.zeros((), jnp.int32),
                "snapshot": jnp.zeros((3,)),
            },
            frozen={"table": jnp.arange(3.0)},
        )

    def loss(self, state, batch, key):
        colour = (batch.first_view.astype(jnp.float32) / 255).mean((0, 1, 2))
        colour += self.noise * jax.random.normal(key, (3,))
        loss = ((state.params["a"]["w"] - colour) ** 2).sum()
        loss += ((state.params["b"]["w"] - colour) ** 2).sum()
        bad = jnp.isin(state.step, jnp.asarray(self.broken or (-1,)))
        loss = jnp.where(bad, jnp.inf, loss)
        return loss, (state.extra | {"seen": state.extra["seen"] + 1}, {"term": loss})

    def predict(self, state, image):
        """Bright pixels are cluster 1, at half the resolution."""
        cells = image[:, ::2, ::2].astype(jnp.float32) / 255
        grey = cells.mean(-1)
        return Output(features=cells, logits=jnp.stack([0.5 - grey, grey - 0.5], -1))

    def refit(self, state, stream, key):
        seen = sum(int((batch.index >= 0).sum()) for batch in stream(batch_size=4))
        extra = {
            "refits": state.extra["refits"] + 1,
            "seen": jnp.int32(seen),
            "snapshot": state.params["a"]["w"],  # the very buffer that the next step is given
        }
        return state.replace(extra=extra)

    def finish(self, state, stream, key):
        return state.replace(extra=state.extra | {"refits": jnp.int32(-1)})

    def active_groups(self, step):
        return {"b": step % 2 == 1}
