"""jaxseg's networks beside the same in PyTorch, as JSON.

python benchmarks/networks.py --torch=TORCH_PYTHON

Times ResNet-50 and ViT-S/8 for 4 images of 224 x 224: forward (ResNets in training mode), and with
the gradient of the parameters. `plain` is ResNet-50 with Flax's 1x1 convolutions and BatchNorm in
the place of jaxseg's. PyTorch (torch_networks.py, by another Python) runs in its better layout. The
sides take turns, a process each, with as many threads as the command may use cores (`taskset`).
Medians of `--repeats` calls after one to warm up, and of `--rounds` processes.
"""

import argparse
import contextlib
import functools
import json
import os
import pathlib
import subprocess
import sys
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from formulations import BATCH, clock

from jaxseg.models import resnet
from jaxseg.models.backbones import ARCHITECTURES

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

    def loss(params: dict) -> jax.Array:
        found, _ = network.apply(
            variables | {"params": params}, image, *train, mutable=["batch_stats"]
        )
        return ((found[-1] if stride else found.patches) ** 2).mean()

    forward, gradient = jax.jit(loss), jax.jit(jax.value_and_grad(loss))
    with contextlib.ExitStack() as patches:
        if arguments.plain:
            patches.enter_context(mock.patch.object(resnet, "_pointwise", _plain_pointwise))
            patches.enter_context(mock.patch.object(resnet, "batch_norm", _plain_norm))
        variables = network.init(jax.random.key(1), image, *train)
        parts = {"forward": forward, "gradient": gradient}
        calls = {part: functools.partial(f, variables["params"]) for part, f in parts.items()}
        return clock(calls, arguments.repeats)


def _plain_pointwise(width: int, dtype: jnp.dtype, name: str) -> nn.Module:
    return nn.Conv(width, (1, 1), use_bias=False, dtype=dtype, name=name)


def _plain_norm(dtype: jnp.dtype, train: bool, name: str) -> nn.Module:
    return nn.BatchNorm(
        use_running_average=not train, momentum=0.9, epsilon=1e-5, dtype=dtype, name=name
    )


def networks(arguments: argparse.Namespace) -> dict[str, object]:
    """Returns the times of each network by each side, and the ratios to PyTorch."""
    threads, repeats = len(os.sched_getaffinity(0)), str(arguments.repeats)
    beside = str(pathlib.Path(__file__).with_name("torch_networks.py"))
    found: dict[str, object] = {}
    for title, (_, stride) in NETWORKS.items():
        own = [sys.executable, __file__, f"--one={title}", f"--repeats={repeats}"]
        torch = [arguments.torch, beside, str(stride), str(BATCH), str(threads), repeats]
        commands = {"jaxseg": own, "torch": torch}
        if stride:
            commands["plain"] = [*own, "--plain"]
        rounds: dict[str, list[dict]] = {side: [] for side in commands}
        for _ in range(arguments.rounds):
            for side, command in commands.items():
                out = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
                rounds[side].append(json.loads(out))
        medians = {
            side: {part: float(np.median([r[part] for r in some])) for part in some[0]}
            for side, some in rounds.items()
        }
        found[title] = {
            part: {side: round(times[part], 3) for side, times in medians.items()}
            | {"jaxseg/torch": round(medians["jaxseg"][part] / medians["torch"][part], 2)}
            for part in ("forward", "gradient")
        }
    return {"threads": threads} | found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--torch", default=sys.executable, help="a Python that has PyTorch")
    parser.add_argument("--one", choices=list(NETWORKS), help="this one, in this process")
    parser.add_argument("--plain", action="store_true", help="of --one: with plain layers")
    arguments = parser.parse_args()
    if arguments.one:
        print(json.dumps(network_times(*NETWORKS[arguments.one], arguments)))
    else:
        print(json.dumps(networks(arguments), indent=2))


if __name__ == "__main__":
    main()
