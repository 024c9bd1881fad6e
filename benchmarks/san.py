"""SAN in numbers, as JSON.

python benchmarks/san.py memory

What XLA plans for a train step (nothing is run) as the measures that save memory are taken one by
one: by default 64 images of 128 x 128, P = 1024, N = 27.
"""

import argparse
import json

import jax
import jax.numpy as jnp
import optax

from jaxseg.core import Batch
from jaxseg.methods.san import SAN
from jaxseg.train import init_optimiser, make_step

# Each measure beside those before it.
MEASURES: dict[str, dict] = {
    "float32": {},
    "bfloat16": {"dtype": "bfloat16"},
    "bfloat16, chunks": {"dtype": "bfloat16", "chunk": 1024},
    "bfloat16, chunks, remat": {"dtype": "bfloat16", "chunk": 1024, "remat": True},
    "float32, chunks, remat": {"chunk": 1024, "remat": True},
}


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
