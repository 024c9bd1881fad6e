"""Operations of the networks written in several ways, as JSON.

python benchmarks/formulations.py --repeats=5

Times, for shapes of ResNet-50 and ViT-S/8 with 4 images of 224 x 224, ways to write
the same layer in JAX: forward, and forward with the gradients of all inputs. `plain`, the first of
each, is the way that a textbook has; `ratio` is a way's time over that of plain, of the gradient;
`taken` is the way of jaxseg's models. Each is compared with plain first, values and gradients.

Medians of `--repeats` rounds after one to warm up; rounds of the ways take turns, so that
other programs slow all of them alike.
"""

import argparse
import functools
import json
import math
import time
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jax import lax

from jaxseg.models.attention import attend
from jaxseg.models.norm import batch_norm
from jaxseg.models.pooling import max_pool
from jaxseg.models.product import product as narrower_product

Array = jax.Array
Way = Callable[..., Array]
BATCH = 4


def conv(x: Array, w: Array, stride: int = 1, dilation: int = 1) -> Array:
    """The convolution of XLA, with "same" padding of the kernel's size."""
    pad = dilation * (w.shape[0] // 2)
    return lax.conv_general_dilated(
        x, w, (stride, stride), [(pad, pad)] * 2, rhs_dilation=(dilation, dilation),
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )  # fmt: skip


def conv_nchw(x: Array, w: Array, dilation: int = 1) -> Array:
    """The same with channels first inside."""
    pad = dilation * (w.shape[0] // 2)
    y = lax.conv_general_dilated(
        x.transpose(0, 3, 1, 2), w.transpose(3, 2, 0, 1), (1, 1), [(pad, pad)] * 2,
        rhs_dilation=(dilation, dilation), dimension_numbers=("NCHW", "OIHW", "NCHW"),
    )  # fmt: skip
    return y.transpose(0, 2, 3, 1)


def product(x: Array, w: Array) -> Array:
    """A 1x1 convolution as a matrix product."""
    return x @ w[0, 0]


def narrower(x: Array, w: Array) -> Array:
    """A matrix product whose gradient transposes the narrower matrix."""
    return narrower_product(x, w[0, 0])


def every_second(way: Way) -> Way:
    """A layer on every second pixel."""
    return lambda x, w: way(x[:, ::2, ::2], w)


def strided(x: Array, w: Array) -> Array:
    return conv(x, w, stride=2)


def phases(x: Array, w: Array) -> Array:
    """A convolution of stride 2 as one of stride 1 over the four phases of the pixels."""
    size, height, width = len(w), x.shape[1], x.shape[2]
    w = jnp.pad(w, ((1, 0), (1, 0), (0, 0), (0, 0)))  # an even side, its centre at a phase's first
    half = len(w) // 2
    w = w.reshape(half, 2, half, 2, *w.shape[2:]).transpose(0, 2, 1, 3, 4, 5)
    x = x.reshape(len(x), height // 2, 2, width // 2, 2, -1).transpose(0, 1, 3, 2, 4, 5)
    pad = ((size // 2 + 1) // 2, half - 1 - (size // 2 + 1) // 2)
    return lax.conv_general_dilated(
        x.reshape(*x.shape[:3], -1), w.reshape(half, half, -1, w.shape[-1]), (1, 1), [pad] * 2,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )  # fmt: skip


def windows(x: Array, dilation: int) -> list[Array]:
    """Returns x as each of the nine taps of a 3x3 kernel sees it."""
    height, width, d = x.shape[1], x.shape[2], dilation
    x = jnp.pad(x, ((0, 0), (d, d), (d, d), (0, 0)))
    return [x[:, i : i + height, j : j + width] for i in (0, d, 2 * d) for j in (0, d, 2 * d)]


def shifted(x: Array, w: Array, dilation: int = 1) -> Array:
    """A 3x3 convolution as the sum of nine products of shifted maps."""
    taps = w.reshape(9, *w.shape[2:])
    return sum(part @ tap for part, tap in zip(windows(x, dilation), taps, strict=True))


def columns(x: Array, w: Array, dilation: int = 1) -> Array:
    """A 3x3 convolution as one product with the nine windows side by side (im2col)."""
    return jnp.concatenate(windows(x, dilation), -1) @ w.reshape(-1, w.shape[3])


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def gradient_shifted(x: Array, w: Array, dilation: int = 1) -> Array:
    """XLA's convolution whose kernel's gradient is nine products of shifted maps."""
    return conv(x, w, dilation=dilation)


def _gradient_forward(x: Array, w: Array, dilation: int) -> tuple[Array, tuple[Array, Array]]:
    return conv(x, w, dilation=dilation), (x, w)


def _gradient_backward(dilation: int, kept: tuple, upper: Array) -> tuple[Array, Array]:
    x, w = kept
    flat = upper.reshape(-1, upper.shape[-1])
    taps = [part.reshape(-1, part.shape[-1]).T @ flat for part in windows(x, dilation)]
    below = conv(upper, w[::-1, ::-1].swapaxes(2, 3), dilation=dilation)
    return below, jnp.stack(taps).reshape(w.shape)


gradient_shifted.defvjp(_gradient_forward, _gradient_backward)


def norm_ways() -> dict[str, Way]:
    """BatchNorm in training, then ReLU."""

    def through(module: nn.Module) -> Way:
        def apply(x: Array, scale: Array, bias: Array) -> Array:
            width = x.shape[-1:]
            variables = {
                "params": {"scale": scale, "bias": bias},
                "batch_stats": {"mean": jnp.zeros(width), "var": jnp.ones(width)},
            }
            return nn.relu(module.apply(variables, x, mutable=["batch_stats"])[0])

        return apply

    def products(x: Array, scale: Array, bias: Array) -> Array:
        flat = x.reshape(-1, x.shape[-1])
        one = jnp.full((1, len(flat)), 1 / len(flat))
        mean = one @ flat
        inverse = lax.rsqrt(one @ flat**2 - mean**2 + 1e-5)
        return nn.relu((flat - mean) * (inverse * scale[None]) + bias[None]).reshape(x.shape)

    flax = nn.BatchNorm(use_running_average=False, momentum=0.9, epsilon=1e-5)
    taken = through(batch_norm(jnp.float32, train=True))
    return {"plain": through(flax), "sums as products": products, "written gradient": taken}


def pool(x: Array) -> Array:
    return nn.max_pool(x, (3, 3), (2, 2), padding=((1, 1), (1, 1)))


def pool_slices(x: Array) -> Array:
    """The maximum of nine strided slices; equal values share the gradient otherwise."""
    x = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)), constant_values=-jnp.inf)
    height, width = (x.shape[1] - 1) // 2, (x.shape[2] - 1) // 2
    parts = [
        x[:, i : i + 2 * height : 2, j : j + 2 * width : 2] for i in range(3) for j in range(3)
    ]
    return functools.reduce(jnp.maximum, parts)


def attention(q: Array, k: Array, v: Array) -> Array:
    """Softmax attention [B N heads size], heads where the projection puts them."""
    scores = jnp.einsum("bqhd,bkhd->bhqk", q / math.sqrt(q.shape[-1]), k)
    return jnp.einsum("bhqk,bkhd->bqhd", nn.softmax(scores), v)


def attention_heads_first(q: Array, k: Array, v: Array) -> Array:
    q, k, v = (t.transpose(0, 2, 1, 3) for t in (q / math.sqrt(q.shape[-1]), k, v))
    return (nn.softmax(q @ k.swapaxes(2, 3)) @ v).transpose(0, 2, 1, 3)


def attention_late(q: Array, k: Array, v: Array) -> Array:
    """Divides by the sum of the weights after the product with the values."""
    scores = jnp.einsum("bqhd,bkhd->bhqk", q / math.sqrt(q.shape[-1]), k)
    weights = jnp.exp(scores - lax.stop_gradient(scores.max(-1, keepdims=True)))
    mixed = jnp.einsum("bhqk,bkhd->bqhd", weights, v)
    return mixed / weights.sum(-1).swapaxes(1, 2)[..., None]


def attention_by_image(q: Array, k: Array, v: Array) -> Array:
    return lax.map(lambda t: attention(*(x[None] for x in t))[0], (q, k, v))


def operations() -> dict[str, tuple[dict[str, Way], tuple[tuple[int, ...], ...], str]]:
    """Returns, by operation, the ways to write it, the shapes of its inputs, and the way taken."""

    def dilated(d: int) -> dict[str, Way]:
        return {
            "plain": lambda x, w: conv(x, w, dilation=d),
            "channels first": lambda x, w: conv_nchw(x, w, d),
            "shifted products": lambda x, w: shifted(x, w, d),
            "im2col": lambda x, w: columns(x, w, d),
            "gradient by shifted products": lambda x, w: gradient_shifted(x, w, d),
        }

    found = {}
    for side, inner, outer in ((56, 256, 64), (28, 128, 512), (14, 1024, 256), (7, 512, 2048)):
        shapes = ((BATCH, side, side, inner), (1, 1, inner, outer))
        ways = {
            "plain": conv, "channels first": conv_nchw, "product": product, "narrower": narrower,
        }  # fmt: skip
        found[f"1x1, {inner} to {outer}, {side} x {side}"] = (ways, shapes, "narrower")
    shapes = ((BATCH, 56, 56, 256), (1, 1, 256, 512))
    ways = {"plain": strided, "product": every_second(product), "narrower": every_second(narrower)}
    found["1x1 of stride 2, 256 to 512, 56 x 56"] = (ways, shapes, "narrower")
    for side, width, d in ((56, 64, 1), (28, 128, 1), (14, 256, 1), (7, 512, 1), (14, 512, 2)):
        shapes = ((BATCH, side, side, width), (3, 3, width, width))
        name = f"3x3, {width}, {side} x {side}" + (f", dilation {d}" if d > 1 else "")
        found[name] = (dilated(d), shapes, "plain")
    for name, side, kernel in (
        ("3x3 of stride 2, 128, 56 x 56", 56, (3, 3, 128, 128)),
        ("7x7 of stride 2, 3 to 64, 224 x 224", 224, (7, 7, 3, 64)),
    ):
        ways = {"plain": strided, "phases": phases}
        found[name] = (ways, ((BATCH, side, side, kernel[2]), kernel), "plain")
    for side, width in ((112, 64), (56, 256), (14, 1024)):
        shapes = ((BATCH, side, side, width), (width,), (width,))
        found[f"norm and ReLU, {width}, {side} x {side}"] = (
            norm_ways(), shapes, "written gradient",
        )  # fmt: skip
    ways = {"plain": pool, "slices": pool_slices, "phases": max_pool}
    found["max-pool 3x3, 64, 112 x 112"] = (ways, ((BATCH, 112, 112, 64),), "phases")
    ways = {
        "plain": attention,
        "jax.nn.dot_product_attention": jax.nn.dot_product_attention,
        "heads first": attention_heads_first,
        "sum divided late": attention_late,
        "image by image": attention_by_image,
        "weights computed again": jax.checkpoint(attention),
        "head by head, weights computed again": attend,
    }
    found["attention, 785 tokens, 6 heads of 64"] = (ways, ((BATCH, 785, 6, 64),) * 3, [*ways][-1])
    return found


def clock(functions: dict[str, Callable[[], object]], repeats: int) -> dict[str, float]:
    """Returns the median seconds of each function, rounds in turns, after one to warm up."""
    times: dict[str, list[float]] = {name: [] for name in functions}
    for turn in range(repeats + 1):
        for name, function in functions.items():
            began = time.perf_counter()
            jax.block_until_ready(function())
            if turn:
                times[name].append(time.perf_counter() - began)
    return {name: float(np.median(found)) for name, found in times.items()}


def difference(found: tuple[Array, ...], expected: tuple[Array, ...]) -> float:
    """Returns the largest difference of arrays, relative to the largest value of its array."""
    return max(
        float(jnp.abs(a - b).max() / jnp.abs(b).max()) for a, b in zip(found, expected, strict=True)
    )


def compare(ways: dict[str, Way], shapes: tuple[tuple[int, ...], ...], repeats: int) -> dict:
    """Returns the times of the ways to write one operation, and how far they are from plain."""
    keys = jax.random.split(jax.random.key(0), len(shapes) + 1)
    inputs = [jax.random.normal(key, shape) for key, shape in zip(keys, shapes, strict=False)]
    upper = jax.random.normal(keys[-1], jax.eval_shape(ways["plain"], *inputs).shape)
    forward = {name: jax.jit(way) for name, way in ways.items()}

    def pull(way: Way) -> Callable[..., tuple]:
        return jax.jit(lambda *x: (pulled := jax.vjp(way, *x))[0:1] + pulled[1](upper))

    both = {name: pull(way) for name, way in ways.items()}
    expected = both["plain"](*inputs)
    forward_times = clock({k: functools.partial(f, *inputs) for k, f in forward.items()}, repeats)
    both_times = clock({k: functools.partial(f, *inputs) for k, f in both.items()}, repeats)
    return {
        name: {
            "forward_ms": round(1e3 * forward_times[name], 2),
            "gradient_ms": round(1e3 * both_times[name], 2),
            "ratio": round(both_times[name] / both_times["plain"], 2),
            "difference": float(f"{difference(both[name](*inputs), expected):.1e}"),
        }
        for name in ways
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--only", default="", help="operations whose name begins so")
    arguments = parser.parse_args()
    for name, (ways, shapes, taken) in operations().items():
        if name.startswith(arguments.only):
            found = compare(ways, shapes, arguments.repeats)
            print(json.dumps({name: found, "taken": taken}), flush=True)


if __name__ == "__main__":
    main()
