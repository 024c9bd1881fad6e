"""jaxseg's networks beside the same in PyTorch, as JSON.

python benchmarks/networks.py --torch=TORCH_PYTHON

Times ResNet-50 and ViT-S/8 for 4 images of 224 x 224: forward (ResNets in training mode), and with
the gradient of the parameters. `plain` has what a textbook has in the place of jaxseg's layers
(1x1 convolutions, BatchNorm and max-pooling of Flax, attention as it is written, block after block)
and leaves memory to glibc, where jaxseg keeps it as `jaxseg.main` does. PyTorch (torch_networks.py,
by another Python), which runs eagerly, has its better layout, and the better of two processes, with
and without glibc keeping memory. The sides take turns, a process each, with as many threads as the
command may use cores (`taskset`). Medians of `--repeats` calls after one to warm up, and of
`--rounds` processes. The optimiser's update is left out.
"""

import argparse
import contextlib
import functools
import json
import os
import pathlib
import subprocess
import sys
from collections.abc import Callable
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from formulations import BATCH, attention, clock, pool

from jaxseg import memory
from jaxseg.models import resnet, vit
from jaxseg.models.backbones import ARCHITECTURES

# What `memory.keep` asks glibc for, for a process that does not.
KEPT = {
    "MALLOC_ARENA_MAX": "1", "MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": str(2**31 - 1)
}  # fmt: skip
# Title -> the name in ARCHITECTURES, and the output stride of a ResNet.
NETWORKS = {
    "resnet50": ("resnet50", 32),
    "resnet50, output stride 16": ("resnet50", 16),
    "vit_small_8": ("vit_small_8", 0),
}


def network_times(name: str, stride: int, arguments: argparse.Namespace) -> dict[str, float]:
    """Returns the seconds of a jaxseg network, forward in training mode and with the gradient."""
    network = ARCHITECTURES[name](**({"stride": stride} if stride else {}))
    train = (True,) if stride else ()
    image = jax.random.normal(jax.random.key(0), (BATCH, 224, 224, 3))

    def loss(params: dict, image: jax.Array) -> jax.Array:
        found, _ = network.apply(
            variables | {"params": params}, image, *train, mutable=["batch_stats"]
        )
        return ((found[-1] if stride else found.patches) ** 2).mean()

    forward, gradient = jax.jit(loss), jax.jit(jax.value_and_grad(loss))
    with contextlib.ExitStack() as patches:
        if arguments.plain:
            for module, name, layer in PLAIN:
                patches.enter_context(mock.patch.object(module, name, layer))
        variables = network.init(jax.random.key(1), image, *train)
        parts = {"forward": forward, "gradient": gradient}
        calls = {
            part: functools.partial(f, variables["params"], image) for part, f in parts.items()
        }
        return clock(calls, arguments.repeats)


def _plain_pointwise(width: int, dtype: jnp.dtype, name: str) -> nn.Module:
    return nn.Conv(width, (1, 1), use_bias=False, dtype=dtype, name=name)


def _plain_dense(width: int, dtype: jnp.dtype, name: str) -> nn.Module:
    return nn.Dense(width, dtype=dtype, name=name)


def _plain_norm(dtype: jnp.dtype, train: bool, name: str) -> nn.Module:
    return nn.BatchNorm(
        use_running_average=not train, momentum=0.9, epsilon=1e-5, dtype=dtype, name=name
    )


def _one_by_one(owner: nn.Module, make: Callable, names: list, call: Callable, x: jax.Array):
    for name in names:
        x = call(make(name=name), x)
    return x


PLAIN = (
    (resnet, "_pointwise", _plain_pointwise),
    (resnet, "batch_norm", _plain_norm),
    (resnet, "max_pool", pool),
    (vit, "_dense", _plain_dense),
    (vit, "attend", attention),
    (vit, "in_loop", _one_by_one),
)


def networks(arguments: argparse.Namespace) -> dict[str, object]:
    """Returns the times of each network by each side, and the ratios to PyTorch."""
    threads, repeats = len(os.sched_getaffinity(0)), str(arguments.repeats)
    script = str(pathlib.Path(__file__).with_name("torch_networks.py"))
    found: dict[str, object] = {}
    for title, (_, stride) in NETWORKS.items():
        own = [sys.executable, __file__, f"--one={title}", f"--repeats={repeats}"]
        torch = [arguments.torch, script, str(stride), str(BATCH), str(threads), repeats]
        commands = {"jaxseg": own, "plain": [*own, "--plain"], "torch": torch, "torch kept": torch}
        rounds: dict[str, list[dict]] = {side: [] for side in commands}
        for _ in range(arguments.rounds):
            for side, command in commands.items():
                environment = os.environ | (KEPT if side == "torch kept" else {})
                out = subprocess.run(
                    command, check=True, stdout=subprocess.PIPE, text=True, env=environment
                ).stdout
                rounds[side].append(json.loads(out))
        medians = {
            side: {part: float(np.median([r[part] for r in some])) for part in some[0]}
            for side, some in rounds.items()
        }
        found[title] = {part: beside(part, medians) for part in ("forward", "gradient")}
    return {"threads": threads} | found


def beside(part: str, medians: dict[str, dict[str, float]]) -> dict[str, float]:
    """Returns the seconds of each side, and jaxseg's and plain's over PyTorch's better ones."""
    times = {side: found[part] for side, found in medians.items()}
    torch = min(times["torch"], times["torch kept"])
    ratios = {f"{side}/torch": round(times[side] / torch, 2) for side in ("jaxseg", "plain")}
    return {side: round(value, 3) for side, value in times.items()} | ratios


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--torch", default=sys.executable, help="a Python that has PyTorch")
    parser.add_argument("--one", choices=list(NETWORKS), help="this one, in this process")
    parser.add_argument("--plain", action="store_true", help="of --one: with plain layers")
    arguments = parser.parse_args()
    if arguments.one:
        if not arguments.plain:
            memory.keep()
        print(json.dumps(network_times(*NETWORKS[arguments.one], arguments)))
    else:
        print(json.dumps(networks(arguments), indent=2))


if __name__ == "__main__":
    main()
