"""The operations whose cost growth.py measures: each a function of sizes that prepares a call.

Networks are small and their weights all alike: time does not depend on them.
"""

import functools
import os
import pathlib
import tempfile
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from kernel_work import Work, compiled, unit
from PIL import Image
from sharding import abstract
from steps import noise

from jaxseg import build
from jaxseg.clustering import segments, streaming_kmeans
from jaxseg.clustering.kmeans import assign, fit_kmeans
from jaxseg.clustering.neighbours import _nearest_spread, partners
from jaxseg.clustering.streaming_kmeans import MiniBatch, Plan
from jaxseg.core import Batch, Method, State
from jaxseg.data.images import check_headers, find_files
from jaxseg.data.rows import _permutation
from jaxseg.losses import modularity
from jaxseg.losses import smoothness as energy
from jaxseg.losses.contrastive import Compared, hierarchical_contrast
from jaxseg.methods.infoseg import InfoSeg
from jaxseg.methods.san import SAN
from jaxseg.models.clustering_transformer import ClusteringTransformer
from jaxseg.models.vit import VisionTransformer
from jaxseg.sections import DataSection
from jaxseg.sharding import make_mesh, over_all, whole

_REFIT_BATCH = 8_192  # points


def _state(method: Method, spec: Batch) -> State:
    """Returns a state with all numbers alike."""
    shapes = jax.eval_shape(method.init, jax.random.key(0), spec)
    return jax.tree.map(lambda x: jnp.full(x.shape, 0.02, x.dtype), shapes)


def _loss(method: Method, images: int, side: int) -> tuple[Any, State, Batch]:
    """Returns a method's loss and gradient as a function of state and batch, and both."""
    spec = build.batch_spec(DataSection(name="scenes", batch_size=images, crop=side))
    key = jax.random.key(0)

    def loss(state: State, batch: Batch) -> tuple[jax.Array, Any]:
        def of(params: Any) -> jax.Array:
            return method.loss(state.replace(params=params), batch, key)[0]

        return jax.value_and_grad(of)(state.params)

    return loss, _state(method, spec), noise(spec, 2)


def _small_infoseg(clusters: int) -> InfoSeg:
    return InfoSeg(clusters, 32, patch_widths=(8, 8, 16, 16, 16), global_widths=(16, 32))


def infoseg(images: int, side: int, clusters: int) -> Work:
    """InfoSeg's loss with its gradient, from images on."""
    loss, state, batch = _loss(_small_infoseg(clusters), images, side)
    return compiled(loss, state, batch)


def san(images: int, side: int, clusters: int) -> Work:
    """SAN's attention, decoder and losses with their gradient, 1024 pixels at a time."""
    method = SAN(clusters, 32, heads=2, decoder_width=32, chunk=1024)
    decoder = method._decoder(3).init(jax.random.key(0), jnp.zeros((1, 32)))["params"]

    def loss(pixels: jax.Array, semantics: jax.Array, image: jax.Array) -> jax.Array:
        valid = jnp.ones(image.shape[:3])
        terms = method._pixel_terms(decoder, pixels, semantics, image, valid)
        return terms["L_Rec"] + terms["L_Con"]

    pixels, semantics = unit(images, side, side, 32), unit(images, clusters, 32, seed=1)
    image = unit(images, side, side, 3, seed=2)
    return compiled(jax.value_and_grad(loss, (0, 1)), pixels, semantics, image)


def split(images: int, side: int, slots: int) -> Work:
    """HSG's segments: k-means labels split by regions, in slots."""
    shape = (images, 2, side, side)
    labels = jax.random.randint(jax.random.key(0), shape, 0, 16)
    regions = jax.random.randint(jax.random.key(1), shape, 0, 16)
    return compiled(functools.partial(segments.split, slots=slots), labels, regions)


def transformer(images: int, slots: int) -> Work:
    """One level of HSG's grouping, forward."""
    net = ClusteringTransformer(hidden=64, layers=(1, 1), next_level=False)
    features, queries = unit(images, slots, 64), unit(8, 64, seed=1)
    weights = jax.tree.map(
        lambda x: jnp.full(x.shape, 0.02),
        jax.eval_shape(net.init, jax.random.key(0), features, features, queries),
    )
    return compiled(net.apply, weights, features, features, queries)


def goodness(images: int, slots: int) -> Work:
    """HSG's graph of nearest segments, and the modularity of a grouping in it."""

    def loss(features: jax.Array, shares: jax.Array) -> jax.Array:
        graph = modularity.nearest_graph(features, jnp.ones((images, slots), bool), 2)
        return modularity.modularity_loss(graph, shares)

    return compiled(loss, unit(images, slots, 64), jax.nn.softmax(unit(images, slots, 8)))


def smooseg(images: int, side: int, clusters: int) -> Work:
    """SmooSeg's smoothness terms with their gradient."""

    def loss(labels: jax.Array, features: jax.Array) -> jax.Array:
        here = energy.summarise(features, labels)
        across = here.of(jnp.arange(images)[::-1])
        return energy.smoothness(here, here, 0.0)[0] + energy.smoothness(here, across, 0.5)[0]

    labels = jax.nn.softmax(unit(images, side, side, clusters))
    return compiled(jax.value_and_grad(loss), labels, unit(images, side, side, 64, seed=1))


def bimodality(images: int, side: int, clusters: int) -> Work:
    """SmooSeg's metric of the penalties of all pairs of cells of an image."""
    return compiled(energy.penalty_bimodality, unit(images, side, side, clusters) ** 2)


