"""IIC (Ji et al. 2019, "Invariant Information Clustering for Unsupervised Image Classification and
Segmentation"), the segmentation part.

An image and its copy, jittered and mirrored, go through one network; the softmax of one head gives
a label map of each, and the loss raises the information that the two share, over small
displacements (`losses.mutual_information.iic`). Two heads are trained in turn, a pass over the data
each: head A with more clusters than are looked for, then head B, whose clusters are the
segmentation.

As in the released code, the loss is taken at the size of the images, to which the probabilities are
upsampled. `train.epochs` counts passes of either head: an epoch of the released code is two.
"""

import dataclasses
from typing import ClassVar, cast

import jax
import jax.numpy as jnp
from flax import linen as nn

from jaxseg.core import Array, Batch, Method, Output, PyTree, State, UserError
from jaxseg.losses.mutual_information import iic
from jaxseg.models.fpn import FORMS, RESNETS, BackboneFPN
from jaxseg.models.iic import Head, Res12Trunk, VGGTrunk
from jaxseg.views import colour

NETWORKS = ("vgg", "res12", "fpn")


@dataclasses.dataclass(frozen=True)
class IIC(Method):
    """IIC and the variants of it that other papers compare with.

    Attributes:
        clusters: K_B, the number of groups to learn; overclusters: K_A, of the other head.
        steps_per_pass: steps before the other head is trained: the number of training images over
            the batch size, rounded down, for whole passes. Head A comes first.
        network: "vgg" (Ji et al.), "res12" (ResNet-18 up to its second stage) or "fpn" (PiCIE's
            ResNet with its pyramid, which ImageNet weights fit; then without `sobel`).
        widths: channels of "vgg"; stem: of "res12"; backbone, dim, fpn: of "fpn", see
            `BackboneFPN`.
        sobel: give the network the Sobel derivatives of the grey image beside the channels.
        jitter: brightness, contrast, saturation and hue of the copy.
        displacement: T, the largest shift of the loss in pixels.
        sparse: the copy's label map is shifted by one random displacement a batch, of so many
            pixels, from and to, in either direction of either axis; (0, 0) = not.
        lam_a, lam_b: weight of the marginals' entropy in the loss of head A and B.
        collapsed: form of the loss, see `iic`.
        labels_choose_pixels: READS LABELS: pixels without a label do not count in the loss, as on
            COCO in the released code. Off, all pixels count.
        label: which label map, where labels choose pixels.
        dtype: "float32" or "bfloat16", of the network's computation; the loss is float32.
    """

    clusters: int
    overclusters: int
    steps_per_pass: int
    network: str = "vgg"
    widths: tuple[int, ...] = (64, 128, 256, 256, 512, 512)
    stem: int = 64
    backbone: str = "resnet18"
    dim: int = 128
    fpn: str = "code"
    sobel: bool = True
    jitter: tuple[float, ...] = (0.4, 0.4, 0.4, 0.125)
    displacement: int = 10
    sparse: tuple[int, int] = (0, 0)
    lam_a: float = 1.0
    lam_b: float = 1.0
    collapsed: bool = False
    labels_choose_pixels: bool = False
    label: str = "class"
    dtype: str = "float32"

    choices: ClassVar[dict[str, tuple[str, ...]]] = {
        "network": NETWORKS,
        "backbone": RESNETS,
        "fpn": FORMS,
        "dtype": ("float32", "bfloat16"),
    }
    lowest: ClassVar[dict[str, int]] = {
        "clusters": 1, "overclusters": 1, "steps_per_pass": 1, "displacement": 0, "stem": 1,
        "dim": 1,
    }  # fmt: skip
    numbers: ClassVar[dict[str, tuple[str, ...]]] = {"jitter": colour.JITTER}

    def __post_init__(self):
        super().__post_init__()
        if len(self.widths) != 6:
            raise UserError(f"method.widths is {self.widths}; it has six channels.")
        if len(self.sparse) != 2 or not 0 <= self.sparse[0] <= self.sparse[1]:
            raise UserError(f"method.sparse is {self.sparse}; it is (lowest, highest), from 0 on.")
        if self.network == "fpn" and self.sobel:
            raise UserError("method.sobel goes with networks 'vgg' and 'res12'; set it to False.")
        object.__setattr__(self, "reads_labels", self.labels_choose_pixels)

    @property
    def _trunk(self) -> nn.Module:
        if self.network == "vgg":
            return VGGTrunk(self.widths, jnp.dtype(self.dtype))
        return Res12Trunk(self.stem, jnp.dtype(self.dtype))

    @property
    def _net(self) -> BackboneFPN:
        return BackboneFPN(self.backbone, self.dim, self.fpn, self.dtype)

    def _head(self, clusters: int) -> Head:
        return Head(clusters, padding=1 if self.network == "vgg" else 0)

    def init(self, key: Array, spec: Batch) -> State:
        """Returns fresh groups "trunk" (or "backbone" and "fpn"), "head_a" and "head_b"."""
        keys = jax.random.split(key, 3)
        if self.network == "fpn":
            params, extra = self._net.init(keys[0])
            width = self.dim
        else:
            shape = jax.eval_shape(lambda b: b.first_view, spec).shape
            image = jnp.zeros((1, 32, 32, shape[-1] + 2 * self.sobel))
            variables = self._trunk.init(keys[0], image, False)
            params, extra = {"trunk": variables["params"]}, {"trunk": variables["batch_stats"]}
            width = self.widths[-1] if self.network == "vgg" else 2 * self.stem
        cells = jnp.zeros((1, 1, 1, width))
        for name, k, key_head in (
            ("head_a", self.overclusters, keys[1]),
            ("head_b", self.clusters, keys[2]),
        ):
            params[name] = self._head(k).init(key_head, cells)["params"]
        return State(step=jnp.zeros((), jnp.int32), params=params, extra=extra, frozen={})

    def _features(
        self, state: State, unit: Array, extra: PyTree, train: bool
    ) -> tuple[Array, PyTree]:
        """Returns the trunk's map of images in [0, 1], and the new rest."""
        if self.network == "fpn":
            return self._net.features(state.params, extra, unit, train)
        x = unit
        if self.sobel:
            x = jnp.concatenate([x, colour.sobel(colour.grey(unit[..., :3]))], axis=-1)
        variables = {"params": state.params["trunk"], "batch_stats": extra["trunk"]}
        found, changed = self._trunk.apply(variables, x, train, mutable=["batch_stats"])
        return cast(Array, found), {"trunk": changed["batch_stats"]}

    def loss(
        self, state: State, batch: Batch, key: Array
    ) -> tuple[Array, tuple[PyTree, dict[str, Array]]]:
        """Returns the loss of the head whose pass it is; the metric "head_b" says which, 0 or 1.

        BatchNorm takes the statistics of the images and of their copies each by itself.
        """
        key_colour, key_flip, key_shift = jax.random.split(key, 3)
        unit = colour.to_unit(batch.first_view)
        flip = jax.random.bernoulli(key_flip, 0.5, (len(unit),))
        copy = colour.flip_where(flip, colour.jitter(key_colour, unit, *self.jitter))
        one, extra = self._features(state, unit, state.extra, train=True)
        two, extra = self._features(state, copy, extra, train=True)
        mask = None
        if self.labels_choose_pixels:
            mask = batch.label[self.label] >= 0
        size = (unit.shape[1], unit.shape[2])

        def of_head(name: str, k: int, lam: float):
            def loss(both: tuple[Array, Array]) -> Array:
                first, second = (self._probabilities(state, name, k, x, size) for x in both)
                second = colour.flip_where(flip, second)
                second = self._shifted(key_shift, second)
                return iic(first, second, mask, self.displacement, lam, self.collapsed)

            return loss

        second_head = self._pass(state.step) == 1
        of_b = of_head("head_b", self.clusters, self.lam_b)
        of_a = of_head("head_a", self.overclusters, self.lam_a)
        if jax.default_backend() == "cpu":
            # XLA's convolutions within a branch are some thirty times slower on a CPU than outside.
            loss = jnp.where(second_head, of_b((one, two)), of_a((one, two)))
        else:
            loss = jax.lax.cond(second_head, of_b, of_a, (one, two))
        return loss, (extra, {"head_b": second_head.astype(jnp.float32)})

    def _probabilities(
        self, state: State, name: str, k: int, features: Array, size: tuple[int, int]
    ) -> Array:
        """Returns a head's softmax f32[B H W K] at the size of the images."""
        scores = self._head(k).apply({"params": state.params[name]}, features)
        found = jax.nn.softmax(cast(Array, scores), axis=-1)
        return jax.image.resize(
            found, (len(found), *size, found.shape[-1]), "bilinear", antialias=False
        )

    def _shifted(self, key: Array, x: Array) -> Array:
        """Returns the map f32[B H W K] moved by one random displacement; what comes in is 0."""
        low, high = self.sparse
        if high == 0:
            return x
        key_size, key_sign = jax.random.split(key)
        sign = 2 * jax.random.bernoulli(key_sign, 0.5, (2,)).astype(jnp.int32) - 1
        shift = jax.random.randint(key_size, (2,), low, high + 1) * sign
        padded = jnp.pad(x, ((0, 0), (high, high), (high, high), (0, 0)))
        start = (0, high + shift[0], high + shift[1], 0)
        return jax.lax.dynamic_slice(padded, start, x.shape)

    def _pass(self, step: Array) -> Array:
        """Returns whose pass it is: 0 for head A, 1 for head B."""
        return (step // self.steps_per_pass) % 2

    def active_groups(self, step: Array) -> dict[str, Array]:
        """Moves the head whose pass it is, and the trunk always."""
        second = self._pass(step) == 1
        return {"head_a": ~second, "head_b": second}

    def predict(self, state: State, image: Array) -> Output:
        """Returns the trunk's map as features and head B's scores as logits, before the softmax.

        The logits have two rows and columns more than the features where the network is "vgg". aux:
        "overclusters" f32[B h w K_A], head A's scores.
        """
        found, _ = self._features(state, colour.to_unit(image), state.extra, train=False)
        scores = {
            name: cast(Array, self._head(k).apply({"params": state.params[name]}, found))
            for name, k in (("head_a", self.overclusters), ("head_b", self.clusters))
        }
        return Output(
            features=found, logits=scores["head_b"], aux={"overclusters": scores["head_a"]}
        )
