"""python -m jaxseg.export WORKDIR --format=stablehlo|onnx --out=FILE

Writes a trained run as one file that runs where jaxseg is not: StableHLO, which jax and NumPy
alone call, or ONNX. Weights and the fitted probe are in it: images u8[B H W 3] give labels, scores
and features. FILE.json beside it says inputs, outputs, names, versions and how to call it. The
file is read again and compared with the run before the command ends.

ONNX is written by jax2onnx in a Python environment of its own, for it wants other versions than
jaxseg; --python or JAXSEG_ONNX_PYTHON names that environment's python.
"""

import argparse
import json
import os
import pathlib
import sys
import textwrap
from typing import Any

import jax
from jax import export as jax_export

from jaxseg import compiled
from jaxseg.commands import onnx_environment
from jaxseg.core import UserError
from jaxseg.data.disk import new_file
from jaxseg.portable import Portable, Size, check_apart, compare
from jaxseg.record import load_results
from jaxseg.trained import Trained
from jaxseg.writer import write_atomic

FORMATS = ("stablehlo", "onnx")
PLATFORMS = ("cpu", "cuda", "rocm", "tpu")
_LARGEST = 2**31 - 2**24  # bytes: both formats count theirs in 31 bits, with some for the program

_CALL = """\
import numpy as np
from jax import export

with open({name!r}, "rb") as file:
    model = export.deserialize(bytearray(file.read()))
images = np.zeros({shape}, np.uint8)
found = model.call(images)
labels, scores = np.asarray(found["labels"]), np.asarray(found["scores"])
"""


def main(argv: list[str]) -> None:
    """Runs the command line; exits with a message for what a user can mend."""
    arguments = _parser().parse_args(argv)
    compiled.keep()
    try:
        print(export(arguments))
    except UserError as error:
        sys.exit(f"jaxseg: {error}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m jaxseg.export", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    add = parser.add_argument
    add("model", help="a run's work directory, or a bundle of it")
    add("--format", choices=FORMATS, required=True)
    add("--out", required=True, help="the file to write (.stablehlo or .onnx)")
    add("--entry", default="", help="the entry of evals that names the pixels; default: the first")
    add("--size", type=_size, help="HxW, the only size of images that the file takes, in pixels; "
        "default: all sizes where the network allows it, else that of the test crop")  # fmt: skip
    add("--levels", action="store_true", help="HSG's and SegSort's levels of groups too, at a "
        "fixed size")  # fmt: skip
    variable = onnx_environment.VARIABLE
    add("--python", default=os.environ.get(variable, ""),
        help=f"of the environment that has jax2onnx; default: {variable}")  # fmt: skip
    return parser


def _size(text: str) -> Size:
    height, _, width = text.partition("x")
    if not (height.isdigit() and width.isdigit() and int(height) and int(width)):
        raise argparse.ArgumentTypeError(f"{text!r} is no size; expected HxW, such as 360x480")
    return int(height), int(width)


def export(arguments: argparse.Namespace) -> str:
    """Writes the file and the JSON beside it, and returns lines about them.

    Raises:
        UserError: as `Trained.load`; the network does not take the size; the model is too large for
            the format; there is no environment for ONNX, or the conversion fails in it; the file
            that was written does not say what the run does.
    """
    out = pathlib.Path(arguments.out)
    if out.suffix != f".{arguments.format}" or not out.parent.is_dir():
        raise UserError(
            f"--out is {arguments.out!r}; give a file .{arguments.format} in a folder that exists."
        )
    portable = Portable(Trained.load(arguments.model, arguments.entry), arguments.levels)
    if arguments.size:
        portable.check_size(arguments.size)
    _check_room(portable, arguments.format)
    write = _write_stablehlo if arguments.format == "stablehlo" else _write_onnx
    facts = write(portable, out, arguments)
    facts["left_out"] += other_entries(arguments.model, portable.trained)
    write_atomic(_beside(out), json.dumps(facts, indent=2, default=list) + "\n")
    return _report(out, facts)


def _beside(out: pathlib.Path) -> pathlib.Path:
    return out.with_name(out.name + ".json")


def _check_room(portable: Portable, form: str) -> None:
    state = portable.trained.state
    size = sum(x.nbytes for x in jax.tree.leaves((state.params, state.extra, state.frozen)))
    if size > _LARGEST:
        raise UserError(
            f"The model has {size / 2**30:.1f} GiB of weights, and a file of {form} holds less "
            "than 2 GiB; take it elsewhere as a bundle (python -m jaxseg.bundle)."
        )


def _write_stablehlo(
    portable: Portable, out: pathlib.Path, arguments: argparse.Namespace
) -> dict[str, Any]:
    """Writes a serialized `jax.export.Exported`; returns what the JSON is to say."""
    exported, images, why = _exported(portable, arguments.size)
    content = exported.serialize()
    again = jax_export.deserialize(bytearray(content))
    size = portable.example_size(images)
    sample = portable.sample(size)
    wanted = jax.device_get(jax.jit(portable)(sample))
    apart = compare(jax.device_get(again.call(sample)), wanted)
    check_apart(apart)
    try:
        with new_file(out, len(content), "--out") as file:
            file.write(content)
    except OSError as error:
        raise UserError(f"{out} cannot be written: {error}.") from error
    shape = (1, *size, sample.shape[3])
    facts = portable.describe(images)
    facts["versions"] |= {"calling_convention": exported.calling_convention_version}
    return facts | {
        "kind": "stablehlo, serialized by jax.export",
        "platforms": list(exported.platforms),
        "fixed_size": why,
        "compared": apart,
        "call": _CALL.format(name=out.name, shape=shape),
    }


def _exported(
    portable: Portable, size: Size | None
) -> tuple[jax_export.Exported, jax.ShapeDtypeStruct, str]:
    """Returns the export, the images that it takes, and why their size is fixed; "" = it is not."""
    program = jax_export.export(jax.jit(portable), platforms=PLATFORMS)
    why = "--size was given"
    if size is None and portable.levels:
        why = "levels are found on a grid of a known size"
    elif size is None:
        for images in portable.free_images():
            try:
                return program(images), images, ""
            # Whatever stands in the way of symbolic sides, with those of a number it is not there;
            # an error of another cause comes again below.
            except Exception as error:
                why = f"its layers ask for a known one ({_first_line(error)})"
    (batch,) = jax_export.symbolic_shape("b")
    images = portable.images(batch, size or portable.default_size)
    return program(images), images, why


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error).strip().splitlines()[0][:150]}"


