"""Published parameter names and layouts -> our trees.

Sources name the same array differently; `RENAMED` turns the names of Hugging Face's transformers
(both its generations) and of DINOv2's and DINOv3's releases into those of DINO and timm, from which
`VIT` leads to ours. ResNets have torchvision's names everywhere. Published matrices are [out, in]
and convolutions [out, in, kh, kw]; ours are [in, out] and [kh, kw, in, out], and 1x1 convolutions
are matrices.
"""

import math
import re
from collections.abc import Callable, Iterable, Mapping

import numpy as np

Arrays = Mapping[str, np.ndarray]
# Rules in their order: (pattern, what takes its place), as re.sub has them.
Table = Iterable[tuple[str, str | Callable[[re.Match], str]]]

# What a file may wrap a network in, the ones to prefer first. DINO's teacher is its better half;
# MoCo's encoder_q is what its authors publish results of.
WRAPPERS = (
    "teacher", "model_ema", "ema", "target_encoder", "encoder_q", "base_encoder", "state_dict",
    "model", "module", "_orig_mod", "backbone", "encoder", "net", "trunk", "vit", "dinov2",
    "dinov2_with_registers", "dinov3_vit", "student", "encoder_k", "momentum_encoder",
)  # fmt: skip
# An array that every network of a family has, by the name it has at the top.
ROOTS = ("cls_token", "embeddings.cls_token", "bn1.running_mean")

# Parts that features do not need. Rotary periods follow from the architecture.
IGNORED = re.compile(
    r"(head|fc|pooler|classifier|local_cls_norm)\..*|(.*\.)?mask_token|(.*\.)?num_batches_tracked"
    r"|rope_embed\..*"
)

RENAMED: Table = (
    (r"^embeddings\.position_embeddings$", "pos_embed"),
    (r"^embeddings\.patch_embeddings\.(projection\.)?", "patch_embed.proj."),
    (r"^embeddings\.", ""),
    (r"^(storage_tokens|reg_token)$", "register_tokens"),
    (r"^(encoder\.layer|model\.layer|layers?)\.(\d+)\.", r"blocks.\2."),
    # DINOv2 in training keeps its blocks in chunks, numbered through.
    (r"^blocks\.\d+\.(\d+)\.", r"blocks.\1."),
    (r"\.attention\.(attention\.)?(query|q_proj)\.", ".attn.q."),
    (r"\.attention\.(attention\.)?(key|k_proj)\.", ".attn.k."),
    (r"\.attention\.(attention\.)?(value|v_proj)\.", ".attn.v."),
    (r"\.attention\.(output\.dense|o_proj)\.", ".attn.proj."),
    (r"\.(layernorm_before)\.", ".norm1."),
    (r"\.(layernorm_after)\.", ".norm2."),
    (r"^layernorm\.", "norm."),
    (r"\.layer_scale([12])\.lambda1$", r".ls\1.gamma"),
    # Some hold gate and input of a gated layer in one array, twice as long as what comes out.
    (r"\.(intermediate\.dense|mlp\.(fc1|up_proj|w12|weights_in))\.", ".mlp.up."),
    (r"\.(output\.dense|mlp\.(fc2|down_proj|w3|weights_out))\.", ".mlp.down."),
    (r"\.mlp\.(w1|gate_proj)\.", ".mlp.gate."),
    (r"\.mlp\.w2\.", ".mlp.up."),
)

VIT: Table = (
    (r"^patch_embed\.proj\.", "embed."),
    (r"^blocks\.(\d+)\.", r"block\1."),
    (r"\.attn\.qkv\.", ".attention.qkv."),
    (r"\.attn\.proj\.", ".attention.out."),
    (r"\.mlp\.", "."),
    (r"\.ls([12])\.gamma$", r".scale\1"),
    (r"^cls_token$", "cls"),
    (r"^register_tokens$", "registers"),
    (r"^pos_embed$", "positions"),
)

RESNET: Table = (
    (r"^conv1\.", "stem."),
    (r"^bn1\.", "stem_norm."),
    (r"^layer(\d)\.(\d+)\.", lambda found: f"res{int(found[1]) + 1}_{found[2]}."),
    (r"\.bn(\d)\.", r".norm\1."),
    (r"\.downsample\.0\.", ".skip."),
    (r"\.downsample\.1\.", ".skip_norm."),
)


