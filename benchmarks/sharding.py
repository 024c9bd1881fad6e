"""What a device holds of a step, whole and in parts, by XLA's plan, as JSON.

python benchmarks/sharding.py --config=configs/san_cocostuff3.py --devices=8 --shards=1,4,8

Compiles the step of a config on abstract arrays for so many simulated devices, with `train.shards`
at each of the numbers. `state_MB` is what a device holds between steps (parameters, optimiser and
the rest), `temporary_MB` what XLA plans beside it for a step on a CPU; `gathers` and `sums` count
these operations over devices in the program. No data are read, nothing is run.
"""

import argparse
import json
import math
import os
import runpy

import jax
from steps import parts_of

from jaxseg.core import PyTree
from jaxseg.sharding import layout, make_mesh, over_all
from jaxseg.train import compile_step


def abstract(tree: PyTree, shardings: PyTree) -> PyTree:
    """Returns the shapes of a tree with their layout."""
    return jax.tree.map(
        lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s), tree, shardings
    )


def plan(sections: dict, shards: int) -> dict[str, float]:
    """Returns what XLA plans for a step of the config."""
    parts = parts_of(sections)
    mesh = make_mesh(shards=shards)
    placed = abstract(parts.state, layout(parts.state, mesh))
    spread = jax.tree.map(lambda _: over_all(mesh), parts.batch)
    step = compile_step(parts.step, mesh, placed)
    compiled = step.lower(placed, abstract(parts.batch, spread)).compile()
    sizes, text = compiled.memory_analysis(), compiled.as_text()
    state_bytes = sum(
        math.prod(x.sharding.shard_shape(x.shape)) * x.dtype.itemsize
        for x in jax.tree.leaves(placed)
    )
    return {
        "state_MB": round(state_bytes / 1e6, 1),
        "temporary_MB": round(sizes.temp_size_in_bytes / 1e6, 1),
        "gathers": text.count(" all-gather("),
        "sums": text.count(" all-reduce(") + text.count(" reduce-scatter("),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--config", required=True)
    parser.add_argument("--devices", type=int, default=8)
    parser.add_argument("--shards", default="1,8")
    arguments = parser.parse_args()
    # Read when jax starts its backend, which it has not yet.
    flag = f" --xla_force_host_platform_device_count={arguments.devices}"
    os.environ["XLA_FLAGS"] = os.environ.get("XLA_FLAGS", "") + flag
    sections = runpy.run_path(arguments.config)["get_config"]().to_dict()
    for shards in map(int, arguments.shards.split(",")):
        found = {"devices": arguments.devices, "shards": shards} | plan(sections, shards)
        print(json.dumps({"config": arguments.config} | found), flush=True)


if __name__ == "__main__":
    main()
