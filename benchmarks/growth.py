"""How cost grows with what it depends on, beside the method's own order, as JSON and a figure.

python benchmarks/growth.py --figure=growth.png
python benchmarks/growth.py --only=contrast,retrieval --clock=cpu

Each curve doubles one size of an operation and leaves the others: the median time of a call after a
warm-up, and its memory (XLA's plan for temporary arrays; of what runs on the host how much more
memory the process has at most during a call, arrays of JAX included, the least of three calls).
`exponent` is the slope of log time over log size by least squares through the last three sizes;
`order` that of the method (its formula stands beside it; letters as in the code), and `within` says
exponent <= order + 0.25; the same for memory. Below the sizes where the leading term rules,
exponents are lower than orders.

Curves over devices are of simulated ones, which share this machine: not of time but of the compiled
program. They count the bytes of a device (arguments and temporary arrays), its exchanges with
others (in a loop once) and the bytes of their results, for the same work on 1 to 8 devices.

`--clock=cpu` takes processor time in the place of that on the wall, see kernels.py.
"""

import argparse
import ctypes
import gc
import json
import math
import os
import pathlib
import re
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import growth_work as work
import jax
import kernel_work as kernels
import numpy as np
from kernel_work import Work
from kernels import CLOCKS
from steps import seconds

TOLERANCE = 0.25
FITTED = 3  # of the last sizes
_DEVICES = 8
_EXCHANGES = re.compile(
    r"= (.*?) (?:all-gather|all-reduce|reduce-scatter|all-to-all|collective-permute)(?:-start)?\("
)
_ARRAY = re.compile(r"\b([a-z]+)(\d*)\[([\d,]*)\]")


class Curve(NamedTuple):
    """What to measure: an operation, the sizes to leave, and the one to double.

    `time` and `memory` are the method's orders in that size, as `formula` has them.
    """

    make: Callable[..., Work]
    size: str
    values: Sequence[int]
    time: float
    memory: float
    formula: str
    others: dict[str, int]

    @property
    def name(self) -> str:
        return f"{self.make.__name__} by {self.size}"


def doubled(first: int, times: int = 3) -> tuple[int, ...]:
    return tuple(first << i for i in range(times + 1))


def curve(make, size, first, time, memory, formula, times=3, **others) -> Curve:
    return Curve(make, size, doubled(first, times), time, memory, formula, others)


_CONTRAST = "B N B S D; in chunks of B c B S"
_SMOOSEG = "B N C K"
_INFOSEG = "B H W (network + K P)"
_SAN = "B H W P (D + N), in chunks"
_FIT = "R N K D"

# By what is doubled. Cells N and pixels grow with the square of a side.
CURVES = {
    "batch": (
        curve(kernels.contrast, "images", 2, 2, 2, _CONTRAST, cells=256, slots=64, dim=64),
        curve(work.infoseg, "images", 4, 1, 1, _INFOSEG, side=64, clusters=8, times=2),
        curve(work.san, "images", 1, 1, 1, _SAN, side=64, clusters=8),
        curve(work.smooseg, "images", 4, 1, 1, _SMOOSEG, side=28, clusters=27),
    ),
    "image size": (
        curve(kernels.grid_kmeans, "side", 14, 2, 2, "B R N K D",
              images=1, grid=4, dim=64, rounds=5),
        curve(work.split, "side", 14, 2, 2, "B N log N + B N S", images=1, slots=64),
        curve(work.infoseg, "side", 32, 2, 2, _INFOSEG, images=4, clusters=8, times=2),
        curve(work.san, "side", 32, 2, 2, _SAN, images=1, clusters=8),
        curve(work.smooseg, "side", 28, 2, 2, _SMOOSEG, images=2, clusters=27),
        curve(work.bimodality, "side", 7, 4, 2, "B N^2 K, 64 rows at a time",
              images=2, clusters=27),
        curve(work.vit, "side", 64, 4, 4, "B N D^2 + B N^2 D", images=1),
        curve(kernels.crf, "side", 80, 2, 2, "R H W K", times=2, classes=21, steps=3),
    ),
    "segments": (
        curve(kernels.contrast, "slots", 64, 1, 1, _CONTRAST, images=2, cells=256, dim=64),
        curve(work.split, "slots", 64, 1, 1, "B N log N + B N S", images=1, side=28),
        curve(work.transformer, "slots", 64, 2, 2, "B S D^2 + B S^2 D", images=2),
        curve(work.goodness, "slots", 64, 2, 2, "B S^2 D", images=2),
    ),
    "clusters": (
        curve(kernels.kmeans, "clusters", 64, 1, 1, _FIT, points=32_768, dim=64),
        curve(work.kmeans_fit, "clusters", 16, 1, 1, _FIT, points=16_384, dim=64),
        curve(work.assignment, "clusters", 16, 1, 1, "N K D", points=16_384, dim=64),
        curve(work.smooseg, "clusters", 16, 1, 1, _SMOOSEG, images=2, side=28),
        curve(kernels.confusion, "classes", 27, 0, 0, "N + C^2", pixels=1 << 20),
        curve(kernels.hungarian, "classes", 64, 3, 2, "C^3", ),
    ),
    "bank": (
        curve(kernels.retrieval, "bank", 16_384, 1, 1, "Q N D",
              queries=128, dim=64, neighbours=20),
        curve(kernels.retrieval, "queries", 64, 1, 1, "Q N D",
              bank=16_384, dim=64, neighbours=20),
    ),
    "data": (
        curve(work.permutation, "images", 8_000_000, 1, 1, "N"),
        curve(work.listing, "images", 1_000, 1, 1, "N log N"),
        curve(work.headers, "images", 1_000, 1, 1, "N"),
        curve(work.refit, "points", 65_536, 1, 0, "N K D, a batch at a time",
              clusters=27, dim=64),
        curve(work.stego_partners, "images", 2_048, 2, 1, "N^2 D, in chunks", dim=64),
        curve(kernels.confusion, "pixels", 1 << 18, 1, 1, "N + C^2", classes=27),
    ),
}  # fmt: skip