def vit(images: int, side: int) -> Work:
    """A block of a vision transformer on patches of 8 pixels."""
    net = VisionTransformer(patch=8, width=64, blocks=1, heads=2)
    image = jnp.zeros((images, side, side, 3))
    shapes = jax.eval_shape(net.init, jax.random.key(0), image)
    weights = jax.tree.map(lambda x: jnp.full(x.shape, 0.02), shapes)
    return compiled(net.apply, weights, image)


def assignment(points: int, clusters: int, dim: int) -> Work:
    """The nearest centroid of each point, as PiCIE and MDC label cells."""
    return compiled(assign, unit(points, dim), unit(clusters, dim, seed=1))


def kmeans_fit(points: int, clusters: int, dim: int) -> Work:
    """K-means of points in memory with its start, of one restart and five rounds."""

    def fit(points: jax.Array) -> jax.Array:
        return fit_kmeans(jax.random.key(0), points, clusters, rounds=5, restarts=1)

    return compiled(fit, unit(points, dim))


def refit(points: int, clusters: int, dim: int) -> Work:
    """The k-means of a refit of PiCIE and MDC over a stream of batches, without the network."""
    rows, weights = unit(_REFIT_BATCH, dim), jnp.ones(_REFIT_BATCH)
    plan = Plan(sample_size=4_096, sample_batches=1, sample_rounds=2)

    def call() -> object:
        fit = MiniBatch(jax.random.key(0), clusters, plan=plan)
        for _ in range(points // _REFIT_BATCH):
            fit.add(rows.copy(), weights)  # new ones each time, which nobody else keeps
        return fit.result()

    return Work(call)


def stego_partners(images: int, dim: int) -> Work:
    """The nearest other images of every image, as STEGO needs them once."""
    features = np.asarray(unit(images, dim))
    return Work(lambda: partners(features))


def permutation(images: int) -> Work:
    """The order of an epoch."""
    return Work(lambda: _permutation.__wrapped__(0, 0, images))


def _linked(images: int) -> tempfile.TemporaryDirectory:
    """Returns a new folder with so many links to one image, a thousand in a folder."""
    folder = tempfile.TemporaryDirectory()
    top = pathlib.Path(folder.name)
    Image.fromarray(np.zeros((32, 32, 3), np.uint8)).save(top / ".one.png")
    for number in range(images):
        place = top / str(number // 1000)
        place.mkdir(exist_ok=True)
        os.link(top / ".one.png", place / f"{number}.png")
    return folder


def listing(images: int) -> Work:
    """The sorted list of the image files of a folder."""
    folder = _linked(images)
    return Work(lambda: find_files(folder.name))


def headers(images: int) -> Work:
    """The check of the header of every image file, as at each start and by `prepare check`."""
    folder = _linked(images)
    paths = [os.path.join(folder.name, name) for name in find_files(folder.name)]
    # The folder is kept as long as the call is.
    return Work(lambda: (folder, check_headers(paths))[1])


def kmeans_devices(devices: int) -> Any:
    """A round of k-means over points that lie on several devices, as XLA compiles it."""
    mesh = make_mesh(jax.devices()[:devices])
    rows, every = over_all(mesh), whole(mesh)
    arguments = (
        jax.ShapeDtypeStruct((1 << 20, 64), jnp.float32, sharding=rows),
        jax.ShapeDtypeStruct((1 << 20,), jnp.float32, sharding=rows),
        jax.ShapeDtypeStruct((27, 64), jnp.float32, sharding=every),
        jax.ShapeDtypeStruct((64,), jnp.float32, sharding=every),
    )
    return streaming_kmeans._sums.lower(*arguments, "euclidean", devices).compile()


def retrieval_devices(devices: int) -> Any:
    """A search of a bank that lies on several devices."""
    mesh = jax.sharding.Mesh(np.asarray(jax.devices()[:devices]), ("data",))
    spread = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("data"))
    queries = jax.ShapeDtypeStruct((288, 64), jnp.float32, sharding=whole(mesh))
    bank = jax.ShapeDtypeStruct((1 << 20, 64), jnp.float32, sharding=spread)
    count = jax.ShapeDtypeStruct((), jnp.int32, sharding=whole(mesh))
    return _nearest_spread.lower(queries, bank, 20, mesh, count).compile()


def contrast_devices(devices: int) -> Any:
    """HSG's contrast with its gradient, of a batch that lies on several devices."""
    rows = over_all(make_mesh(jax.devices()[:devices]))
    images, cells, slots, dim = 8, 512, 64, 64

    def array(*shape: int, dtype: Any = jnp.float32) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct((images, *shape), dtype, sharding=rows)

    def loss(features, slot, segments, mask, groups):
        return hierarchical_contrast(Compared(features, slot, segments, mask), [groups], 16.0)[0]

    return jax.jit(jax.value_and_grad(loss, (0, 2))).lower(
        array(cells, dim), array(cells, dtype=jnp.int32), array(slots, dim),
        array(slots, dtype=bool), array(slots, dtype=jnp.int32),
    ).compile()  # fmt: skip


def infoseg_devices(devices: int) -> Any:
    """InfoSeg's loss with its gradient, of a batch that lies on several devices."""
    mesh = make_mesh(jax.devices()[:devices])
    loss, state, batch = _loss(_small_infoseg(8), 32, 64)
    placed = abstract(state, jax.tree.map(lambda _: whole(mesh), state))
    spread = abstract(batch, jax.tree.map(lambda _: over_all(mesh), batch))
    return jax.jit(loss).lower(placed, spread).compile()
