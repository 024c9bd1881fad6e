"""A trained model with all that it takes to name pixels: from a work directory, or from one file.

The file, a bundle, is safetensors: arrays are named "params/...", "extra/...", "frozen/..." (the
trees of `State`) and "fitted/..." (the probe's), and the metadata's "model" is the JSON of `meta`.
"""

import dataclasses
import functools
import json
import pathlib
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from jaxseg import build
from jaxseg.checkpoint import latest_step
from jaxseg.cluster_names import given_names
from jaxseg.core import Method, PyTree, State, UserError
from jaxseg.evaluation.probes import PROBES, Argmax, Cluster
from jaxseg.models.array_file import digest, read_arrays, write_arrays
from jaxseg.pretrained import Weights
from jaxseg.record import Result, load_results
from jaxseg.report.figures import cluster_classes, palette
from jaxseg.sections import DataSection, EvalSection, call, divide
from jaxseg.views.geometry import EvalView
from jaxseg.workdir import read_state

FORMAT = "jaxseg-model-1"
_TREES = ("params", "extra", "frozen")
_PLACES = ("tokens", "regions")  # fields of `data` that say where things lie on a machine
_AGAIN = "give the run's config again with --mode=evaluate"


@dataclasses.dataclass(frozen=True)
class Trained:
    """A method in its final state, and the probe and the names of one entry of `evals`.

    Attributes:
        method, state: `state.opt_state` is empty.
        probe: what makes scores of outputs; fitted: what it was fitted to, by name.
        names: of the K clusters: as they were given (`cluster_names`), or the class that each was
            matched with, or "cluster 3".
        colours: u8[K 3], those of the report.
        view: the geometry of the images that were scored.
        section: of the entry of `evals`; that of a model which was never scored has the defaults.
        data: what the images of training were.
        meta: what there is to know beside the arrays, as JSON holds it.
    """

    method: Method
    state: State
    probe: Argmax | Cluster
    fitted: dict[str, np.ndarray]
    names: tuple[str, ...]
    colours: np.ndarray
    view: EvalView
    section: EvalSection
    data: DataSection
    meta: dict[str, Any]

    @classmethod
    def load(cls, path: pathlib.Path | str, entry: str = "") -> "Trained":
        """Reads a work directory or a bundle.

        Args:
            path: of either.
            entry: of `evals`, which one names the pixels; "" = the first that scores clusters of
                the trained model unrefined, with the method's own scores before those of a probe.

        Raises:
            UserError: there is neither; the run is not trained, or was not evaluated with what a
                segmentation needs; there is no such entry; frozen weights are missing.
        """
        path = pathlib.Path(path)
        if path.is_dir():
            return _from_workdir(path, entry)
        remedy = "give a run's work directory, or a file of python -m jaxseg.bundle WORKDIR"
        arrays, meta = read_arrays(path, FORMAT, "bundle", remedy)
        found = _assemble(arrays, json.loads(meta["model"]))
        if entry and entry != found.meta["entry_name"]:
            raise UserError(
                f"The bundle {path} holds the entry {found.meta['entry_name']!r} of evals, not "
                f"{entry!r}; bundle the run's work directory again with --entry={entry}."
            )
        return found

    def save(self, path: pathlib.Path) -> str:
        """Writes a bundle, atomically, and returns its sha256."""
        return write_arrays(path, self._arrays, self._text, FORMAT)

    @functools.cached_property
    def sha256(self) -> str:
        """Stands for what the model computes; that of a work directory is that of its bundle."""
        return digest(self._arrays, self._text | {"format": FORMAT})

    @functools.cached_property
    def clusters(self) -> str:
        """Stands for the clusters, whatever they are called: the sha256 of the arrays."""
        return digest(self._arrays, {})

    @property
    def _arrays(self) -> dict[str, np.ndarray]:
        trees = {name: getattr(self.state, name) for name in _TREES}
        return _flatten(trees | {"fitted": self.fitted})

    @property
    def _text(self) -> dict[str, str]:
        return {"model": json.dumps(self.meta, sort_keys=True)}


