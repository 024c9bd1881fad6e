"""Names and layouts of published weights: every source of one network gives the same arrays."""

import pathlib
import re

import numpy as np
import pytest

from jaxseg.models import published

GOLDEN = pathlib.Path(__file__).parents[1] / "golden"


def load(name):
    """Returns a golden file's weights under the names of transformers 5."""
    with np.load(GOLDEN / f"{name}.npz") as file:
        return {key[2:]: file[key] for key in file.files if key.startswith("w/")}


def renamed(arrays, *rules):
    """Returns arrays whose names went through all rules."""
    found = {}
    for name, array in arrays.items():
        for pattern, new in rules:
            name = re.sub(pattern, new, name)
        found[name] = array
    return found


def fused(arrays, parts, whole):
    """Returns arrays with `parts` of each block joined to `whole`."""
    found = dict(arrays)
    for name in arrays:
        if re.search(rf"\.{parts[0]}\.(weight|bias)$", name):
            names = [name.replace(f".{parts[0]}.", f".{part}.") for part in parts]
            found[name.replace(f".{parts[0]}.", f".{whole}.")] = np.concatenate(
                [found.pop(part) for part in names]
            )
    return found


RELEASED = (
    (r"^embeddings\.position_embeddings", "pos_embed"),
    (r"^embeddings\.patch_embeddings\.(projection\.)?", "patch_embed.proj."),
    (r"^embeddings\.", ""),
    (r"^(encoder|model)\.layer\.", "blocks."),
    (r"\.attention\.([qkv])_proj", r".attn.\1"),
    (r"\.attention\.o_proj", ".attn.proj"),
    (r"\.layer_scale(\d)\.lambda1", r".ls\1.gamma"),
    (r"^layernorm\.", "norm."),
    (r"\.gate_proj\.", ".w1."),
    (r"\.up_proj\.", ".w2."),
    (r"\.down_proj\.", ".w3."),
)


def dinov2(arrays):
    return fused(fused(renamed(arrays, *RELEASED), ("q", "k", "v"), "qkv"), ("w1", "w2"), "w12")


def dinov2_in_chunks(arrays):
    return renamed(dinov2(arrays), (r"^blocks\.(\d+)\.", r"blocks.0.\1."))


def transformers_4(arrays):
    fours = {"q": "query", "k": "key", "v": "value"}
    rules = [
        (rf"\.attention\.{q}_proj", rf".attention.attention.{full}") for q, full in fours.items()
    ]
    rules += [(r"\.o_proj", ".output.dense"), (r"mlp\.down_proj", "mlp.weights_out")]
    return fused(renamed(arrays, *rules), ("gate_proj", "up_proj"), "weights_in")


def timm(arrays):
    return renamed(dinov2(arrays), (r"mlp\.w12", "mlp.fc1"), (r"mlp\.w3", "mlp.fc2"))


def timm_with_registers(arrays):
    """Timm adds the class token's position to the token, and has no row for it."""
    found = renamed(dinov2(arrays), ("^register_tokens", "reg_token"))
    found["cls_token"] = found["cls_token"] + found["pos_embed"][:, :1]
    found["pos_embed"] = found["pos_embed"][:, 1:]
    return found


def dinov3(arrays):
    """The release masks the bias of the keys, whatever it is, and keeps rotary periods."""
    arrays = dict(arrays)
    for name in list(arrays):
        if name.endswith("q_proj.bias"):
            arrays[name.replace("q_proj", "k_proj")] = np.full_like(arrays[name], np.nan)
    found = fused(renamed(arrays, *RELEASED), ("q", "k", "v"), "qkv")
    for name in list(found):
        if name.endswith("qkv.bias"):
            mask = np.ones_like(found[name])
            mask[len(mask) // 3 : 2 * len(mask) // 3] = 0
            found[name + "_mask"] = mask
    found["storage_tokens"] = found.pop("register_tokens")
    return found | {"rope_embed.periods": np.ones(3), "local_cls_norm.weight": np.ones(24)}


@pytest.mark.parametrize(
    ("golden", "source"),
    [
        ("dinov2", dinov2),
        ("dinov2", dinov2_in_chunks),
        ("dinov2", transformers_4),
        ("dinov2_registers", dinov2),
        ("dinov3", dinov3),
    ],
)
def test_all_sources_of_a_vit_give_the_same_arrays(golden, source):
    arrays = load(golden)
    expected, _ = published.vit_arrays(arrays)
    found, ignored = published.vit_arrays(source(arrays))
    assert sorted(found) == sorted(expected)
    for name in expected:
        np.testing.assert_array_equal(found[name], expected[name], err_msg=name)
    assert any(name.endswith("mask_token") for name in ignored)


def test_a_table_without_the_class_token_means_the_same():
    arrays = load("dinov2_registers")
    expected, _ = published.vit_arrays(arrays)
    found, _ = published.vit_arrays(timm_with_registers(arrays))
    assert found["params/positions"].shape == expected["params/positions"].shape
    cls = "params/cls", "params/positions"
    np.testing.assert_allclose(
        found[cls[0]] + found[cls[1]][0], expected[cls[0]] + expected[cls[1]][0], rtol=1e-6
    )
    np.testing.assert_array_equal(found[cls[1]][1:], expected[cls[1]][1:])


def test_vit_of_transformers_4_is_dinos():
    arrays = load("dino_vit")
    expected, _ = published.vit_arrays(arrays)
    found = {}
    for name, array in arrays.items():
        if ".qkv." in name:
            for part, piece in zip(("query", "key", "value"), np.split(array, 3), strict=True):
                found[name.replace("attn.qkv", f"attention.attention.{part}")] = piece
        else:
            found[name] = array
    found = renamed(
        found,
        (r"^pos_embed", "embeddings.position_embeddings"),
        (r"^patch_embed\.proj", "embeddings.patch_embeddings.projection"),
        ("^cls_token", "embeddings.cls_token"),
        (r"^blocks\.", "encoder.layer."),
        (r"attn\.proj", "attention.output.dense"),
        (r"norm1", "layernorm_before"),
        (r"norm2", "layernorm_after"),
        (r"mlp\.fc1", "intermediate.dense"),
        (r"mlp\.fc2", "output.dense"),
        (r"^norm\.", "layernorm."),
    )
    found, ignored = published.vit_arrays(found | {"pooler.dense.bias": np.zeros(3)})
    assert ignored == ["pooler.dense.bias"]
    assert sorted(found) == sorted(expected)
    for name in expected:
        np.testing.assert_array_equal(found[name], expected[name], err_msg=name)


@pytest.mark.parametrize(
    ("names", "prefix"),
    [
        (["cls_token", "norm.weight"], ""),
        (["vit.embeddings.cls_token", "classifier.weight"], "vit."),
        (["student.module.backbone.cls_token", "teacher.backbone.cls_token"], "teacher.backbone."),
        (
            [f"state_dict.module.encoder_{e}.bn1.running_mean" for e in "kq"],
            "state_dict.module.encoder_q.",
        ),
        (["model.cls_token", "model_ema.cls_token"], "model_ema."),
        # A block's first norm is no network, nor is one inside a part that nobody knows.
        (["layer1.0.bn1.running_mean"], None),
        (["discriminator.cls_token"], None),
        (["my_cls_token"], None),
        ([], None),
    ],
)
def test_the_network_is_found_in_its_wrappers(names, prefix):
    assert published.prefix_of(names) == prefix
