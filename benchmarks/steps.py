"""What a train step of a config takes: time, memory, share of the machine's speed, as JSON.

python benchmarks/steps.py --config=configs/infoseg_scenes.py
python benchmarks/steps.py --config=configs/hsg_coco.py --batch=8 --size=224 --dtype=bfloat16

No data are read: the batch is noise of the config's shapes, with regions of a grid and random
labels where the method reads them. `--batch` and `--size` (side of the crop) replace the config's.

`parts` are medians over `--repeats` of programs that contain one another: the network in
evaluation (`predict`), the loss (`loss`), the loss with its gradient (`gradient`) and the whole
step (`step`), each with what it takes beyond the one before. `first_start` and `second_start` are
the seconds until the compiled step is there, without and with what the compilation cache kept.
`utilisation` is the share of `peak_TFLOPS`, that of a large matrix product in the same run and
dtype, by the operations that XLA counts; of a loop it counts the body once, so that chunked steps
show too little. `planned_MB` is XLA's plan for the step's temporary arrays; `peak_MB` what the
device has held, on devices that say so.
"""

import argparse
import functools
import json
import runpy
import tempfile
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxseg import build
from jaxseg.core import Batch, Method, State
from jaxseg.sections import DataSection, divide
from jaxseg.sharding import make_mesh, over_all, place
from jaxseg.train import Step, Transforms, compile_step, init_optimiser, make_step

LABELS = ("class",)


class Parts(NamedTuple):
    """What a config builds without data; state and batch are abstract."""

    method: Method
    transforms: Transforms
    state: State  # with the optimiser's
    batch: Batch
    step: Step


def parts_of(sections: dict[str, Any]) -> Parts:
    """Returns the parts of a config's sections."""
    own, _ = divide(sections["data"], DataSection)
    data, method = DataSection(**own), build.make_method(sections["method"])
    labels = LABELS if method.reads_labels else ()
    images = build.batch_spec(data, labels)
    state = jax.eval_shape(lambda key: method.init(key, images), jax.random.key(0))
    transforms = build.make_transforms(sections["optim"], state.params, 1000)
    state = jax.eval_shape(lambda s: init_optimiser(s, transforms), state)
    step = make_step(method, transforms, jax.random.key(0))
    return Parts(method, transforms, state, build.batch_spec(data, labels, method), step)


def noise(batch: Batch, classes: int) -> Batch:
    """Returns a batch like the abstract one: whole images of noise, with regions of 4 x 4."""
    rng = np.random.default_rng(0)
    count = batch.index.shape[0]
    filled = {
        "index": np.arange(count, dtype=np.int32),
        "seed": np.arange(count, dtype=np.uint32),
        "label": {
            kind: rng.integers(0, classes, x.shape, np.int32) for kind, x in batch.label.items()
        },
    }
    if batch.image is not None:
        shape = batch.image.shape
        filled["image"] = rng.integers(0, 256, shape, np.uint8)
        filled["size"] = np.tile(np.int32(shape[2:4]), (count, shape[1], 1))
        filled["box"] = np.tile(np.float32([0, 0, 1, 1, 0]), (count, shape[1], 1))
    if batch.tokens is not None:
        filled["tokens"] = rng.normal(size=batch.tokens.shape).astype(np.float16)
    if batch.regions is not None:
        side = np.arange(batch.regions.shape[-1]) * 4 // batch.regions.shape[-1]
        grid = side[:, None] * 4 + side
        filled["regions"] = np.broadcast_to(grid, batch.regions.shape).astype(np.int32)
    return Batch(**filled)


def seconds(
    function: Callable[[], object],
    repeats: int,
    clock: Callable[[], float] = time.perf_counter,
) -> float:
    """Returns the median time of a call by a clock, after one to warm up."""
    times = []
    for _ in range(repeats + 1):
        began = clock()
        jax.block_until_ready(function())
        times.append(clock() - began)
    return float(np.median(times[1:]))