def _flatten(trees: Mapping[str, PyTree]) -> dict[str, np.ndarray]:
    """Returns arrays by their path, "params/net/kernel"."""
    leaves = jax.tree_util.tree_leaves_with_path(jax.device_get(trees))
    return {_path(path): np.asarray(leaf) for path, leaf in leaves}


def _path(path: Any) -> str:
    return jax.tree_util.keystr(path, simple=True, separator="/")


def _from_workdir(workdir: pathlib.Path, entry: str) -> Trained:
    config = workdir / "config.json"
    if not config.is_file() or latest_step(workdir / "final") is None:
        raise UserError(
            f"{workdir} holds no trained run (config.json and final/); give the --workdir of a run "
            "that has ended."
        )
    sections = json.loads(config.read_text())
    method_section = dict(sections["method"])
    weights: dict[str, tuple[str, str]] = {}
    for field in build.WEIGHTS:
        # What learned from there on is in the checkpoint; only a frozen part is read again.
        named = method_section.pop(field, ""), method_section.pop(f"{field}_sha256", "")
        if named[0]:
            weights[field] = named
    method, data = _method_and_data(method_section, sections["data"])
    state = read_state(_abstract(method, data), workdir / "final")
    if state.frozen:
        state = state.replace(frozen=_frozen(workdir, method, data, state, weights))
    result = _chosen(workdir, entry)
    meta: dict[str, Any] = {
        "step": int(state.step),
        "method": method_section,
        "data": {k: v for k, v in _own(sections["data"]).items() if k not in _PLACES},
        "entry_name": result.name if result else "",
        "entry": result.protocol["entry"] if result else {},
        "view": result.protocol["view"] if result else None,
        **_named(result),
    }
    fitted = result.fitted if result else {}
    trees = {name: getattr(state, name) for name in _TREES} | {"fitted": fitted}
    arrays = _flatten(trees)
    if given := given_names(workdir, meta["entry_name"], lambda: digest(arrays, {})):
        meta["names"] = given
    return _assemble(arrays, meta)


def _method_and_data(
    method: Mapping[str, Any], data: Mapping[str, Any]
) -> tuple[Method, DataSection]:
    section = call("data", DataSection, as_tuples(_own(data)))
    return build.make_method(as_tuples(dict(method))), section


