"""Run by `onnx_environment` with the python of an environment that has jax2onnx.

python -m jaxseg.commands.to_onnx BUNDLE OUT SAID HEIGHT WIDTH
"""

import hashlib
import json
import pathlib
import sys
from collections.abc import Callable
from importlib import metadata
from typing import Any

import jax
import jax2onnx
import numpy as np
import onnx
import onnxruntime
from jax import export
from jax.extend import core
from jax.interpreters import partial_eval

from jaxseg.core import UserError
from jaxseg.portable import Portable, Size, check_apart, compare
from jaxseg.trained import Trained

_CONVERTER = metadata.version("jax2onnx")
_OPSET = 21
_BATCHES = (1, 3)  # that are compared: the number of images is free


def main(bundle: str, out: str, said: str, height: str, width: str) -> None:
    """Writes the ONNX file OUT, and to SAID, as JSON, what there is to say of it."""
    portable = Portable(Trained.load(bundle))
    path, size = pathlib.Path(out), (int(height), int(width))
    try:
        facts = convert(portable, path, size)
    except UserError as error:
        facts = {"error": str(error)}
    pathlib.Path(said).write_text(json.dumps(facts, default=list))


def convert(portable: Portable, out: pathlib.Path, size: Size) -> dict[str, Any]:
    """Writes the file; returns what is to be said of it.

    Raises:
        UserError: jax2onnx cannot convert the model, or what it writes does not run or says
            something else than the model.
    """
    name = type(portable.trained.method).__name__
    names = sorted(jax.eval_shape(portable, portable.images(1, size)))
    (batch,) = export.symbolic_shape("b")
    images = portable.images(batch, size)
    elsewhere = "take it elsewhere as --format=stablehlo"
    try:
        model = jax2onnx.to_onnx(
            _traced(portable, images, names), [images], model_name=f"jaxseg {name}", opset=_OPSET,
            input_names=["image"], output_names=names,
        )  # fmt: skip
        flatten_pools(model.graph)
        share_constants(model.graph)
        content = model.SerializeToString()
        session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
        apart = [_apart(portable, session, names, portable.sample(size, n)) for n in _BATCHES]
    # jax2onnx and onnxruntime raise a dozen kinds for what they do not know.
    except Exception as error:
        raise UserError(
            f"jax2onnx {_CONVERTER} cannot convert {name} ({type(error).__name__}: "
            f"{str(error).strip()[:600]}); {elsewhere}."
        ) from error
    worst = {name: max(one[name] for one in apart) for name in apart[0]}
    check_apart(worst, elsewhere)
    out.write_bytes(content)
    facts = portable.describe(images)
    facts["versions"] |= {
        "jax2onnx": _CONVERTER, "onnx": onnx.__version__, "opset": _OPSET,
        "onnxruntime": onnxruntime.__version__,
    }  # fmt: skip
    return facts | {
        "kind": "ONNX",
        "fixed_size": "jax2onnx is given one; images may be any number",
        "compared": worst,
        "example": (1, *size, portable.trained.data.channels),
    }


def _traced(
    portable: Portable, images: jax.ShapeDtypeStruct, names: list[str]
) -> Callable[[jax.Array], list[jax.Array]]:
    """Returns the function as its trace: the outputs of those names, and what they need alone.

    jax2onnx knows the primitives of a trace better than the layers that made it.
    """

    def outputs(image: jax.Array) -> list[jax.Array]:
        found = portable(image)
        return [found[name] for name in names]

    closed = jax.make_jaxpr(outputs)(images)
    needed, _ = partial_eval.dce_jaxpr(closed.jaxpr, [True] * len(names), instantiate=True)
    return core.jaxpr_as_fun(core.ClosedJaxpr(needed, closed.consts))


def flatten_pools(graph: onnx.GraphProto) -> None:
    """Makes max-poolings of rows and columns out of those of images [B H W C] as a whole.

    jax2onnx writes the latter, Unsqueeze, Unsqueeze, MaxPool of four dimensions and Squeeze;
    onnxruntime has none above three.
    """
    made = {output: node for node in graph.node for output in node.output}
    for pool in [node for node in graph.node if node.op_type == "MaxPool"]:
        fields = {field.name: list(field.ints) for field in pool.attribute}
        kernel = fields["kernel_shape"]
        if len(kernel) != 4 or (kernel[0], kernel[3]) != (1, 1):
            continue
        outer = made[pool.input[0]]
        inner = made[outer.input[0]]
        (after,) = (node for node in graph.node if pool.output[0] in node.input)
        first, last = f"{pool.name}_channels_first", f"{pool.name}_pooled"
        pads = fields.pop("pads", [0] * 8)
        flat = {name: values[1:3] for name, values in fields.items() if len(values) == 4}
        make = onnx.helper.make_node
        new = [
            make("Transpose", [inner.input[0]], [first], perm=[0, 3, 1, 2]),
            make("MaxPool", [first], [last], pads=pads[1:3] + pads[5:7], **flat),
            make("Transpose", [last], [after.output[0]], perm=[0, 2, 3, 1]),
        ]
        nodes = list(graph.node)
        place = nodes.index(pool)
        nodes[place : place + 1] = new
        del graph.node[:]
        graph.node.extend(node for node in nodes if node not in (inner, outer, after))


def share_constants(graph: onnx.GraphProto) -> None:
    """Keeps one of equal constants, and none that nothing reads.

    A network that sees images and their mirror images would have its weights twice.
    """
    first: dict[bytes, str] = {}
    same = {}
    for one in graph.initializer:
        name, one.name = one.name, ""
        same[name] = first.setdefault(hashlib.sha256(one.SerializeToString()).digest(), name)
        one.name = name
    used = _rename(graph, same) | {output.name for output in graph.output}
    kept = [one for one in graph.initializer if one.name in used]
    del graph.initializer[:]
    graph.initializer.extend(kept)


def _rename(graph: onnx.GraphProto, names: dict[str, str]) -> set[str]:
    """Gives what nodes read other names, in graphs inside this one too; returns what they read."""
    used = set()
    for node in graph.node:
        renamed = [names.get(name, name) for name in node.input]
        del node.input[:]
        node.input.extend(renamed)
        used.update(renamed)
        for field in node.attribute:
            for inner in (field.g, *field.graphs):
                used |= _rename(inner, names)
                used.update(output.name for output in inner.output)
    return used


def _apart(
    portable: Portable, session: onnxruntime.InferenceSession, names: list[str], images: np.ndarray
) -> dict[str, float]:
    found = dict(zip(names, session.run(names, {"image": images}), strict=True))
    return compare(found, jax.device_get(jax.jit(portable)(images)))


if __name__ == "__main__":
    main(*sys.argv[1:])
