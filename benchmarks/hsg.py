"""HSG in numbers, as JSON: scores beside baselines, time of the hierarchy, memory of the step.

python benchmarks/hsg.py scores --data=scenes --workdir=RUNS --seeds=0,1,2
python benchmarks/hsg.py scores --data=camvid --root=DIR --workdir=RUNS --seeds=0
python benchmarks/hsg.py latency
python benchmarks/hsg.py memory

`scores` trains HSG, HSG on single views and SegSort with configs/METHOD_DATA.py as they are, one
run each below RUNS for every seed; finished ones are not repeated. An untrained network and plain
colours are scored beside HSG alone. Scores of retrieval, of levels and of clusters are apart.

`latency` is what levels of 25, 16, 9 and 4 groups add to the network's forward pass on one image
(the paper's table: ResNet-50 at 640 x 640; here by default smaller), as ratios to the pass without
any; the variants take turns.

`memory` is what XLA plans for (nothing is run): the contrast alone and the whole step, for 48
images of two views of 448 pixels unless told otherwise. On a CPU operations are ordered for memory,
as an accelerator's are, and not for speed, XLA's default there.
"""

import argparse
import importlib
import json
import os
import pathlib
import statistics
import time

import jax
import jax.numpy as jnp
import optax
from ml_collections import ConfigDict

from jaxseg.core import Batch
from jaxseg.losses.contrastive import Compared, hierarchical_contrast
from jaxseg.methods.hsg import HSG
from jaxseg.record import load_results
from jaxseg.run import Run
from jaxseg.train import init_optimiser, make_step
from jaxseg.writer import read_metrics

RUNS = ("hsg", "hsg_single", "segsort")
LEVELS = (25, 16, 9, 4)


def config_of(run: str, arguments: argparse.Namespace, seed: int) -> ConfigDict:
    """Returns the config of one run."""
    method, _, suffix = run.partition("_")
    name = "_".join(filter(None, (method, arguments.data, suffix)))
    config = importlib.import_module(f"configs.{name}").get_config()
    if arguments.root:
        config.data.root = arguments.root
    if arguments.steps:
        config.train.steps = arguments.steps
    config.train.seed = seed
    if run != "hsg":
        trained = {k: v for k, v in config.evals.items() if v.model == "trained"}
        config.evals = ConfigDict(trained)
    return config


def scores(arguments: argparse.Namespace) -> None:
    """Trains and scores; prints what is there after each seed."""
    found: dict[str, dict[str, list[float]]] = {}
    for seed in map(int, arguments.seeds.split(",")):
        for name in RUNS:
            place = arguments.workdir / f"{name}_{arguments.data}_{seed}"
            run = Run(config_of(name, arguments, seed), place)
            if not all((place / "evaluation" / f"{e}.json").exists() for e in run.evaluators):
                run.fit()
                run.evaluate()
            rows = read_metrics(place / "metrics.jsonl")
            spent = {"train_seconds": rows[-1]["time"] - rows[0]["time"]}
            for result in load_results(place / "evaluation"):
                for score, value in (result.scalars | spent).items():
                    row = found.setdefault(f"{name}/{result.name}", {})
                    row.setdefault(score, []).append(round(value, 4))
        print(json.dumps({"seeds_done": seed + 1, "scores": found}), flush=True)


def latency(arguments: argparse.Namespace) -> None:
    """Times inference with each way of grouping, and without."""
    image = jax.random.randint(
        jax.random.key(0), (1, arguments.size, arguments.size, 3), 0, 256
    ).astype(jnp.uint8)
    groupers = ("transformer", "kmeans", "ncut", "finch")
    made = {}
    for grouper in groupers:
        method = HSG(
            backbone=arguments.backbone, grouper=grouper, sizes=LEVELS, test_grid=(8, 8),
            trained_cells=4, dtype=arguments.dtype,
        )  # fmt: skip
        state = jax.jit(lambda key, m=method: m.init(key, spec(1, 1, 64)))(jax.random.key(0))
        if not made:
            # The segments themselves belong to the hierarchy; without it there are features alone.
            made["none"] = jax.jit(lambda s, x, m=method: m.predict(s, x).features), state
        made[grouper] = jax.jit(lambda s, x, m=method: m.predict(s, x)), state
    times: dict[str, list[float]] = {name: [] for name in made}
    for _ in range(arguments.repeats + 1):
        for name, (predict, own) in made.items():
            began = time.perf_counter()
            jax.block_until_ready(predict(own, image))
            times[name].append(time.perf_counter() - began)
    kept = {name: values[1:] for name, values in times.items()}  # the first compiles
    rounds = zip(*kept.values(), strict=True)
    ratios = [[value / row[0] for value in row] for row in map(list, rounds)]
    print(
        json.dumps(
            {
                "device": jax.devices()[0].device_kind,
                "backbone": arguments.backbone,
                "size": arguments.size,
                "levels": LEVELS,
                "median_ms": {n: round(1e3 * statistics.median(v), 1) for n, v in kept.items()},
                "ratio_to_none": {
                    name: round(statistics.median(column), 3)
                    for name, column in zip(kept, zip(*ratios, strict=True), strict=True)
                },
            },
            indent=2,
        )
    )


