"""Every command and example of the README and of docs is run, or says why not.

The blocks of ```sh and ```python of a page run one after the other in a folder that holds what
`_sandbox` makes; trainings are made short by SMALL. The line before a block that is not to be run
is <!-- not run: WHY -->.
"""

import os
import pathlib
import re
import runpy
import shlex
import subprocess
import sys
from typing import Any, NamedTuple
from unittest import mock

import cv2
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxseg.core import Batch
from jaxseg.data.scenes import Scenes
from jaxseg.train import init_optimiser, make_step
from tests.runs import INFOSEG, OWN, make_run

ROOT = pathlib.Path(__file__).parents[1]
PAGES = ("README.md", *sorted(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md")))
BLOCK = re.compile(r"(?:<!-- not run: ([^>]*) -->\n)?^```(\w+)\n(.*?)^```", re.M | re.S)

# Flags that make a run of a config short.
SMALL = {
    "infoseg_folder": (
        "--config.data.resize=32", "--config.data.crop=32", "--config.data.test_resize=32",
        "--config.data.test_crop=32", "--config.data.batch_size=2", "--config.train.steps=1",
        "--config.train.samples=2", "--config.method.features=8",
        "--config.method.patch_widths=(4,4,4,4,4)", "--config.method.global_widths=(4,4,4)",
    ),
}  # fmt: skip


class Block(NamedTuple):
    reason: str  # not to run it; "" = it is run
    language: str
    text: str


def blocks(page: str) -> list[Block]:
    """Returns the blocks of code of a page in order."""
    text = (ROOT / page).read_text(encoding="utf-8")
    return [Block(*found) for found in BLOCK.findall(text)]


def runnable(page: str) -> list[Block]:
    """Returns the blocks of a page that are to be run."""
    return [block for block in blocks(page) if not block.reason]


def commands(text: str) -> list[list[str]]:
    """Returns the words of each command of a block, without comments; a backslash joins lines."""
    lines = text.replace("\\\n", " ").splitlines()
    return [words for line in lines if (words := shlex.split(line, comments=True))]


def _sandbox(folder: pathlib.Path) -> None:
    """Makes what the pages speak of: images, the configs, and finished runs."""
    scenes = Scenes("val", count=4, size=64)
    pictures = [scenes[index].image[..., ::-1] for index in range(len(scenes))]
    for place in ("DIR", "photos", "more"):
        (folder / place).mkdir()
        for index, picture in enumerate(pictures):
            cv2.imwrite(str(folder / place / f"{index}.jpg"), picture)
    cv2.imwrite(str(folder / "DIR" / "0_label.png"), (scenes[0].label["class"] > 2).astype("uint8"))
    for name in ("photo.jpg", "street.jpg", "more/a.tif"):
        cv2.imwrite(str(folder / name), pictures[0])
    (folder / "configs").symlink_to(ROOT / "configs")
    for name in ("demo", "infoseg_camvid"):
        make_run(folder / "runs" / name, INFOSEG, OWN)


def _run(words: list[str]) -> None:
    """Runs `python -m jaxseg.X ...`; raises where it fails."""
    assert words[1] == "-m", f"{words} is not run; say why on the page"
    assert words[0] in ("python", ".venv/bin/python")
    _, _, module, *flags = words
    if module == "jaxseg.main":  # its flags are those of a whole process
        (config,) = (word for word in words if word.startswith("--config="))
        command = [sys.executable, "-m", module, *flags, *SMALL[pathlib.Path(config).stem]]
        xla = f"{os.environ['XLA_FLAGS']} --xla_force_host_platform_device_count=1"
        subprocess.run(command, env=os.environ | {"XLA_FLAGS": xla}, check=True, timeout=600)
        return
    with mock.patch.object(sys, "argv", [module, *flags]):
        status = None
        try:
            runpy.run_module(module, run_name="__main__", alter_sys=True)
        except SystemExit as ended:
            status = ended.code
    assert not status, f"{words} ended with {status}"


@pytest.mark.slow
@pytest.mark.parametrize("page", [page for page in PAGES if runnable(page)])
def test_every_command_and_example_of_a_page_ends_well(page, tmp_path, monkeypatch):
    shown = runnable(page)
    assert {block.language for block in shown} <= {"python", "sh"}
    _sandbox(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    known: dict[str, object] = {"__name__": "page"}
    for block in shown:
        if block.language == "python":
            exec(compile(block.text, page, "exec"), known)
        else:
            for words in commands(block.text):
                _run(words)


def test_the_method_of_the_page_on_extending_learns():
    (example,) = (block for block in runnable("docs/extending.md") if block.language == "python")
    known: dict[str, Any] = {"__name__": "page"}
    exec(compile(example.text, "docs/extending.md", "exec"), known)
    method = known["Tints"](clusters=3)
    image = np.random.default_rng(0).integers(0, 256, (2, 1, 8, 8, 3), np.uint8)
    batch = Batch(
        index=jnp.arange(2), seed=jnp.arange(2, dtype=jnp.uint32), image=jnp.asarray(image),
        size=jnp.full((2, 1, 2), 8),
    )  # fmt: skip
    transforms = {"tints": optax.adam(0.02)}
    state = init_optimiser(method.init(jax.random.key(0), batch), transforms)
    step = jax.jit(make_step(method, transforms, jax.random.key(1)))
    losses = []
    for _ in range(30):
        state, metrics = step(state, batch)
        losses.append(float(metrics["loss"]))
    assert losses[-1] < 0.9 * losses[0]
    assert method.predict(state, batch.first_view).logits.shape == (2, 8, 8, 3)


def test_what_is_not_run_says_why():
    reasons = [block.reason for page in PAGES for block in blocks(page) if block.reason]
    assert reasons
    assert all(len(reason) > 10 for reason in reasons)
