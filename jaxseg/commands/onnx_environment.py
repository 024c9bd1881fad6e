"""ONNX, written in an environment of its own.

jax2onnx holds Orbax below the version that jaxseg is tested with, so that the two do not share an
environment. This module starts the other environment's python on `to_onnx`, with a bundle of the
model and with this package on its path.
"""

import json
import os
import pathlib
import subprocess
import tempfile
from typing import Any

import jaxseg
from jaxseg.core import UserError
from jaxseg.portable import Portable, Size

VARIABLE = "JAXSEG_ONNX_PYTHON"
REQUIREMENTS = pathlib.Path(__file__).with_name("onnx_requirements.txt")
_HOW = f"""\
python3 -m venv onnxenv
onnxenv/bin/pip install -r {{requirements}}
export {VARIABLE}=onnxenv/bin/python"""

_CALL = """\
import numpy as np
import onnxruntime

model = onnxruntime.InferenceSession({name!r}, providers=["CPUExecutionProvider"])
images = np.zeros({shape}, np.uint8)
found = dict(zip([x.name for x in model.get_outputs()], model.run(None, {{"image": images}})))
labels, scores = found["labels"], found["scores"]
"""


def how_to_make() -> str:
    """Returns the commands that make the environment."""
    return _HOW.format(requirements=os.path.relpath(REQUIREMENTS))


def convert(portable: Portable, out: pathlib.Path, size: Size, python: str) -> dict[str, Any]:
    """Writes an ONNX file; returns what the JSON beside it is to say.

    Raises:
        UserError: there is no such python, it lacks packages, or the conversion fails.
    """
    if not python:
        raise UserError(
            f"ONNX is written in a Python environment of its own. Make it once:\n\n{how_to_make()}"
            f"\n\nThen give the same command again (--python names another python than {VARIABLE})."
        )
    with tempfile.TemporaryDirectory() as folder:
        bundle, said = pathlib.Path(folder, "model.safetensors"), pathlib.Path(folder, "said.json")
        portable.trained.save(bundle)
        given = bundle, out.absolute(), said, *size
        words = [python, "-m", "jaxseg.commands.to_onnx", *map(str, given)]
        root = pathlib.Path(jaxseg.__file__).parents[1]
        environment = os.environ | {"PYTHONPATH": str(root), "JAX_PLATFORMS": "cpu"}
        try:
            done = subprocess.run(words, env=environment, capture_output=True, text=True)
        except OSError as error:
            raise UserError(f"--python: {python} cannot be started: {error}.") from error
        if not said.is_file():
            tail = "\n".join((done.stdout + done.stderr).strip().splitlines()[-15:])
            raise UserError(
                f"{python} could not convert the model (exit status {done.returncode}):\n{tail}\n"
                f"If it lacks packages, make it anew:\n{how_to_make()}"
            )
        facts = json.loads(said.read_text())
    if "error" in facts:
        raise UserError(facts["error"])
    return facts | {"call": _CALL.format(name=out.name, shape=tuple(facts["example"]))}
