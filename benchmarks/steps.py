"""What a train step of a config takes: time, memory, share of the machine's speed, as JSON.

python benchmarks/steps.py --method=infoseg
python benchmarks/steps.py --config=configs/hsg_coco.py --batch=8 --size=224 --dtype=bfloat16

`--method=NAME` stands for `--config=configs/NAME_scenes.py`. No data are read: the batch is noise
of the config's shapes, with regions of a grid and random labels where the method reads them.
`--batch` and `--size` (side of the crop) replace the config's.

Times are medians over `--repeats`, GFLOP the operations of a device that XLA counts; of a loop it
counts the body once, so that chunked programs show too little. The loss, the loss with its gradient
and the whole step contain one another: `beyond` is what each takes more than the one before. The
network in evaluation (`predict`), with one view of each image, is no part of them: training may use
more views, other statistics and other heads.

`first_start` and `second_start` are the seconds until the compiled step is there, without and with
what the compilation cache kept; the second time in the same process, its caches in memory cleared.
`utilisation` is the share of `peak_TFLOPS`, that of a large matrix product on one device in the
same run and dtype. `planned_MB` is XLA's plan for a device during the step: arguments, temporary
arrays and results, of which those that take the place of arguments count once. `peak_MB` is what
the device has held, on devices that say so; `resident_MB` the most memory of the machine that the
process had by then, compiling included, which on a CPU is the device's.
"""

import argparse
import functools
import itertools
import json
import resource
import runpy
import tempfile
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxseg import build, memory
from jaxseg.core import Batch, Method, PyTree, State
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


def flops(program: Any) -> float:
    """Returns the operations of a device in a compiled program, by XLA's count."""
    return (program.cost_analysis() or {}).get("flops", float("nan"))


def told(program: Any, spent: float) -> dict[str, float]:
    """Returns what is to be told of a compiled program that takes so many seconds."""
    return {"seconds": round(spent, 4), "GFLOP": round(flops(program) / 1e9, 4)}


def memory_of(program: Any) -> dict[str, float | None]:
    """Returns the memory that a compiled program needs, and that was in use until now."""
    plan, held = program.memory_analysis(), jax.devices()[0].memory_stats() or {}
    planned = plan.argument_size_in_bytes + plan.temp_size_in_bytes + plan.output_size_in_bytes
    resident = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return {
        "planned_MB": round((planned - plan.alias_size_in_bytes) / 1e6, 1),
        "peak_MB": round(held["peak_bytes_in_use"] / 1e6, 1) if held else None,
        "resident_MB": round(resident / 1e6, 1),
    }


def parts_of_step(
    method: Method, state: State, batch: Batch, repeats: int
) -> dict[str, dict[str, float]]:
    """Returns what is to be told of evaluation, the loss, and the loss with its gradient.

    State and batch are arguments of all: XLA would compute in advance what follows from constants,
    such as the features of a frozen network.
    """
    key = jax.random.key(0)

    def loss(params: PyTree, state: State, batch: Batch) -> jax.Array:
        return method.loss(state.replace(params=params), batch, key)[0]

    whole = state.params, state, batch
    found = {}
    for name, function, arguments in (
        ("predict", method.predict, (state, batch.view(0))),
        ("loss", loss, whole),
        ("gradient", jax.value_and_grad(loss), whole),
    ):
        program = jax.jit(function).lower(*arguments).compile()
        found[name] = told(program, seconds(functools.partial(program, *arguments), repeats))
    return found


def measure(sections: dict[str, Any], repeats: int) -> dict[str, Any]:
    """Returns what is to be told of a config."""
    parts, mesh = parts_of(sections), make_mesh()
    batch = jax.device_put(noise(parts.batch, 2), over_all(mesh))
    images = build.batch_spec(
        DataSection(**divide(sections["data"], DataSection)[0]), tuple(parts.batch.label)
    )
    state = jax.jit(lambda key: parts.method.init(key, images))(jax.random.key(0))
    state = place(init_optimiser(state, parts.transforms), mesh)
    compiled, first, second = compile_twice(parts.step, state, batch)
    found = parts_of_step(parts.method, state, batch, repeats)
    parameters = sum(x.size for x in jax.tree.leaves(state.params))

    def one_step() -> object:
        nonlocal state
        state, metrics = compiled(state, batch)
        return metrics

    spent = seconds(one_step, repeats)
    found["step"] = told(compiled, spent)
    for less, more in itertools.pairwise(("loss", "gradient", "step")):
        found[more]["beyond"] = round(found[more]["seconds"] - found[less]["seconds"], 4)
    needed = memory_of(compiled)  # before the large product needs some
    dtype = sections["method"].get("dtype", "float32")
    peak = peak_flops(dtype, repeats)
    return {
        "device": jax.devices()[0].device_kind,
        "devices": mesh.size,
        "batch": len(parts.batch.index),
        "dtype": dtype,
        "parameters": parameters,
        "first_start": round(first, 1),
        "second_start": round(second, 1),
        "images_per_second": round(len(parts.batch.index) / spent, 2),
        **found,
        "peak_TFLOPS": round(peak / 1e12, 3),
        # Both are of one device.
        "utilisation": round(flops(compiled) / spent / peak, 3),
        **needed,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("--config")
    which.add_argument("--method", help="such as infoseg, for configs/infoseg_scenes.py")
    parser.add_argument("--batch", type=int, default=0)
    parser.add_argument("--size", type=int, default=0, help="side of the crop in pixels")
    parser.add_argument("--dtype", default="", choices=["", "float32", "bfloat16"])
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()
    memory.keep()  # as jaxseg.main does
    file = arguments.config or f"configs/{arguments.method}_scenes.py"
    config = runpy.run_path(file)["get_config"]()
    config.data.batch_size = arguments.batch or config.data.batch_size
    config.data.crop = arguments.size or config.data.crop
    if arguments.dtype:
        config.method.dtype = arguments.dtype
    with tempfile.TemporaryDirectory() as folder:  # empty, unlike the user's own cache
        jax.config.update("jax_compilation_cache_dir", folder)
        found = measure(config.to_dict(), arguments.repeats)
    print(json.dumps({"config": file, "crop": config.data.crop} | found, indent=2))


if __name__ == "__main__":
    main()
