"""HSG's published parameter names -> all that it groups with (Ke et al. 2022).

That is the tree of a `hierarchy.Hierarchy` of two levels, {"params", "stats"}: positions "rows" and
"columns", and "queries_<i>" and a clustering transformer "level_<i>" for each level. The tree of a
transformer is {"params", "stats"} with, in each,

    encoder<i>/  attention/{qkv, out}, norm1, up, down, norm2
    decoder<i>/  self_attention/{qkv, out}, norm1, cross_attention/{qkv, out}, norm2,
                 up, down, norm3
    decoder_norm
    content/     up, norm, down: the decoder's input from the statistics of the encoder's output
    centroid/    dense, norm: centroids that segments are assigned to
    feature/     dense, norm: features of the groups, which the next level reads

Matrices are {"kernel": [in, out], "bias"}, queries, keys and values side by side in "qkv"; norms
are {"scale", "bias"} in params and {"mean", "var"} in stats.
"""

from collections.abc import Iterable, Mapping
from functools import partial

import jax
import numpy as np

from jaxseg.models import weights
from jaxseg.models.clustering_transformer import ClusteringTransformer
from jaxseg.models.hierarchy import Hierarchy
from jaxseg.models.published import Arrays, Table, by_table

ARCHITECTURE = "hsg_clustering_transformer"  # in the metadata of weights files

TRANSFORMER: Table = (
    (r"^_transformer\.", ""),
    (r"^(encoder|decoder)\.layers\.(\d+)\.", r"\1\2."),
    (r"^(encoder\d+)\.self_attn\.", r"\1.attention."),
    (r"^(decoder\d+)\.self_attn\.", r"\1.self_attention."),
    (r"\.multihead_attn\.", ".cross_attention."),
    (r"\.in_proj_(weight|bias)$", r".qkv.\1"),
    (r"\.out_proj\.", ".out."),
    (r"\.linear1\.", ".up."),
    (r"\.linear2\.", ".down."),
    (r"^decoder\.norm\.", "decoder_norm."),
    (r"(norm\d?)\.norm\.", r"\1."),
    (r"^tgt_fc\.0\.", "content.up."),
    (r"^tgt_fc\.1\.", "content.norm."),
    (r"^tgt_fc\.3\.", "content.down."),
    (r"^centroid_fc\.1\.", "centroid.dense."),
    (r"^centroid_fc\.2\.", "centroid.norm."),
    (r"^centroid_feat_fc\.1\.", "feature.dense."),
    (r"^centroid_feat_fc\.2\.", "feature.norm."),
)

TABLES = {
    "rows": "pos_embed.row_embed.weight",
    "columns": "pos_embed.col_embed.weight",
    "queries_0": "fine_query_embed._query_embedding.weight",
    "queries_1": "coarse_query_embed._query_embedding.weight",
}
LEVELS = {"level_0": "fine_hrchy_transformer.", "level_1": "coarse_hrchy_transformer."}
# The groups of the last level have features as well, which nothing reads.
_UNREAD = LEVELS["level_1"] + "centroid_feat_fc."
# Of a transformer by itself.
_ROOTS = ("_transformer.", "centroid_fc.", "centroid_feat_fc.")


def prefix_of(names: Iterable[str]) -> str | None:
    """Returns what stands before HSG's names in a file; None if it has none of them."""
    for name in names:
        for root in (*TABLES.values(), *LEVELS.values(), *_ROOTS):
            before, found, _ = name.partition(root)
            if found and before[-1:] in ("", ".", "/"):
                return before
    return None


def grouping_arrays(arrays: Arrays) -> tuple[dict[str, np.ndarray], list[str]]:
    """Returns (arrays of what HSG groups with by their path in our tree, names left out).

    A transformer by itself is taken for that of level 0. Names within a transformer that no table
    knows stay, so that they count as unexpected.
    """
    found = {
        f"params/{ours}": np.asarray(arrays[name])
        for ours, name in TABLES.items()
        if name in arrays
    }
    ignored = [name for name in arrays if name.startswith(_UNREAD)]
    ignored += [name for name in arrays if name.endswith("num_batches_tracked")]
    alone = any(name.startswith(_ROOTS) for name in arrays)
    levels, taken = {"level_0": ""} if alone else LEVELS, set(ignored) | set(TABLES.values())
    for level, prefix in levels.items():
        names = [name for name in arrays if name.startswith(prefix) and name not in taken]
        own = by_table({name.removeprefix(prefix): arrays[name] for name in names}, TRANSFORMER)
        for path, array in own.items():
            collection, _, rest = path.partition("/")
            found[f"{collection}/{level}/{rest}"] = array
        taken.update(names)
    return found, ignored + [name for name in arrays if name not in taken]


def fresh_statistics(arrays: Arrays) -> dict[str, np.ndarray]:
    """Returns the statistics that training begins with, for each norm of `grouping_arrays`."""
    scales = [path for path in arrays if path.endswith("/scale")]
    places = {path.replace("params", "stats", 1).removesuffix("scale"): path for path in scales}
    return {place + "mean": np.zeros_like(arrays[path]) for place, path in places.items()} | {
        place + "var": np.ones_like(arrays[path]) for place, path in places.items()
    }


def expected_shapes(found: Mapping[str, tuple[int, ...]]) -> dict[str, tuple[int, ...]]:
    """Returns the shapes of the hierarchy that has the sizes of the arrays found, by their path.

    Sizes are read off the queries, the positions and the first feed-forward layer, and are the
    published ones where those are missing. Of a transformer by itself they are those of level 0.
    """

    def side(path: str, axis: int, published: int) -> int:
        shape = found.get(f"params/{path}", ())
        return shape[axis] if len(shape) == 2 else published

    width, hidden = (side("level_0/encoder0/up/kernel", *of) for of in ((0, 128), (1, 256)))
    net = Hierarchy(
        sizes=(side("queries_0", 0, 8), side("queries_1", 0, 4)),
        table=side("rows", 0, 50),
        transformer=partial(ClusteringTransformer, hidden=hidden),
    )
    if width % ClusteringTransformer.heads:
        width = 128  # so that what is there counts as mis-shaped
    params, stats = jax.eval_shape(lambda: net.draw(jax.random.key(0), width))
    shapes = weights.shapes({"params": params, "stats": stats})
    if all("/level_0/" in path for path in found):
        shapes = {path: shape for path, shape in shapes.items() if "/level_0/" in path}
    return shapes
