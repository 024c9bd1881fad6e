"""SAN in numbers, as JSON.

python benchmarks/san.py ablation --workdir=RUNS --seeds=0
python benchmarks/san.py memory

`ablation` trains configs/san_scenes.py and the variants of it that the paper's tables 4 and 5 have,
and semantics without norm and with the orthogonality term, one run each below RUNS; finished ones
are not repeated. It prints scores, the collapse monitor by step, and how aligned, uniform and
orthogonal pixels and semantics become.

`memory` is what XLA plans for a train step (nothing is run) as the measures that save memory are
taken one by one: by default 64 images of 128 x 128, P = 1024, N = 27. On a CPU operations are
ordered for memory, as an accelerator's are, and not for speed, XLA's default there. A CPU computes
bfloat16 in float32, so that its plan does not show what the type saves.
"""

import argparse
import json
import os
import pathlib

import jax
import jax.numpy as jnp
import optax
from ml_collections import ConfigDict

from configs import san_base, san_scenes
from jaxseg.core import Batch
from jaxseg.methods.san import SAN
from jaxseg.record import load_results
from jaxseg.run import Run
from jaxseg.train import init_optimiser, make_step
from jaxseg.writer import read_metrics

ABLATIONS = {
    "san": {},
    **san_base.VARIANTS,
    "no_norm": {"norm": "none"},
    "orthogonality": {"orthogonality_weight": 1.0},
}
# Each measure beside those before it.
MEASURES: dict[str, dict] = {
    "float32": {},
    "chunks": {"chunk": 1024},
    "chunks, remat": {"chunk": 1024, "remat": True},
    "chunks, remat, bfloat16": {"chunk": 1024, "remat": True, "dtype": "bfloat16"},
}


def ablation(arguments: argparse.Namespace) -> None:
    """Trains and scores; prints what is there after each run."""
    for seed in map(int, arguments.seeds.split(",")):
        for name in arguments.variants.split(","):
            config = san_scenes.get_config()
            config.method.update(ABLATIONS[name])
            config.train.seed = seed
            config.evals = ConfigDict({"san": config.evals.san})
            if arguments.steps:
                config.train.steps = arguments.steps
            run = Run(config, arguments.workdir / f"{name}_{seed}")
            if not (run.workdir / "evaluation" / "san.json").exists():
                run.fit()
                run.evaluate()
            (result,) = load_results(run.workdir / "evaluation")
            lines = read_metrics(run.workdir / "metrics.jsonl")
            key = "monitor/effective_clusters"
            monitor = {row["step"]: round(row[key], 2) for row in lines if key in row}
            scores = {k: round(v, 4) for k, v in result.scalars.items()}
            print(json.dumps({name: scores | {"seed": seed, "monitor": monitor}}), flush=True)


def spec(images: int, crop: int) -> Batch:
    """Returns an abstract training batch."""
    return Batch(
        index=jax.ShapeDtypeStruct((images,), jnp.int32),
        seed=jax.ShapeDtypeStruct((images,), jnp.uint32),
        image=jax.ShapeDtypeStruct((images, 1, crop, crop, 3), jnp.uint8),
        size=jax.ShapeDtypeStruct((images, 1, 2), jnp.int32),
    )


def memory(arguments: argparse.Namespace) -> None:
    """Compiles the step on abstract arrays and prints XLA's plan in GB."""
    # Read when jax starts its backend, which it has not yet.
    flag = " --xla_cpu_enable_concurrency_optimized_scheduler=false"
    os.environ["XLA_FLAGS"] = os.environ.get("XLA_FLAGS", "") + flag
    device = jax.devices()[0]
    for name, fields in MEASURES.items():
        method = SAN(clusters=arguments.clusters, features=arguments.features, **fields)
        batch = spec(arguments.images, arguments.size)
        state = jax.eval_shape(method.init, jax.random.key(0), batch)
        transforms = dict.fromkeys(state.params, optax.adam(1e-4))
        state = jax.eval_shape(lambda s, t=transforms: init_optimiser(s, t), state)
        step = jax.jit(make_step(method, transforms, jax.random.key(0)), donate_argnums=0)
        compiled = step.lower(state, batch).compile()
        plan, cost = compiled.memory_analysis(), compiled.cost_analysis() or {}
        found = {
            "temporary_GB": round(plan.temp_size_in_bytes / 1e9, 2),
            "arguments_GB": round(plan.argument_size_in_bytes / 1e9, 2),
            "TFLOP": round(cost.get("flops", float("nan")) / 1e12, 2),
        }
        print(json.dumps({"platform": device.platform, name: found}), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    commands = parser.add_subparsers(required=True)
    two = commands.add_parser("ablation")
    two.set_defaults(run=ablation)
    two.add_argument("--workdir", required=True, type=pathlib.Path)
    two.add_argument("--seeds", default="0")
    two.add_argument("--variants", default=",".join(ABLATIONS))
    two.add_argument("--steps", type=int, default=0, help="0 = the config's")
    one = commands.add_parser("memory")
    one.set_defaults(run=memory)
    one.add_argument("--images", type=int, default=64)
    one.add_argument("--size", type=int, default=128)
    one.add_argument("--features", type=int, default=1024)
    one.add_argument("--clusters", type=int, default=27)
    arguments = parser.parse_args()
    arguments.run(arguments)


if __name__ == "__main__":
    main()
