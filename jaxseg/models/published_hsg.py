"""HSG's published parameter names -> trees of its clustering transformers (Ke et al. 2022).

A transformer's tree is {"params", "stats"} with, in each,

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

import re

import numpy as np
from flax import traverse_util

from jaxseg.core import PyTree
from jaxseg.models.published import Arrays, Table, by_table

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
    "fine_queries": "fine_query_embed._query_embedding.weight",
    "coarse_queries": "coarse_query_embed._query_embedding.weight",
}


def clustering_transformer(arrays: Arrays) -> PyTree:
    """Returns the tree (see the module) of one transformer; "stats" may be without entries."""
    kept = {name: arrays[name] for name in arrays if not name.endswith("num_batches_tracked")}
    tree = traverse_util.unflatten_dict(by_table(kept, TRANSFORMER), sep="/")
    return {"params": {}, "stats": {}} | tree


def grouping(arrays: Arrays) -> PyTree:
    """Returns all that HSG groups with.

    Returns:
        {"fine": tree, "coarse": tree (see the module), "rows" and "columns": f32[50, D / 2] of the
        positions, "fine_queries" f32[n1, D], "coarse_queries" f32[n2, D]}.

    Raises:
        KeyError: a position or query table is missing.
    """
    found: dict[str, PyTree] = {key: np.asarray(arrays[name]) for key, name in TABLES.items()}
    for level in ("fine", "coarse"):
        prefix = re.compile(rf"^{level}_hrchy_transformer\.")
        names = [name for name in arrays if prefix.match(name)]
        found[level] = clustering_transformer({prefix.sub("", n): arrays[n] for n in names})
    return found


def hierarchy(found: PyTree) -> tuple[PyTree, PyTree]:
    """Returns (params, stats) of a `hierarchy.Hierarchy` of two levels, from what `grouping` gives.

    Statistics that the weights are without are missing, and then only training can run. The coarse
    level's features, which nothing reads, are left out.
    """
    levels = {"fine": "level_0", "coarse": "level_1"}
    tables = {name: found[name] for name in ("rows", "columns")}
    queries = {f"queries_{i}": found[f"{name}_queries"] for i, name in enumerate(levels)}
    params = {ours: dict(found[name]["params"]) for name, ours in levels.items()}
    stats = {ours: dict(found[name]["stats"]) for name, ours in levels.items()}
    for tree in (params, stats):
        tree["level_1"].pop("feature", None)
    return params | tables | queries, stats
