"""python -m jaxseg.convert SOURCE --out=FILE.safetensors [--arch --mean --std --name]

Turns published weights into our weights file (see jaxseg/models/weights.py). Nothing in a source is
executed: .safetensors and .npz hold plain arrays, .pth goes through torch's weights-only loader.
"""

import argparse
import pathlib
import sys
from collections.abc import Mapping

import jax
import numpy as np
from flax import traverse_util

from jaxseg.commands.sources import read_arrays
from jaxseg.core import UserError
from jaxseg.models import backbones, published, published_hsg, weights
from jaxseg.models.resnet import ResNet


def main(argv: list[str]) -> None:
    """Runs the command line; exits with a message for what a user can mend."""
    parser = argparse.ArgumentParser(prog="python -m jaxseg.convert", description=__doc__)
    parser.add_argument("source", help="a .safetensors, .npz, .pth, .pt, .bin or .pth.tar file")
    parser.add_argument("--out", required=True, help="the weights file to write (.safetensors)")
    parser.add_argument(
        "--arch", default="", help="its architecture; default: found by names and shapes"
    )
    parser.add_argument("--mean", help="normalisation: three numbers; default: ImageNet's")
    parser.add_argument("--std", help="normalisation: three numbers; default: ImageNet's")
    parser.add_argument("--name", default="", help="what it is; default: the source's file name")
    args = parser.parse_args(argv)
    try:
        mean = numbers("--mean", args.mean, backbones.IMAGENET_MEAN)
        std = numbers("--std", args.std, backbones.IMAGENET_STD)
        print("\n".join(convert(args.source, args.out, args.arch, mean, std, args.name)))
    except UserError as error:
        sys.exit(f"jaxseg: {error}")


def numbers(flag: str, text: str | None, default: tuple[float, ...]) -> np.ndarray:
    """Returns f32[3] from "0.5,0.5,0.5"; raises UserError for anything else."""
    try:
        found = np.array(default if text is None else text.split(","), np.float32)
    except ValueError:
        found = np.array(())
    if found.shape != (3,) or not np.isfinite(found).all() or (flag == "--std" and min(found) <= 0):
        raise UserError(f"{flag} is {text!r}; give three numbers, such as {flag}=0.5,0.5,0.5")
    return found


def convert(
    source: pathlib.Path | str,
    out: pathlib.Path | str,
    arch: str,
    mean: np.ndarray,
    std: np.ndarray,
    name: str = "",
) -> list[str]:
    """Writes the weights file and returns lines that say what was taken and what left out.

    Args:
        source: the published file.
        out: the weights file.
        arch: a key of ARCHITECTURES, or `published_hsg.ARCHITECTURE`, for HSG's transformers with
            their queries and positions, or one transformer; "" finds it by names and shapes.
        mean, std: f32[3], of pixels in [0, 1]; a backbone's alone.
        name: what the weights are; "" takes the source's file name.

    Raises:
        UserError: a file cannot be read or written, or the source is of another architecture.
    """
    source, out = pathlib.Path(source), pathlib.Path(out)
    if out.suffix != ".safetensors" or not out.parent.is_dir():
        raise UserError(f"--out is {str(out)!r}; give a .safetensors file in a folder that exists.")
    if arch not in ("", published_hsg.ARCHITECTURE):
        backbones.Backbone(arch)  # raises for a name that there is not
    arch, flat, ignored = recognise(source, read_arrays(source), arch)
    hsg = arch == published_hsg.ARCHITECTURE
    unmoved = hsg and not any(key.startswith("stats/") for key in flat)
    if unmoved:
        flat |= published_hsg.fresh_statistics(flat)
    check(source, flat, arch)
    tree = {"params": {}, "stats": {}} | traverse_util.unflatten_dict(flat, sep="/")
    numbers = "" if hsg else f"mean {mean.tolist()}, std {std.tolist()}, "
    tree |= {} if hsg else {"mean": mean, "std": std}
    try:
        meta = {"architecture": arch, "name": name or source.name}
        digest = weights.write_weights(out, tree, meta)
    except OSError as error:
        raise UserError(f"{out} cannot be written: {error}.") from error
    lines = [
        f"{out}: {arch}, {sum(array.size for array in flat.values()):,} values, "
        f"{numbers}sha256 {digest[:12]}"
    ]
    if unmoved:
        lines.append("no running statistics: fresh ones, which training moves, take their place")
    # A counter of BatchNorm's is no weight.
    left = [key for key in ignored if not key.endswith("num_batches_tracked")]
    if left:
        lines.append(f"left out ({len(left)}): {', '.join(left[:8])}{', ...' * (len(left) > 8)}")
    return lines


