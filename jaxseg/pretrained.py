"""Networks that come with weights: read from a file, and their features kept on disk."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from jaxseg.build import WEIGHTS, Data
from jaxseg.clustering.neighbours import partners
from jaxseg.core import Method, State, UserError
from jaxseg.data.fingerprint import of_arrays, of_features
from jaxseg.data.token_build import build_tokens, mean_features
from jaxseg.models.weights import describe, load_into, read_weights
from jaxseg.processes import fetch

_ENCODED = 16  # images whose features each device computes at once, to be kept


@dataclasses.dataclass(frozen=True)
class Weights:
    """The weights of a part of a method's network, from a file of `jaxseg.convert`.

    Attributes:
        part: a value of `build.WEIGHTS`; place: of the state, "frozen" or "params".
        tree: of NumPy arrays.
        sha256: over the arrays.
        name: what they are, as the file says; line: what was loaded, for people.
    """

    part: str
    place: str
    tree: dict
    sha256: str
    name: str
    line: str

    @classmethod
    def read(cls, field: str, path: str, shapes: State) -> "Weights":
        """Reads the file of a key of `build.WEIGHTS` for states like `shapes`, abstract or not.

        Raises:
            UserError: the method has no such part; or the file is missing, damaged or of another
                architecture.
        """
        part = WEIGHTS[field]
        for place in ("frozen", "params"):
            if part in (holder := getattr(shapes, place)):
                tree = holder[part]
                if place == "params":
                    # What learns has what the optimiser does not move in `extra`.
                    rest = shapes.extra[part]
                    tree = {"params": tree} | (rest if part == "backbone" else {"stats": rest})
                if part == "grouping":
                    tree = _levels_of(tree, path)
                tree, meta = load_into(tree, path, part=part)
                line = describe(path, tree, meta)
                return cls(part, place, tree, of_arrays(tree), meta["name"], line)
        raise UserError(
            f"method.{field} is {path!r}, but the method has no {part}; leave it empty."
        )

    def put(self, state: State) -> State:
        """Returns the state with these weights in their part."""
        if self.place == "frozen":
            return state.replace(frozen=state.frozen | {self.part: self.tree})
        rest = {k: v for k, v in self.tree.items() if k != "params"}
        if self.part == "grouping":
            rest = rest["stats"]
        return state.replace(
            params=state.params | {self.part: state.params[self.part] | self.tree["params"]},
            extra=state.extra | {self.part: state.extra[self.part] | rest},
        )


def _levels_of(tree: dict, path: str) -> dict:
    """Returns what of the tree of HSG's grouping a weights file is for: all, or level 0 alone."""
    if read_weights(path)[0]["params"].keys() != {"level_0"}:
        return tree
    return {kind: {"level_0": levels.get("level_0", {})} for kind, levels in tree.items()}


def keep_features(data: Data, method: Method, state: State) -> Data:
    """Returns the data with what the section asks of frozen features: a cache, and partners.

    Features that are in the cache already, of the same weights, network, images and geometry, are
    not computed again, whichever method and batch size they were computed for. Of several processes
    each computes for itself what it does not find, on its own devices: those that share the folder
    wait for the one that came first.

    Raises:
        UserError: the method has no frozen features, the training views are drawn at random, or the
            cache cannot be written.
    """
    section, pipeline = data.section, data.pipeline
    if not section.tokens and not section.partners:
        return data
    if section.tokens:
        pipeline.check_fixed()
    mesh = Mesh(jax.local_devices(), ("data",))
    state = jax.device_put(fetch(state), NamedSharding(mesh, PartitionSpec()))
    count = len(pipeline.source)
    size = mesh.size * min(_ENCODED, -(-count // mesh.size))
    image = jax.ShapeDtypeStruct(
        (size, section.crop, section.crop, section.channels), jnp.uint8,
        sharding=NamedSharding(mesh, PartitionSpec("data")),
    )  # fmt: skip
    lowered = jax.jit(method.encode).lower(state, image)
    compiled = lowered.compile()

    def encode(images: np.ndarray) -> np.ndarray:
        return np.asarray(compiled(state, jax.device_put(images, image.sharding)))

    if not section.tokens:
        means = mean_features(count, pipeline.fixed_view, encode, size, section.threads)
        chosen = _partners(means, section.partners)
        return dataclasses.replace(data, pipeline=dataclasses.replace(pipeline, partners=chosen))
    # The program stands for the network: its name, the block, the kind of feature, the precision.
    fingerprint = of_features(
        of_arrays(state.frozen), lowered.as_text(), pipeline.source, pipeline.view
    )
    store = build_tokens(
        section.tokens, fingerprint, count, pipeline.fixed_view, encode, size, section.threads,
        lambda done: print(f"frozen features of {done} of {count} images", flush=True),
    )  # fmt: skip
    kept = dataclasses.replace(pipeline, tokens=store)
    if section.partners:
        chosen = store.derived(
            f"partners-{section.partners}", lambda: _partners(store.means(), section.partners)
        )
        kept = dataclasses.replace(kept, partners=chosen)
    return dataclasses.replace(data, pipeline=kept)


def _partners(means: np.ndarray, count: int) -> np.ndarray:
    if count >= len(means):
        raise UserError(
            f"data.partners is {count}, but an image has only {len(means) - 1} others; lower it."
        )
    return partners(means, count)
