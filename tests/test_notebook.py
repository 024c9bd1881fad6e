"""The notebook runs from top to bottom, and shows what its text says."""

import base64
import io
import os
import pathlib
import re

import nbformat
import numpy as np
import pytest
from nbclient import NotebookClient
from PIL import Image

ROOT = pathlib.Path(__file__).parents[1]


@pytest.mark.slow
def test_explore(tmp_path):
    path = ROOT / "notebooks" / "explore.ipynb"
    notebook = nbformat.read(path, as_version=4)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert not any(cell.outputs or cell.execution_count for cell in code), "keep it without outputs"
    environment = os.environ | {
        "XLA_FLAGS": os.environ["XLA_FLAGS"] + " --xla_force_host_platform_device_count=1",
        "IPYTHONDIR": str(tmp_path),
        "JUPYTER_RUNTIME_DIR": str(tmp_path),
    }
    client = NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(ROOT)}})
    client.execute(env=environment)  # an error in a cell is one here
    outputs = [output for cell in code for output in cell.outputs]
    pictures = [o.data["image/png"] for o in outputs if "image/png" in o.get("data", {})]
    for number, picture in enumerate(pictures):
        data = base64.b64decode(picture)
        assert np.asarray(Image.open(io.BytesIO(data)).convert("RGB")).std() > 10
        if folder := os.environ.get("JAXSEG_PICTURES"):
            (pathlib.Path(folder) / f"explore{number}.png").write_bytes(data)
    assert len(pictures) == 4
    text = "".join(o.get("text", "") + str(o.get("data", {}).get("text/plain")) for o in outputs)
    assert "HSG on scenes: 8 training and 8 test images, 3 steps of 2 images" in text
    assert {"L_f_E", "L_f_1", "L_f_2", "segments"} <= set(re.findall(r"'(\w+)'", text))
    assert text.count("traced: float32[1,2,8,8,8]") == 1
    assert len(re.findall(r"features \(1, 2, 8, 8, 8\) of length (0\.9999|1)", text)) == 1
    jitted, slow = map(float, re.search(r"jitted (\S+) and not (\S+)", text).groups())
    assert jitted == pytest.approx(slow, rel=1e-3)