def peak_flops(dtype: str, repeats: int, clock: Callable[[], float] = time.perf_counter) -> float:
    """Returns the operations a second of a product of two large matrices."""
    side = 2048 if jax.default_backend() == "cpu" else 8192
    matrix = jnp.ones((side, side), dtype)
    product = jax.jit(functools.partial(jnp.matmul, preferred_element_type=jnp.float32))
    return 2 * side**3 / seconds(lambda: product(matrix, matrix), repeats, clock)


def compile_twice(step: Step, state: State, batch: Batch) -> tuple[Any, float, float]:
    """Returns the compiled step, and the seconds without and with the compilation cache."""
    spent = []
    for _ in range(2):
        jax.clear_caches()
        began = time.perf_counter()
        compiled = compile_step(step, make_mesh(), state).lower(state, batch).compile()
        spent.append(time.perf_counter() - began)
    return compiled, *spent


def measure(sections: dict[str, Any], repeats: int) -> dict[str, Any]:
    """Returns what is to be told of a config."""
    parts, mesh = parts_of(sections), make_mesh()
    method = parts.method
    batch = jax.device_put(noise(parts.batch, 2), over_all(mesh))
    images = build.batch_spec(
        DataSection(**divide(sections["data"], DataSection)[0]), tuple(parts.batch.label)
    )
    state = jax.jit(lambda key: method.init(key, images))(jax.random.key(0))
    state = place(init_optimiser(state, parts.transforms), mesh)
    compiled, first, second = compile_twice(parts.step, state, batch)
    key = jax.random.key(0)

    def loss(params):
        return method.loss(state.replace(params=params), batch, key)[0]

    predict = jax.jit(method.predict)
    forward, gradient = jax.jit(loss), jax.jit(jax.value_and_grad(loss))
    spent = {
        "predict": seconds(lambda: predict(state, batch.view(0)), repeats),
        "loss": seconds(lambda: forward(state.params), repeats),
        "gradient": seconds(lambda: gradient(state.params), repeats),
    }
    plan, cost = compiled.memory_analysis(), compiled.cost_analysis() or {}
    parameters = sum(x.size for x in jax.tree.leaves(state.params))

    def one_step() -> object:
        nonlocal state
        state, metrics = compiled(state, batch)
        return metrics

    spent["step"] = seconds(one_step, repeats)
    dtype = sections["method"].get("dtype", "float32")
    flops, peak = cost.get("flops", float("nan")), peak_flops(dtype, repeats)
    before = [0.0, *spent.values()]
    held = jax.devices()[0].memory_stats() or {}
    return {
        "device": jax.devices()[0].device_kind,
        "devices": mesh.size,
        "batch": len(parts.batch.index),
        "dtype": dtype,
        "parameters": parameters,
        "first_start": round(first, 1),
        "second_start": round(second, 1),
        "images_per_second": round(len(parts.batch.index) / spent["step"], 2),
        "parts": {
            name: {"seconds": round(value, 4), "beyond": round(value - less, 4)}
            for (name, value), less in zip(spent.items(), before[:-1], strict=True)
        },
        "TFLOP": round(flops / 1e12, 4),
        "peak_TFLOPS": round(peak / 1e12, 3),
        "utilisation": round(flops / spent["step"] / peak / mesh.size, 3),
        "planned_MB": round(plan.temp_size_in_bytes / 1e6, 1),
        "peak_MB": round(held["peak_bytes_in_use"] / 1e6, 1) if held else None,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--config", required=True)
    parser.add_argument("--batch", type=int, default=0)
    parser.add_argument("--size", type=int, default=0, help="side of the crop in pixels")
    parser.add_argument("--dtype", default="", choices=["", "float32", "bfloat16"])
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()
    config = runpy.run_path(arguments.config)["get_config"]()
    config.data.batch_size = arguments.batch or config.data.batch_size
    config.data.crop = arguments.size or config.data.crop
    if arguments.dtype:
        config.method.dtype = arguments.dtype
    with tempfile.TemporaryDirectory() as folder:  # empty, unlike the user's own cache
        jax.config.update("jax_compilation_cache_dir", folder)
        found = measure(config.to_dict(), arguments.repeats)
    print(json.dumps({"config": arguments.config, "crop": config.data.crop} | found, indent=2))


if __name__ == "__main__":
    main()