# By operation: the orders of a device's bytes and of the bytes that it exchanges.
DEVICES = {
    work.kmeans_devices: ("N K D / devices, and K D exchanged", -1, 0),
    work.retrieval_devices: ("Q N D / devices, and Q k devices exchanged", -1, 1),
    work.contrast_devices: ("B N B S D / devices, and B S D exchanged", -1, 0),
    work.infoseg_devices: ("B H W / devices, and parameters exchanged", -1, 0),
}


def exponent(values: Sequence[float], costs: Sequence[float]) -> float:
    """Returns the slope of log cost over log value through the last sizes; nan without any cost."""
    values, costs = np.asarray(values[-FITTED:], float), np.asarray(costs[-FITTED:], float)
    if not (costs > 0).all():
        return float("nan")
    return float(np.polyfit(np.log(values), np.log(costs), 1)[0])


def told(values: Sequence[int], costs: Sequence[float], order: float, unit: str) -> dict[str, Any]:
    """Returns costs, exponent, order and whether it is kept; None where there is no cost."""
    found = exponent(values, costs)
    some = not math.isnan(found)
    return {
        unit: [round(cost, 4) for cost in costs],
        "exponent": round(found, 2) if some else None,
        "order": order,
        "within": found <= order + TOLERANCE if some else None,
    }


def resident(which: str) -> int:
    """Returns the bytes of memory that this process has ("VmRSS") or had at most ("VmHWM")."""
    lines = pathlib.Path("/proc/self/status").read_text().splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith(f"{which}:"))


def peak_bytes(call: Callable[[], object]) -> int:
    """Returns how much more memory the process has at most during a call; Linux alone tells."""
    call()  # compiles
    found = []
    for _ in range(3):
        gc.collect()
        # What is free and kept to be given out again would not be seen to be used.
        ctypes.CDLL(None).malloc_trim(0)
        pathlib.Path("/proc/self/clear_refs").write_text("5")  # forgets the most until now
        before = resident("VmRSS")
        jax.block_until_ready(call())
        found.append(resident("VmHWM") - before)
    return min(found)


def megabytes(made: Work) -> float:
    """Returns the memory of a call, see above."""
    if made.program is not None:
        return made.program.memory_analysis().temp_size_in_bytes / 1e6
    return peak_bytes(made.call) / 1e6


def measure(curve: Curve, repeats: int, clock: Callable[[], float]) -> dict[str, Any]:
    """Returns the costs of one curve."""
    times, memory = [], []
    for value in curve.values:
        made = curve.make(**{curve.size: value}, **curve.others)
        times.append(1e3 * seconds(made.call, repeats, clock))
        memory.append(megabytes(made))
    return {
        "values": list(curve.values),
        "formula": curve.formula,
        "others": curve.others,
        "time": told(curve.values, times, curve.time, "ms"),
        "memory": told(curve.values, memory, curve.memory, "MB"),
    }