def prefix_of(names: Iterable[str]) -> str | None:
    """Returns what stands before the names of the network in a file; None if there is no network.

    Of several networks in a file it is the one whose wrappers come first in WRAPPERS.
    """
    found = [name.removesuffix(root) for name in names for root in ROOTS if name.endswith(root)]
    wrappers = {
        prefix: prefix.split(".")[:-1] for prefix in found if not prefix or prefix[-1] == "."
    }
    ranks = {
        prefix: [WRAPPERS.index(word) for word in words]
        for prefix, words in wrappers.items()
        if all(word in WRAPPERS for word in words)
    }
    return min(ranks, key=lambda prefix: ranks[prefix], default=None)


def vit_arrays(arrays: Arrays) -> tuple[Arrays, list[str]]:
    """Returns (arrays of a Vision Transformer by their path in our tree, names left out).

    Names that no table knows stay, as paths of their own, so that they count as unexpected.
    """
    kept, ignored = _without_ignored(arrays)
    named = _fused({_renamed(name, RENAMED): kept[name] for name in kept})
    found = by_table(named, VIT)
    for name in ("params/positions", "params/registers"):
        if name in found:
            found[name] = found[name].reshape(-1, found[name].shape[-1])
    if "params/cls" in found:
        found["params/cls"] = found["params/cls"].reshape(-1)
    if "params/embed/kernel" in found:
        kernel = found["params/embed/kernel"]
        found["params/embed/kernel"] = kernel.reshape(-1, kernel.shape[-1])
    table = found.get("params/positions")
    if table is not None and math.isqrt(len(table)) ** 2 == len(table):
        # No row for the class token: timm has added it to the token itself.
        found["params/positions"] = np.concatenate([np.zeros_like(table[:1]), table])
    return found, ignored


def resnet_arrays(arrays: Arrays) -> tuple[Arrays, list[str]]:
    """Returns (arrays of a ResNet by their path in our tree, names left out).

    Names that no table knows stay, as paths of their own, so that they count as unexpected.
    """
    kept, ignored = _without_ignored(arrays)
    return by_table(kept, RESNET), ignored


def by_table(arrays: Arrays, table: Table) -> dict[str, np.ndarray]:
    """Returns the arrays in our layout by their path in our tree, which `table` leads to."""
    return dict(_leaf(_renamed(name, table), array) for name, array in arrays.items())


def _without_ignored(arrays: Arrays) -> tuple[Arrays, list[str]]:
    ignored = [name for name in arrays if IGNORED.fullmatch(name)]
    return {name: arrays[name] for name in arrays if name not in ignored}, ignored


def _renamed(name: str, table: Table) -> str:
    for pattern, new in table:
        name = re.sub(pattern, new, name)
    return name


def _leaf(name: str, array: np.ndarray) -> tuple[str, np.ndarray]:
    """Returns (path in our tree, array in our layout) of an array with a dotted name."""
    *parts, last = name.split(".")
    collection = "params"
    if last in ("running_mean", "running_var"):
        collection, last = "stats", last.removeprefix("running_")
    elif last == "weight":
        last = "scale" if array.ndim == 1 else "kernel"
        if array.ndim == 4 and array.shape[2:] == (1, 1):
            array = array[:, :, 0, 0]
        array = array.transpose(2, 3, 1, 0) if array.ndim == 4 else array.T
    return "/".join([collection, *parts, last]), array


def _fused(arrays: Arrays) -> dict[str, np.ndarray]:
    """Joins queries, keys and values, and parts gates from what they gate."""
    flat = dict(arrays)
    for name in arrays:
        if name.endswith(".attn.q.weight"):
            block = name.removesuffix("q.weight")
            if block + "q.bias" in flat:
                # DINOv3's keys have no bias.
                flat.setdefault(block + "k.bias", np.zeros_like(flat[block + "q.bias"]))
            for kind in ("weight", "bias"):
                parts = [f"{block}{part}.{kind}" for part in "qkv"]
                if all(part in flat for part in parts):
                    flat[f"{block}qkv.{kind}"] = np.concatenate([flat.pop(part) for part in parts])
        elif name.endswith(".attn.qkv.bias_mask") and name.removesuffix("_mask") in flat:
            # Zero where the mask is, whatever the bias holds there.
            bias = flat[name.removesuffix("_mask")]
            flat[name.removesuffix("_mask")] = np.where(flat.pop(name) == 0, 0, bias)
    for name in [name for name in flat if ".mlp.up." in name]:
        down = flat.get(name.rsplit(".mlp.up.")[0] + ".mlp.down.weight")
        if down is not None and len(flat[name]) == 2 * down.shape[-1]:
            flat[name.replace(".up.", ".gate.")], flat[name] = np.split(flat[name], 2)
    return flat
