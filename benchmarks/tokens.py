"""Steps/s of a frozen-feature config with and without the token cache, and its disk, as JSON.

python benchmarks/tokens.py --config=configs/smooseg_tiny_camvid.py --root=DIR
python benchmarks/tokens.py --config=configs/smooseg_scenes.py --steps=50

Both ways run the whole of training: the pipeline reads, the device steps, over `--steps` steps
after two to warm up; without the cache the backbone runs in each. `build_seconds` is what the cache
costs once: a run's first start less its second, which finds the cache. It is built in a temporary
folder, below `--folder` to measure the disk of another.
"""

import argparse
import json
import pathlib
import runpy
import shutil
import tempfile
import time
from typing import Any

import jax
from ml_collections import ConfigDict

from jaxseg.run import Run
from jaxseg.train import compile_step, init_optimiser, make_step


def load(arguments: argparse.Namespace, tokens: str) -> ConfigDict:
    """Returns the config with its cache in the folder `tokens`; "" = without one."""
    config = runpy.run_path(arguments.config)["get_config"]()
    if arguments.root:
        config.data.root = arguments.root
    config.data.tokens = tokens
    return config


def steps_per_second(run: Run, count: int) -> float:
    """Returns the rate of `count` steps of training with their reading, after two to warm up."""
    batches = run.data.pipeline.batches(0)
    state = init_optimiser(run.untrained, run.transforms)
    step = compile_step(make_step(run.method, run.transforms, run.key), run.mesh, state)
    for _ in range(2):
        state, metrics = step(state, next(batches))
    jax.block_until_ready(metrics)
    began = time.perf_counter()
    for _ in range(count):
        state, metrics = step(state, next(batches))
    jax.block_until_ready(metrics)
    seconds = time.perf_counter() - began
    batches.close()
    return count / seconds


def measure(arguments: argparse.Namespace, folder: str) -> dict[str, Any]:
    """Measures both ways, the cache last."""
    with tempfile.TemporaryDirectory() as workdir:
        run = Run(load(arguments, ""), pathlib.Path(workdir))
        without = steps_per_second(run, arguments.steps)
    with tempfile.TemporaryDirectory() as workdir:
        seconds = []
        for _ in range(2):
            began = time.perf_counter()
            run = Run(load(arguments, folder), pathlib.Path(workdir))
            seconds.append(time.perf_counter() - began)
        store = run.data.pipeline.tokens
        if store is None:
            raise SystemExit(f"{arguments.config} makes no token cache; its method must be frozen")
        with_cache = steps_per_second(run, arguments.steps)
    return {
        "config": arguments.config,
        "batch_size": run.data.pipeline.batch_size,
        "images": len(store),
        "tokens": list(store.shape),
        "steps_per_second": {"computed": round(without, 3), "cached": round(with_cache, 3)},
        "gain": round(with_cache / without, 1),
        "build_seconds": round(seconds[0] - seconds[1], 1),
        "bytes_per_image": store.image_bytes,
        "bytes": store.total_bytes,
        "disk_free_bytes": shutil.disk_usage(folder).free,
        "device": str(jax.devices()[0]),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config", required=True)
    parser.add_argument("--root", help="data.root, for data sets on disk")
    parser.add_argument("--folder", help="where the temporary cache lies")
    parser.add_argument("--steps", type=int, default=20)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        print(json.dumps(measure(arguments, folder), indent=2))


if __name__ == "__main__":
    main()