def spec(images: int, views: int, crop: int) -> Batch:
    """Returns an abstract training batch."""
    shape = (images, views, crop, crop)
    return Batch(
        index=jax.ShapeDtypeStruct((images,), jnp.int32),
        seed=jax.ShapeDtypeStruct((images,), jnp.uint32),
        image=jax.ShapeDtypeStruct((*shape, 3), jnp.uint8),
        regions=jax.ShapeDtypeStruct(shape, jnp.int32),
    )


def memory(arguments: argparse.Namespace) -> None:
    """Compiles the contrast and the step on abstract arrays and prints XLA's plan."""
    # Read when jax starts its backend, which it has not yet.
    flag = " --xla_cpu_enable_concurrency_optimized_scheduler=false"
    os.environ["XLA_FLAGS"] = os.environ.get("XLA_FLAGS", "") + flag
    images, views, crop, slots, dim = arguments.images, 2, arguments.size, 256, 128
    cells = views * (crop // 16) ** 2
    compared = Compared(
        jax.ShapeDtypeStruct((images, cells, dim), jnp.float32),
        jax.ShapeDtypeStruct((images, cells), jnp.int32),
        jax.ShapeDtypeStruct((images, slots, dim), jnp.float32),
        jax.ShapeDtypeStruct((images, slots), jnp.bool_),
    )
    groups = (jax.ShapeDtypeStruct((images, slots), jnp.int32),) * 3

    def contrast(features, segments, compared, groups, chunk):
        compared = compared._replace(features=features, segments=segments)
        return sum(hierarchical_contrast(compared, groups, 16.0, arguments.dtype, chunk))

    print(json.dumps({"cells": images * cells, "segments": images * slots}))
    for chunk in (16, 64, cells):
        grad = jax.jit(jax.grad(contrast, (0, 1)), static_argnums=4)
        plan(f"contrast, chunk {chunk}", grad.lower(
            compared.features, compared.segments, compared, groups, chunk
        ))  # fmt: skip
    for remat in (False, True) if arguments.step else ():
        method = HSG(backbone=arguments.backbone, dtype=arguments.dtype, remat=remat)
        batch = spec(images, views, crop)
        state = jax.eval_shape(method.init, jax.random.key(0), batch)
        transforms = dict.fromkeys(state.params, optax.sgd(0.1, momentum=0.9))
        state = jax.eval_shape(lambda s, t=transforms: init_optimiser(s, t), state)
        step = jax.jit(make_step(method, transforms, jax.random.key(0)), donate_argnums=0)
        plan(f"step, remat {remat}", step.lower(state, batch))


def plan(name: str, lowered: jax.stages.Lowered) -> None:
    """Prints the memory that a compiled program needs, in MB, and its operations."""
    compiled = lowered.compile()
    analysis = compiled.memory_analysis()
    cost = compiled.cost_analysis() or {}
    print(
        json.dumps(
            {
                name: {
                    "temporary_MB": round(analysis.temp_size_in_bytes / 1e6, 1),
                    "arguments_MB": round(analysis.argument_size_in_bytes / 1e6, 1),
                    "GFLOP": round(cost.get("flops", float("nan")) / 1e9, 1),
                }
            }
        ),
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    commands = parser.add_subparsers(required=True)
    one = commands.add_parser("scores")
    one.set_defaults(run=scores)
    one.add_argument("--data", required=True, choices=["scenes", "camvid"])
    one.add_argument("--root", default="", help="data.root, for data sets on disk")
    one.add_argument("--workdir", required=True, type=pathlib.Path)
    one.add_argument("--seeds", default="0,1,2")
    one.add_argument("--steps", type=int, default=0, help="0 = the config's")
    two = commands.add_parser("latency")
    two.set_defaults(run=latency)
    two.add_argument("--repeats", type=int, default=10)
    three = commands.add_parser("memory")
    three.set_defaults(run=memory)
    three.add_argument("--images", type=int, default=48)
    three.add_argument("--step", action="store_true", help="the whole step too; compiles long")
    for command, size, backbone in ((two, 320, "resnet18"), (three, 448, "resnet50")):
        command.add_argument("--size", type=int, default=size)
        command.add_argument("--backbone", default=backbone)
        command.add_argument("--dtype", default="float32")
    arguments = parser.parse_args()
    arguments.run(arguments)


if __name__ == "__main__":
    main()
