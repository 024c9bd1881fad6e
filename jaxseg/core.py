"""The types that everything speaks: Batch, State, Output, Method, and the error a user can mend.

Fixed letters in shapes, here and everywhere: B batch, V views, H W pixels, h w cells, Ch channels,
D features, K clusters, C classes, S segments, N tokens.
"""

import abc
import dataclasses
from collections.abc import Iterable
from typing import Any, ClassVar, Protocol

import jax
import jax.numpy as jnp
from flax import struct

Array = jax.Array
PyTree = Any


class UserError(Exception):
    """Something that a user can cause and mend.

    The message names the file or the field, the value found, what was expected and what to do next.
    `main` prints it without a traceback.
    """


def check_range(section: str, record: Any, **lowest: float) -> None:
    """Raises UserError for the first field of a record that lies below its lowest value."""
    for field, least in lowest.items():
        if (value := getattr(record, field)) < least:
            raise UserError(f"{section}.{field} is {value}; it must be at least {least}.")


class Batch(struct.PyTreeNode):
    """One global batch; the leading axis of every field is spread over all devices of the mesh.

    A test batch may end in rows that only fill it up: their `index` is -1 and their labels are -1.
    """

    index: Array  # i32[B] position in the split, stable across epochs
    seed: Array  # u32[B] from (seed, epoch, index): a refit and the loss draw the same views
    image: Array | None = None  # u8[B V H W Ch]; 3 channels, or 4 with infrared
    size: Array | None = None  # i32[B V 2] valid height and width of each view; the rest is padding
    # f16[B V h w D] cached frozen features, in the place of pixels; N = h w tokens a view
    tokens: Array | None = None
    regions: Array | None = None  # i32[B V H W] coherent regions, ids local to an image
    # f32[B V 5] y0 x0 y1 x1 of the view in the image, whose sides are 1, then flip; a view that was
    # padded reaches beyond it.
    box: Array | None = None
    # i32[B Hl Wl] by name ("class", "part", "instance"); -1 = ignored; empty in training unless the
    # method declares that it reads labels.
    label: dict[str, Array] = struct.field(default_factory=dict)
    # i32[B 2] valid height and width of test labels at the images' own size; None = as the views
    label_size: Array | None = None

    @property
    def first_view(self) -> Array:
        """The first view of each image, u8[B H W Ch]; raises ValueError for a batch without any."""
        if self.image is None:
            raise ValueError("this batch holds no images; the method needs some")
        return self.image[:, 0]

    @property
    def valid_pixels(self) -> Array:
        """bool[B H W], true on the real pixels of real images: no padding, nothing to fill up."""
        height, width = self.first_view.shape[1:3]
        sizes = jnp.asarray(self.size)[:, 0]
        rows = jnp.arange(height).reshape(1, -1, 1) < sizes[:, 0].reshape(-1, 1, 1)
        columns = jnp.arange(width).reshape(1, 1, -1) < sizes[:, 1].reshape(-1, 1, 1)
        return rows & columns & (self.index >= 0).reshape(-1, 1, 1)

    def view(self, number: int) -> Array:
        """Returns a view of each: tokens f16[B h w D] if there are any, else images u8[B H W Ch].

        Raises ValueError for a batch with neither.
        """
        views = self.image if self.tokens is None else self.tokens
        if views is None:
            raise ValueError("this batch holds neither images nor tokens")
        return views[:, number]


class State(struct.PyTreeNode):
    """All that a method learns or carries."""

    step: Array  # i32[] steps done, the skipped ones included
    params: PyTree  # moved by the optimiser; top-level keys name the optimiser's groups
    extra: PyTree  # moved by loss and refit: BN statistics, EMA, centroids, snapshots
    frozen: PyTree  # moved by nothing; rebuilt from its file, never checkpointed
    opt_state: PyTree = ()


class Output(struct.PyTreeNode):
    """What a method says of a batch of images in evaluation mode."""

    features: Array  # f32[B h w D]
    # f32[B h w K], perhaps on a finer grid than the features; None = the method has no classifier
    logits: Array | None = None
    levels: tuple[Array, ...] = ()  # i32[B h' w'] per-image groupings, fine to coarse
    # What pictures and probes want; what ends in "_histogram", shares f32[B bins] over [0, 1], is
    # logged on the way.
    aux: dict[str, Array] = struct.field(default_factory=dict)

    def part(self, name: str) -> Array:
        """Returns "features", "logits" or an entry of `aux` by name.

        Raises:
            UserError: the method's output has no such part; names those that it has.
        """
        parts = {"features": self.features, **self.aux}
        if self.logits is not None:
            parts["logits"] = self.logits
        if name == "logits" and self.logits is None:
            raise UserError(
                "The method has no classifier of its own (its output has no logits); use a probe "
                "that is fitted, such as 'cluster'."
            )
        if name not in parts:
            raise UserError(
                f"A probe wants {name!r}, which this method's output does not have; it has "
                f"{', '.join(sorted(parts))}. Set evals.NAME.source to one of them."
            )
        return parts[name]