def _write_onnx(
    portable: Portable, out: pathlib.Path, arguments: argparse.Namespace
) -> dict[str, Any]:
    """Has the other environment write and compare the file; returns what the JSON is to say."""
    if portable.levels:
        raise UserError(
            "--levels: jax2onnx does not convert the k-means of levels for any number of images; "
            "leave it out, or take --format=stablehlo."
        )
    size = arguments.size or portable.default_size
    return onnx_environment.convert(portable, out, size, arguments.python)


def other_entries(model: str, trained: Trained) -> list[str]:
    """Returns why the other entries of a run's evals are not in the file."""
    folder = pathlib.Path(model) / "evaluation"
    lines = []
    for result in load_results(folder) if folder.is_dir() else ():
        protocol = result.protocol
        if result.name == trained.meta.get("entry_name"):
            continue
        if protocol.get("model") != "trained":
            reason = "a baseline, not the trained model"
        elif result.kind != "clusters":
            reason = f"{result.kind} names no pixels of images that are not in its data set"
        elif protocol["refine"] != "none":
            reason = f"{protocol['refine']} refines on the host"
        else:
            reason = f"another naming of the same model; --entry={result.name} exports it"
        lines.append(f"evals.{result.name}: {reason}")
    return lines


def _report(out: pathlib.Path, facts: dict[str, Any]) -> str:
    image = facts["inputs"]["image"]
    apart = ", ".join(f"{name} {value:.2g}" for name, value in facts["compared"].items())
    lines = [
        f"{out}: {out.stat().st_size / 2**20:.1f} MiB, image "
        f"{image['dtype']}[{' '.join(map(str, image['shape']))}]; {_beside(out)} says more",
        f"compared with the run on random images: {apart} (scores: of the largest; labels: share)",
    ]
    if facts["fixed_size"]:
        lines.append(f"The size is fixed: {facts['fixed_size']}.")
    lines += [f"Left out: {line}." for line in facts["left_out"]]
    return "\n".join(textwrap.fill(line, 100, subsequent_indent="  ") for line in lines)
