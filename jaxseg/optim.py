"""Optimisers by name, from plain values."""

import jax
import optax
from jax.tree_util import DictKey

from jaxseg.core import UserError

OPTIMISERS = ("adam", "adamw", "sgd")
SCHEDULES = ("constant", "cosine", "poly", "steps")
DECAYED = ("matrices", "weights")

# HSG's and its predecessor's: a tenth each after so much of the training.
_DROPS = (0.32, 0.56, 0.75)
_DROP = 0.1


def make_schedule(
    learning_rate: float,
    steps: int,
    schedule: str = "constant",
    warmup_steps: int = 0,
    warmup_from: float = 0.0,
) -> optax.Schedule:
    """Returns the learning rate by optimiser update.

    "cosine" and "poly" (power 0.9) fall to zero at `steps`; "steps" falls to a tenth after 32, 56
    and 75 % of `steps` (Ke et al. 2022, HSG). A warm-up rises linearly, over the first
    `warmup_steps`, from the share `warmup_from` of the rate to all of it.

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
    elif schedule == "steps":
        # The shares are of the whole training, the warm-up included.
        drops = {max(0, int(share * steps) - warmup_steps): _DROP for share in _DROPS}
        main = optax.piecewise_constant_schedule(learning_rate, drops)
    else:
        raise UserError(f"optim.schedule is {schedule!r}; it is one of {', '.join(SCHEDULES)}.")
    if not warmup_steps:
        return main
    warmup = optax.linear_schedule(warmup_from * learning_rate, learning_rate, warmup_steps)
    return optax.join_schedules([warmup, main], [warmup_steps])


def make_optimiser(
    steps: int,
    name: str = "adam",
    learning_rate: float = 1e-4,
    schedule: str = "constant",
    warmup_steps: int = 0,
    warmup_from: float = 0.0,
    momentum: float = 0.9,
    rate_in_momentum: bool = False,
    bias_rate: float = 1.0,
    weight_decay: float = 0.0,
    decayed: str = "matrices",
    clip: float = 0.0,
    accumulate: int = 1,
) -> optax.GradientTransformation:
    """Returns the transformation for one optimiser group.

    Args:
        steps: number of training steps; schedules end there.
        name: "adam", "adamw" (decoupled decay) or "sgd".
        learning_rate: at its highest.
        schedule: "constant", "cosine", "poly" or "steps".
        warmup_steps: optimiser updates of linear warm-up; warmup_from: see `make_schedule`.
        momentum: of "sgd"; the Adams keep (0.9, 0.999).
        rate_in_momentum: "sgd" sums up updates rather than gradients, so that a fall of the rate
            does not shrink those of before: m <- momentum m + rate g (released HSG).
        bias_rate: multiplies the learning rate of biases (HSG 2).
        weight_decay: added to the gradient ("adam", "sgd") or decoupled ("adamw").
        decayed: what the decay acts on: "matrices" and filters alone, or all "weights", norms'
            scales included, but no biases (HSG).
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
    if decayed not in DECAYED:
        raise UserError(f"optim.decayed is {decayed!r}; it is one of {', '.join(DECAYED)}.")
    if rate_in_momentum and name != "sgd":
        raise UserError(f"optim.rate_in_momentum is for 'sgd', and optim.name is {name!r}.")
    schedule_of = make_schedule(
        learning_rate, steps // accumulate, schedule, warmup_steps, warmup_from
    )
    rate = optax.scale_by_learning_rate(schedule_of)
    if bias_rate != 1:
        rate = optax.chain(optax.masked(optax.scale(bias_rate), _is_bias), rate)
    mask = _is_matrix if decayed == "matrices" else _is_weight
    decay = optax.add_decayed_weights(weight_decay, mask=mask)
    if name == "adam":
        chain = [decay, optax.scale_by_adam(), rate]
    elif name == "adamw":
        chain = [optax.scale_by_adam(), decay, rate]
    elif name == "sgd" and rate_in_momentum:
        chain = [decay, rate, optax.trace(momentum)]
    elif name == "sgd":
        chain = [decay, optax.trace(momentum), rate]
    else:
        raise UserError(f"optim.name is {name!r}; it is one of {', '.join(OPTIMISERS)}.")
    if clip:
        chain.insert(0, optax.clip_by_global_norm(clip))
    transform = optax.chain(*chain)
    if accumulate == 1:
        return transform
    return optax.MultiSteps(transform, accumulate).gradient_transformation()


def _is_matrix(params):
    return jax.tree.map(lambda x: x.ndim > 1, params)


def _is_bias(params):
    return jax.tree_util.tree_map_with_path(lambda path, _: path[-1:] == (DictKey("bias"),), params)


def _is_weight(params):
    return jax.tree.map(lambda bias: not bias, _is_bias(params))
