"""How near the heavy kernels come to what the machine can do (its roofline), as JSON.

python benchmarks/kernels.py
python benchmarks/kernels.py --only=kmeans --set=points=1000000,clusters=512

For each kernel at a few sizes: the operations and bytes that the algorithm cannot do without,
counted by hand in kernel_work.py; the median time of a call after a warm-up; what that makes a
second; and the bound, the time that the machine would take at best: the larger of operations over
`peak_GFLOPS` (a large matrix product) and bytes over `peak_GBs` (a large triad), both float32 and
measured in the same run, before and after the kernels, of which the better counts. `fraction` is
bound over time. `xla_GFLOP` and `xla_GB` are XLA's counts of the program, which take the body of a
loop once. Bytes are those of memory: what fits a cache, such as centroids, is read once.

`--clock=cpu` takes the processor time of all threads, peaks included, in the place of that on the
wall: on one core (taskset -c 0) what other programs take does not count then.
"""

import argparse
import inspect
import json
import os
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from kernel_work import KERNELS, Kernel, Needs, Sizes
from steps import peak_flops, seconds

CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}


def peak_bytes(repeats: int, clock: Callable[[], float]) -> float:
    """Returns the bytes a second of x <- x + y / 2 on arrays that no cache holds.

    Two arrays are read and one, which is one of them, is written: no new memory is asked for.
    """
    count = 1 << (24 if jax.default_backend() == "cpu" else 28)
    triad = jax.jit(lambda x, y: x + 0.5 * y, donate_argnums=0)
    x, y = jnp.zeros(count), jnp.ones(count)

    def once() -> jax.Array:
        nonlocal x
        x = triad(x, y)
        return x

    return 3 * 4 * count / seconds(once, repeats, clock)


def measure(
    kernel: Kernel, sizes: Sizes, repeats: int, clock: Callable[[], float]
) -> tuple[float, Needs, dict[str, Any]]:
    """Returns the seconds of a call, what it needs, and what is to be told beside them."""
    work, needs = kernel.make(**sizes), kernel.needs(**sizes)
    told: dict[str, Any] = sizes | {"where": "host" if work.program is None else "device"}
    if work.program is not None:
        cost = work.program.cost_analysis() or {}
        told["xla_GFLOP"] = round(cost.get("flops", float("nan")) / 1e9, 4)
        told["xla_GB"] = round(cost.get("bytes accessed", float("nan")) / 1e9, 4)
    return seconds(work.call, repeats, clock), needs, told


def against_peaks(spent: float, needs: Needs, flops: float, rate: float) -> dict[str, Any]:
    """Returns what is achieved in the time spent, with peaks of operations and bytes a second."""
    computing, moving = needs.flops / flops, needs.bytes / rate
    return {
        "ms": round(1e3 * spent, 4),
        "GFLOP": round(needs.flops / 1e9, 6),
        "GB": round(needs.bytes / 1e9, 6),
        "GFLOPS": round(needs.flops / spent / 1e9, 2),
        "GBs": round(needs.bytes / spent / 1e9, 2),
        "bound": "operations" if computing > moving else "bytes",
        "bound_ms": round(1e3 * max(computing, moving), 4),
        "fraction": round(max(computing, moving) / spent, 3),
    }


def changed(kernel: Kernel, given: Sizes) -> list[Sizes]:
    """Returns the kernel's sizes with those given in the place of its own, each once."""
    known = inspect.signature(kernel.make).parameters
    own = {name: value for name, value in given.items() if name in known}
    found = [sizes | own for sizes in kernel.sizes]
    return [sizes for i, sizes in enumerate(found) if sizes not in found[:i]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--only", default=",".join(KERNELS), help="kernels, with commas")
    parser.add_argument("--set", default="", help="NAME=NUMBER,... in the place of sizes")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--clock", default="wall", choices=CLOCKS)
    arguments = parser.parse_args()
    given = {
        name: int(value)
        for name, value in (pair.split("=") for pair in arguments.set.split(",") if pair)
    }
    repeats, clock = arguments.repeats, CLOCKS[arguments.clock]

    def peaks() -> np.ndarray:
        return np.array([peak_flops("float32", repeats, clock), peak_bytes(repeats, clock)])

    before = peaks()
    found = {
        name: [
            measure(KERNELS[name], sizes, repeats, clock) for sizes in changed(KERNELS[name], given)
        ]
        for name in arguments.only.split(",")
    }
    flops, rate = np.maximum(before, peaks()).tolist()
    result = {
        "device": jax.devices()[0].device_kind,
        "cores": len(os.sched_getaffinity(0)),
        "clock": arguments.clock,
        "peak_GFLOPS": round(flops / 1e9, 1),
        "peak_GBs": round(rate / 1e9, 1),
        "kernels": {
            name: [
                told | against_peaks(spent, needs, flops, rate) for spent, needs, told in measured
            ]
            for name, measured in found.items()
        },
    }
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