class Stream(Protocol):
    """Re-iterable batches: the same images with the same draws, any number of passes."""

    def __call__(
        self, batch_size: int | None = None, limit: int | None = None
    ) -> Iterable[Batch]: ...


@dataclasses.dataclass(frozen=True)
class Method(abc.ABC):
    """A way to learn a segmentation. Fields are hyper-parameters; functions are pure.

    A method knows nothing of the loop, the data set or the scores.
    """

    resets: ClassVar[tuple[str, ...]] = ()  # optimiser groups that a refit restarts
    reads_labels: ClassVar[bool] = False  # only methods that declare it get `Batch.label`
    # Learns nothing without refits, so that `train.refit_every` must say when they are.
    needs_refit: ClassVar[bool] = False
    choices: ClassVar[dict[str, tuple[str, ...]]] = {}  # the values that a field may take
    lowest: ClassVar[dict[str, int]] = {}  # the lowest value of a field
    # What the numbers of a field stand for, which says how many there are.
    numbers: ClassVar[dict[str, tuple[str, ...]]] = {}

    def __post_init__(self):
        check_range("method", self, **self.lowest)
        for field, allowed in self.choices.items():
            if (value := getattr(self, field)) not in allowed:
                raise UserError(f"method.{field} is {value!r}; it is one of {', '.join(allowed)}.")
        for field, names in self.numbers.items():
            if len(value := getattr(self, field)) != len(names):
                raise UserError(f"method.{field} is {value}; it is ({', '.join(names)}).")

    @abc.abstractmethod
    def init(self, key: Array, spec: Batch) -> State:
        """Returns the initial state for batches like `spec`; its leaves may be abstract."""

    @abc.abstractmethod
    def loss(
        self, state: State, batch: Batch, key: Array
    ) -> tuple[Array, tuple[PyTree, dict[str, Array]]]:
        """Returns (loss f32[], (new extra, metrics of f32[])); differentiated in `state.params`."""

    @abc.abstractmethod
    def predict(self, state: State, image: Array) -> Output:
        """Returns evaluation-mode outputs for images u8[B H W Ch] (or tokens f16[B h w D])."""

    def predict_cells(self, state: State, image: Array) -> Output:
        """Returns what `predict` does, without levels, for those who want none.

        A method whose levels need to know the size of the images overrides it.
        """
        return self.predict(state, image).replace(levels=())

    def encode(self, state: State, image: Array) -> Array:
        """Returns the frozen features f32[B h w D] of images u8[B H W Ch], which a cache keeps.

        Raises UserError for a method that learns its features, for nothing of them can be kept.
        """
        del state, image
        raise UserError(
            f"{type(self).__name__} learns its features, so that they cannot be cached; leave "
            "data.tokens empty."
        )

    def refit(self, state: State, stream: Stream, key: Array) -> State:
        """Runs on the host before step 0 and then every so many steps; default: no change."""
        del stream, key
        return state

    def finish(self, state: State, stream: Stream, key: Array) -> State:
        """Runs on the host once, after the last step; default: no change."""
        del stream, key
        return state

    def active_groups(self, step: Array) -> dict[str, Array] | None:
        """Returns bool[] by optimiser group: does this step move it? None moves all of them."""
        del step
        return None


@dataclasses.dataclass(frozen=True)
class Fixed(Method):
    """A method that learns nothing: a baseline."""

    def constants(self) -> PyTree:
        """Returns what `predict` finds in `State.frozen`; default: nothing."""
        return {}

    def init(self, key: Array, spec: Batch) -> State:
        """Returns a state without parameters."""
        del key, spec
        return State(step=jnp.zeros((), jnp.int32), params={}, extra={}, frozen=self.constants())

    def loss(
        self, state: State, batch: Batch, key: Array
    ) -> tuple[Array, tuple[PyTree, dict[str, Array]]]:
        """Returns 0."""
        del batch, key
        return jnp.zeros(()), (state.extra, {})
