"""Optimisers by name, from plain values."""

import jax
import optax

from jaxseg.core import UserError

OPTIMISERS = ("adam", "adamw", "sgd")
SCHEDULES = ("constant", "cosine", "poly")


def make_schedule(
    learning_rate: float, steps: int, schedule: str = "constant", warmup_steps: int = 0
) -> optax.Schedule:
    """Returns the learning rate by optimiser update.

    "cosine" and "poly" (power 0.9) fall to zero at `steps`; a warm-up rises linearly from zero over
    its first `warmup_steps`.

    Raises:
        UserError: an unknown schedule.
    """
    rest = max(1, steps - warmup_steps)
    if schedule == "constant":
        main = optax.constant_schedule(learning_rate)
    elif schedule == "cosine":
        main = optax.cosine_decay_schedule(learning_rate, rest)
    elif schedule == "poly":
        main = optax.polynomial_schedule(learning_rate, 0.0, 0.9, rest)
    else:
        raise UserError(f"optim.schedule is {schedule!r}; it is one of {', '.join(SCHEDULES)}.")
    if not warmup_steps:
        return main
    warmup = optax.linear_schedule(0.0, learning_rate, warmup_steps)
    return optax.join_schedules([warmup, main], [warmup_steps])


def make_optimiser(
    steps: int,
    name: str = "adam",
    learning_rate: float = 1e-4,
    schedule: str = "constant",
    warmup_steps: int = 0,
    momentum: float = 0.9,
    weight_decay: float = 0.0,
    clip: float = 0.0,
    accumulate: int = 1,
) -> optax.GradientTransformation:
    """Returns the transformation for one optimiser group.

    Args:
        steps: number of training steps; schedules end there.
        name: "adam", "adamw" (decoupled decay) or "sgd".
        learning_rate: at its highest.
        schedule: "constant", "cosine" or "poly".
        warmup_steps: optimiser updates of linear warm-up.
        momentum: of "sgd"; the Adams keep (0.9, 0.999).
        weight_decay: added to the gradient ("adam", "sgd") or decoupled ("adamw"). It acts on
            matrices and filters alone, not on biases and norms (arrays of one axis).
        clip: largest norm of the gradient of one group; 0 = no clipping.
        accumulate: steps whose gradients are averaged before one update.

    Raises:
        UserError: an unknown name or schedule, or a value out of range.
    """
    for field, value, lowest in (
        ("learning_rate", learning_rate, 0),
        ("clip", clip, 0),
        ("weight_decay", weight_decay, 0),
        ("accumulate", accumulate, 1),
    ):
        if value < lowest:
            raise UserError(f"optim.{field} is {value}; it must be at least {lowest}.")
    rate = make_schedule(learning_rate, steps // accumulate, schedule, warmup_steps)
    decay = optax.add_decayed_weights(weight_decay, mask=_is_matrix)
    if name == "adam":
        chain = [decay, optax.scale_by_adam()]
    elif name == "adamw":
        chain = [optax.scale_by_adam(), decay]
    elif name == "sgd":
        chain = [decay, optax.trace(momentum)]
    else:
        raise UserError(f"optim.name is {name!r}; it is one of {', '.join(OPTIMISERS)}.")
    if clip:
        chain.insert(0, optax.clip_by_global_norm(clip))
    transform = optax.chain(*chain, optax.scale_by_learning_rate(rate))
    if accumulate == 1:
        return transform
    return optax.MultiSteps(transform, accumulate).gradient_transformation()


def _is_matrix(params):
    return jax.tree.map(lambda x: x.ndim > 1, params)
