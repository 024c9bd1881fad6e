"""Run by `onnx_environment` with the python of an environment that has jax2onnx.

python -m jaxseg.commands.to_onnx BUNDLE OUT SAID HEIGHT WIDTH LEVELS
"""

import json
import pathlib
import sys
from importlib import metadata
from typing import Any

import jax
import jax2onnx
import numpy as np
import onnx
import onnxruntime

from jaxseg.core import UserError
from jaxseg.portable import Portable, Size, check_apart, compare
from jaxseg.trained import Trained

_CONVERTER = metadata.version("jax2onnx")
_OPSET = 21
_BATCHES = (1, 3)  # that are compared: the number of images is free


def main(bundle: str, out: str, said: str, height: str, width: str, levels: str) -> None:
    """Writes the ONNX file OUT, and to SAID, as JSON, what there is to say of it."""
    portable = Portable(Trained.load(bundle), levels == "1")
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

    def outputs(image: jax.Array) -> tuple[jax.Array, ...]:
        found = portable(image)
        return tuple(found[name] for name in names)

    elsewhere = "take it elsewhere as --format=stablehlo"
    (batch,) = jax.export.symbolic_shape("b")
    try:
        model = jax2onnx.to_onnx(
            outputs, [portable.images(batch, size)], model_name=f"jaxseg {name}", opset=_OPSET,
            input_names=["image"], output_names=names,
        )  # fmt: skip
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
    facts = portable.describe(portable.images(batch, size))
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


def _apart(
    portable: Portable, session: onnxruntime.InferenceSession, names: list[str], images: np.ndarray
) -> dict[str, float]:
    found = dict(zip(names, session.run(names, {"image": images}), strict=True))
    return compare(found, jax.device_get(jax.jit(portable)(images)))


if __name__ == "__main__":
    main(*sys.argv[1:])