def exchanges(text: str) -> list[int]:
    """Returns the bytes of the result of every exchange between devices of a compiled program."""
    found = []
    for result in _EXCHANGES.findall(text):
        arrays = _ARRAY.findall(result)
        found.append(
            sum(
                max(int(bits or 8) // 8, 1) * math.prod(map(int, filter(None, shape.split(","))))
                for _, bits, shape in arrays
            )
        )
    return found


def of_devices(make: Callable, memory: float, exchanged: float, formula: str) -> dict[str, Any]:
    """Returns what the programs of one operation say, for 1 to 8 devices."""
    values = [count for count in doubled(1) if count <= len(jax.devices())]
    programs = [make(count) for count in values]
    plans = [program.memory_analysis() for program in programs]
    held = [(p.argument_size_in_bytes + p.temp_size_in_bytes) / 1e6 for p in plans]
    sent = [exchanges(program.as_text()) for program in programs]
    return {
        "values": values,
        "formula": formula,
        "memory": told(values, held, memory, "MB"),
        "exchanges": told(values[1:], [len(each) for each in sent[1:]], 0, "number"),
        "exchanged": told(values[1:], [sum(each) / 1e6 for each in sent[1:]], exchanged, "MB"),
    }


def draw(result: dict[str, dict[str, Any]], file: str) -> None:
    """Writes a figure: a panel for each thing that is doubled, dashed what the order allows."""
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot

    rows = -(-len(result) // 2)
    figure, axes = pyplot.subplots(rows, 2, figsize=(13, 4.6 * rows), squeeze=False)
    for panel, (title, curves) in zip(axes.flat, result.items(), strict=False):
        for name, found in curves.items():
            kind, unit = ("memory", "MB") if "time" not in found else ("time", "ms")
            cost, values = found[kind], np.asarray(found["values"], float)
            label = f"{name}: {cost['exponent']} of {cost['order']}"
            # Curves of one panel double different sizes, so that all begin at 1.
            (line,) = panel.loglog(values / values[0], cost[unit], marker="o", label=label)
            own = cost[unit][-1] * (values / values[-1]) ** cost["order"]
            panel.loglog(values / values[0], own, "--", color=line.get_color(), linewidth=0.8)
        panel.set_title(title)
        panel.set_xlabel("size, in multiples of the first")
        panel.set_ylabel("MB a device" if title == "devices" else "ms a call")
        panel.set_xticks(doubled(1), [str(value) for value in doubled(1)])
        panel.minorticks_off()
        panel.grid(alpha=0.3)
        panel.legend(fontsize=7)
    for panel in axes.flat[len(result) :]:
        panel.remove()
    figure.suptitle("Cost against size; dashed: the method's own order through the last point")
    figure.tight_layout(rect=(0, 0, 1, 0.98))
    figure.savefig(file, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--only", default="", help="operations, with commas; default: all")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--clock", default="wall", choices=CLOCKS)
    parser.add_argument("--figure", default="", help="file of the figure, such as growth.png")
    arguments = parser.parse_args()
    # Read when jax starts its backend, which it has not yet.
    flag = f" --xla_force_host_platform_device_count={_DEVICES}"
    os.environ["XLA_FLAGS"] = os.environ.get("XLA_FLAGS", "") + flag
    chosen = set(filter(None, arguments.only.split(",")))

    def wanted(make: Callable) -> bool:
        return not chosen or make.__name__ in chosen

    result: dict[str, dict[str, Any]] = {}
    for axis, curves in CURVES.items():
        for one in filter(lambda one: wanted(one.make), curves):
            found = measure(one, arguments.repeats, CLOCKS[arguments.clock])
            result.setdefault(axis, {})[one.name] = found
    for make, (formula, memory, exchanged) in DEVICES.items():
        if wanted(make):
            found = of_devices(make, memory, exchanged, formula)
            result.setdefault("devices", {})[make.__name__] = found
    print(json.dumps({"clock": arguments.clock, "curves": result}, indent=2))
    if arguments.figure:
        draw(result, arguments.figure)


if __name__ == "__main__":
    main()
