"""Work directories of runs that were never trained: networks as drawn, and what a test says of
them."""

import dataclasses
import json

import jax
import numpy as np

from jaxseg import build
from jaxseg.checkpoint import Checkpoints
from jaxseg.record import Result, Samples, save_result
from jaxseg.sections import DataSection
from jaxseg.views.geometry import EvalView

INFOSEG = {
    "name": "infoseg", "clusters": 3, "features": 8, "patch_widths": (4,) * 5,
    "global_widths": (4,) * 3, "negatives": 1,
}  # fmt: skip
SEGSORT = {"name": "segsort", "backbone": "resnet_tiny", "dim": 4, "test_grid": (2, 2), "rounds": 2}
SMOOSEG = {"name": "smooseg", "clusters": 3, "backbone": "vit_test", "dim": 4}
DATA = {"name": "folder", "batch_size": 4, "crop": 32, "test_pad_multiple": 16}
OWN = {"model": "trained", "probe": "argmax", "source": "logits", "upsample": "bilinear"}
KMEANS = {**OWN, "probe": "cluster", "source": "features", "clusters": 3, "metric": "spherical"}
CLASSES = ("sky", "road")


def make_run(workdir, method, entry=None, resize=0, **evaluation):
    """Writes a work directory; returns the state.

    `entry` of evals was evaluated, with `evaluation`: fields of its result that differ. Cluster 0
    stands for the class 1, cluster 2 for class 0, and cluster 1 for none.
    """
    workdir.mkdir(parents=True, exist_ok=True)
    sections = {"method": dict(method), "data": DATA, "optim": {}, "train": {"seed": 0, "steps": 1}}
    (workdir / "config.json").write_text(json.dumps(sections | {"evals": {}}))
    section = {k: v for k, v in method.items() if not k.startswith("weights")}
    spec = build.batch_spec(DataSection(**DATA))
    key = jax.random.fold_in(jax.random.key(0), 3)
    state = jax.jit(lambda key: build.make_method(section).init(key, spec))(key)
    checkpoints = Checkpoints(workdir / "final", keep=1)
    checkpoints.save(state.replace(step=jax.numpy.int32(7)))
    checkpoints.close()
    if entry:
        result = Result(
            "scored", {"clusters": 3.0}, np.ones(3, np.int64), CLASSES, Samples([], None, []),
            match=np.array([1, -1, 0]), counts=np.zeros((3, 2), np.int64),
        )  # fmt: skip
        view = EvalView(resize=resize, pad_multiple=16)
        protocol = {
            "model": "trained", "refine": "none", "probe": "Argmax()",
            "entry": entry, "view": dataclasses.asdict(view),
        }  # fmt: skip
        result = dataclasses.replace(result, **{"protocol": protocol} | evaluation)
        save_result(workdir / "evaluation", result, result.protocol)
    return state