def _own(data: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the fields that every data set has; the others may name folders of a machine."""
    return divide(data, DataSection)[0]


def as_tuples(value: Any) -> Any:
    """Returns what JSON has made of a config with lists as tuples, as they were."""
    if isinstance(value, dict):
        return {key: as_tuples(item) for key, item in value.items()}
    return tuple(map(as_tuples, value)) if isinstance(value, list) else value


def _abstract(method: Method, data: DataSection) -> State:
    """Returns the abstract state of a method, as its run drew it."""
    spec = build.batch_spec(data)
    return jax.eval_shape(lambda key: method.init(key, spec), jax.random.key(0))


def _frozen(
    workdir: pathlib.Path,
    method: Method,
    data: DataSection,
    like: State,
    named: Mapping[str, tuple[str, str]],
) -> PyTree:
    """Returns the frozen part of a run's state, from its weights files or from its seed.

    `named` are the paths of the files and the hashes of their arrays, by field of the config.
    """
    files = {field: name for field, name in named.items() if build.WEIGHTS[field] in like.frozen}
    if not files:
        seed = json.loads((workdir / "config.json").read_text())["train"].get("seed", 0)
        # As the run draws it.
        key = jax.random.fold_in(jax.random.key(seed), 3)
        return jax.jit(lambda key: method.init(key, build.batch_spec(data)))(key).frozen
    for field, (path, sha256) in files.items():
        file = _weights_file(workdir, path, sha256)
        read = Weights.read(field, str(file), like)
        if read.sha256 != sha256:
            raise UserError(
                f"{file} holds other weights (sha256 {read.sha256[:12]}) than the run {workdir} "
                f"was trained with ({sha256[:12]}); give it those."
            )
        like = read.put(like)
    return like.frozen


def _weights_file(workdir: pathlib.Path, path: str, sha256: str) -> pathlib.Path:
    """Returns where a weights file is: where the config says, or in the work directory."""
    places = [pathlib.Path(path), workdir / pathlib.Path(path).name]
    for place in places:
        if place.is_file():
            return place
    raise UserError(
        f"{workdir} needs the weights of its frozen backbone, and neither {places[0]} nor "
        f"{places[1]} is there. Copy the file (sha256 of its arrays: {sha256[:12]}) to the "
        "latter; or, where both are, make one file: python -m jaxseg.bundle WORKDIR --out=FILE"
    )


def _chosen(workdir: pathlib.Path, entry: str) -> Result | None:
    """Returns the evaluation whose clusters name the pixels; None where there was none."""
    results = [
        result
        for result in load_results(workdir / "evaluation")
        if result.kind == "clusters"
        and result.protocol.get("model") == "trained"
        and result.protocol["refine"] == "none"
    ]
    by_name = {result.name: result for result in results}
    if entry and entry not in by_name:
        raise UserError(
            f"{workdir} has no evaluation {entry!r} of clusters of its trained model, unrefined; "
            f"it has {', '.join(sorted(by_name)) or 'none'}. To have it, {_AGAIN}."
        )

    def rank(result: Result) -> tuple[bool, bool]:
        own = result.protocol["probe"].startswith(Argmax.__name__)
        return result.supervised, not own

    result = by_name[entry] if entry else min(results, key=rank, default=None)
    if result is not None and "entry" not in result.protocol:
        raise UserError(
            f"{workdir} was evaluated before evaluations kept their probe and geometry, which "
            f"naming pixels needs; {_AGAIN}."
        )
    return result


def _named(result: Result | None) -> dict[str, Any]:
    """Returns what the clusters are called, and their colours, as far as an evaluation knows."""
    if result is None:
        return {"names": None, "colours": None}
    chosen = cluster_classes(result)
    colours = palette(int(max(chosen.max(initial=0) + 1, len(result.classes))))[chosen]
    match = np.full(len(chosen), -1) if result.match is None else result.match
    names = [result.classes[c] if c >= 0 else f"cluster {k}" for k, c in enumerate(match)]
    return {"names": names, "colours": colours.tolist()}


def _assemble(arrays: Mapping[str, np.ndarray], meta: dict[str, Any]) -> Trained:
    """Returns the model that arrays by path and metadata describe."""
    method, data = _method_and_data(meta["method"], meta["data"])
    like = _abstract(method, data)
    state = State(
        step=np.int32(meta["step"]),  # type: ignore[arg-type]
        **{name: _filled(getattr(like, name), name, arrays) for name in _TREES},
    )
    fitted = {
        name.removeprefix("fitted/"): array
        for name, array in arrays.items()
        if name.startswith("fitted/")
    }
    own, rest = divide(as_tuples(meta["entry"]), EvalSection)
    section = call("evals", EvalSection, own)
    probe = call("evals", PROBES[section.probe], rest)
    names, colours = meta["names"], meta["colours"]
    if colours is None:
        colours = palette(_clusters(method, like, data))
        names = names or [f"cluster {k}" for k in range(len(colours))]
    view = build.make_eval_view(data) if meta["view"] is None else EvalView(**meta["view"])
    return Trained(
        method, state, probe, fitted, tuple(names), np.asarray(colours, np.uint8), view, section,
        data, meta,
    )  # fmt: skip


def _filled(like: PyTree, name: str, arrays: Mapping[str, np.ndarray]) -> PyTree:
    return jax.tree_util.tree_map_with_path(lambda p, _: arrays[f"{name}/{_path(p)}"], like)


def _clusters(method: Method, like: State, data: DataSection) -> int:
    """Returns K of a method's own scores; raises UserError for one that has none."""
    image = jax.ShapeDtypeStruct((1, data.crop, data.crop, data.channels), np.uint8)
    logits = jax.eval_shape(method.predict, like, image).logits
    if logits is None:
        raise UserError(
            f"{type(method).__name__} has no names for pixels of its own; they are those of k-means"
            " on its features, an entry of evals with probe='cluster' (as in the configs that "
            f"score it). Add one and {_AGAIN}."
        )
    return int(logits.shape[-1])
