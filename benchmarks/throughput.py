"""Images/s of the input pipeline and of the train step of a config, as JSON.

python benchmarks/throughput.py --config=configs/infoseg_scenes.py
python benchmarks/throughput.py --config=configs/infoseg_camvid.py --root=DIR

The pipeline is read alone: `first_epoch` decodes or draws every image, `later` finds them in memory
where the config caches them. The step runs on one batch that stays on the device. Medians over
`--repeats`, after a warm-up.
"""

import argparse
import json
import pathlib
import runpy
import tempfile
import time
from collections.abc import Callable

import jax
import numpy as np

from jaxseg.run import Run
from jaxseg.train import compile_step, init_optimiser, make_step


def seconds(function: Callable[[], object], repeats: int) -> float:
    """Returns the median time of a call, in seconds."""
    times = []
    for _ in range(repeats):
        began = time.perf_counter()
        jax.block_until_ready(function())
        times.append(time.perf_counter() - began)
    return float(np.median(times))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config", required=True)
    parser.add_argument("--root", help="data.root, for data sets on disk")
    parser.add_argument("--repeats", type=int, default=10)
    arguments = parser.parse_args()
    config = runpy.run_path(arguments.config)["get_config"]()
    if arguments.root:
        config.data.root = arguments.root
    with tempfile.TemporaryDirectory() as folder:
        run = Run(config, pathlib.Path(folder))
    pipeline = run.data.pipeline
    batches = pipeline.batches(0)
    count = pipeline.steps_per_epoch
    first = seconds(lambda: [next(batches) for _ in range(count)], 1) / count
    later = seconds(lambda: [next(batches) for _ in range(count)], 3) / count
    batch = next(batches)
    batches.close()
    state = init_optimiser(run.untrained, run.transforms)
    step = make_step(run.method, run.transforms, run.key)
    began = time.perf_counter()
    compiled = compile_step(step, run.mesh, state).lower(state, batch).compile()
    compile_seconds = time.perf_counter() - began

    def one_step() -> object:
        nonlocal state
        state, metrics = compiled(state, batch)
        return metrics

    seconds(one_step, 2)
    step_seconds = seconds(one_step, arguments.repeats)
    size = pipeline.batch_size
    result = {
        "config": arguments.config,
        "batch_size": size,
        "pipeline_images_per_second": {
            "first_epoch": round(size / first, 1),
            "later": round(size / later, 1),
        },
        "step_seconds": round(step_seconds, 4),
        "step_images_per_second": round(size / step_seconds, 1),
        "step_compile_seconds": round(compile_seconds, 1),
        "step_gflop": round(compiled.cost_analysis().get("flops", float("nan")) / 1e9, 2),
        "device": str(jax.devices()[0]),
    }
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