def recognise(
    source: pathlib.Path, arrays: Mapping[str, np.ndarray], arch: str
) -> tuple[str, dict[str, np.ndarray], list[str]]:
    """Returns (architecture, f32 arrays by their path in our tree, names left out) of a file.

    A file of a backbone and of HSG's transformers is one of a backbone, unless `arch` says.

    Raises:
        UserError: the file holds no network of a known family, or not that of `arch`.
    """
    prefix = published_hsg.prefix_of(arrays)
    if not arch and prefix is not None and published.prefix_of(arrays) is None:
        arch = published_hsg.ARCHITECTURE
    if arch != published_hsg.ARCHITECTURE:
        flat, ignored = to_ours(source, arrays)
        return arch or detect(source, flat), flat, ignored
    if prefix is None:
        raise UserError(
            f"{source} holds nothing under the names of HSG's release, such as "
            f"{', '.join(published_hsg.TABLES.values())}: it begins with "
            f"{', '.join(list(arrays)[:5]) or 'nothing'}."
        )
    named, outside = _below(arrays, prefix)
    flat, ignored = published_hsg.grouping_arrays(named)
    return arch, _float32(flat), outside + ignored


def to_ours(
    source: pathlib.Path, arrays: Mapping[str, np.ndarray]
) -> tuple[dict[str, np.ndarray], list[str]]:
    """Returns (f32 arrays by their path in our tree, names left out) of the backbone in a file.

    Raises:
        UserError: the file holds no network of a known family.
    """
    prefix = published.prefix_of(arrays)
    if prefix is None:
        raise UserError(
            f"{source} holds no Vision Transformer or ResNet under names that are known: it begins "
            f"with {', '.join(list(arrays)[:5]) or 'nothing'}. Known are DINO, DINOv2, DINOv3, timm"
            " and Hugging Face ViTs, torchvision's and MoCo's ResNets, and HSG's transformers."
        )
    named, outside = _below(arrays, prefix)
    family = published.resnet_arrays if "bn1.running_mean" in named else published.vit_arrays
    try:
        found, ignored = family(named)
    except (ValueError, IndexError) as error:
        raise UserError(
            f"{source} has known names on arrays of shapes that no network has: {error}."
        ) from error
    return _float32(found), outside + ignored


def _below(
    arrays: Mapping[str, np.ndarray], prefix: str
) -> tuple[dict[str, np.ndarray], list[str]]:
    """Returns (arrays whose names begin with `prefix`, without it; the names of the others)."""
    named = {key.removeprefix(prefix): arrays[key] for key in arrays if key.startswith(prefix)}
    return named, [key for key in arrays if not key.startswith(prefix)]


def _float32(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {key: np.asarray(arrays[key], np.float32) for key in arrays}


def check(source: pathlib.Path, flat: Mapping[str, np.ndarray], arch: str) -> None:
    """Raises UserError if the arrays are not those of the architecture, or not all finite."""
    hsg = arch == published_hsg.ARCHITECTURE
    expected = published_hsg.expected_shapes(_shapes(flat)) if hsg else expected_shapes(arch)
    if lines := weights.differences(expected, _shapes(flat)):
        raise UserError(
            f"{source} is not of the architecture {arch} (names are those of our weights file). "
            + " ".join(lines)
            + " Give its own --arch, or leave --arch out to have it found."
        )
    broken = [key for key, array in flat.items() if not np.isfinite(array).all()]
    if broken:
        raise UserError(f"{source}: {broken[0]} has values that are not finite; get it again.")


def detect(source: pathlib.Path, flat: Mapping[str, np.ndarray]) -> str:
    """Returns the architecture whose arrays these are.

    Raises:
        UserError: there is none.
    """
    shapes = _shapes(flat)
    norm = shapes.get("params/norm/scale")
    for arch in backbones.ARCHITECTURES:
        backbone = backbones.Backbone(arch)
        # Tracing the large ones takes a second each; the last norm rules most of them out.
        near = norm == (None if isinstance(backbone.module, ResNet) else (backbone.width,))
        if near and not weights.differences(expected_shapes(arch), shapes):
            return arch
    raise UserError(
        f"{source} has the shapes of none of {', '.join(backbones.ARCHITECTURES)}; give the "
        "nearest as --arch to see what differs."
    )


def expected_shapes(arch: str) -> dict[str, tuple[int, ...]]:
    """Returns the shapes of a backbone's parameters and statistics, by their path."""
    tree = jax.eval_shape(backbones.Backbone(arch).init, jax.random.key(0))
    return weights.shapes({"params": tree["params"], "stats": tree["stats"]})


def _shapes(flat: Mapping[str, np.ndarray]) -> dict[str, tuple[int, ...]]:
    return {key: array.shape for key, array in flat.items()}
