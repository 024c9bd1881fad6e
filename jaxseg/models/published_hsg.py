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
from flax import traverse_util

from jaxseg.core import PyTree
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


def clustering_transformer(arrays: Arrays) -> PyTree:
    """Returns the tree (see the module) of one transformer; "stats" may be without entries."""
    kept = {name: arrays[name] for name in arrays if not name.endswith("num_batches_tracked")}
    tree = traverse_util.unflatten_dict(by_table(kept, TRANSFORMER), sep="/")
    return {"params": {}, "stats": {}} | tree


def prefix_of(names: Iterable[str]) -> str | None:
    """Returns what stands before HSG's names in a file; None if it has none of them."""
    for name in names:
        for root in (*TABLES.values(), *LEVELS.values()):
            before, found, _ = name.partition(root)
            if found and before[-1:] in ("", "."):
                return before
    return None


def grouping_arrays(arrays: Arrays) -> tuple[dict[str, np.ndarray], list[str]]:
    """Returns (arrays of all that HSG groups with by their path in our tree, names left out).

    Names within a transformer that no table knows stay, so that they count as unexpected.
    """
    found = {
        f"params/{ours}": np.asarray(arrays[name])
        for ours, name in TABLES.items()
        if name in arrays
    }
    ignored = [name for name in arrays if name.startswith(_UNREAD)]
    for level, prefix in LEVELS.items():
        names = [name for name in arrays if name.startswith(prefix) and name not in ignored]
        tree = clustering_transformer({name.removeprefix(prefix): arrays[name] for name in names})
        for path, array in traverse_util.flatten_dict(tree, sep="/").items():
            collection, _, rest = path.partition("/")
            found[f"{collection}/{level}/{rest}"] = array
    known = (*TABLES.values(), *LEVELS.values())
    return found, ignored + [name for name in arrays if not name.startswith(known)]


def expected_shapes(found: Mapping[str, tuple[int, ...]]) -> dict[str, tuple[int, ...]]:
    """Returns the shapes of the hierarchy that has the sizes of the arrays found, by their path.

    Sizes are read off the queries, the positions and the first feed-forward layer, and are the
    published ones where those are missing.
    """

    def side(path: str, axis: int, published: int) -> int:
        shape = found.get(f"params/{path}", ())
        return shape[axis] if len(shape) == 2 else published

    width = side("queries_0", 1, 128)
    hidden = side("level_0/encoder0/up/kernel", 1, 256)
    net = Hierarchy(
        sizes=(side("queries_0", 0, 8), side("queries_1", 0, 4)),
        table=side("rows", 0, 50),
        transformer=partial(ClusteringTransformer, hidden=hidden),
    )
    if width % ClusteringTransformer.heads:
        width = 128  # so that what is there counts as mis-shaped
    params, stats = jax.eval_shape(lambda: net.draw(jax.random.key(0), width))
    return weights.shapes({"params": params, "stats": stats})
