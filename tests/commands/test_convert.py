"""jaxseg.convert: every kind of file, the wrong ones too, and no file is ever executed."""

import argparse
import pathlib
import pickle
import subprocess
import sys
import zipfile

import jax
import numpy as np
import pytest
import safetensors.numpy

from jaxseg.commands import convert as command
from jaxseg.core import Batch, UserError
from jaxseg.methods.hsg import HSG
from jaxseg.models import published_hsg, weights
from jaxseg.models.backbones import Backbone
from jaxseg.pretrained import Weights

ROOT = pathlib.Path(__file__).parents[2]
GOLDEN = ROOT / "tests" / "golden"
HALF = np.full(3, 0.5, np.float32)


@pytest.fixture(scope="module")
def vit():
    """Arrays of vit_test under DINO's names."""
    with np.load(GOLDEN / "dino_vit.npz") as file:
        return {key[2:]: file[key] for key in file.files if key.startswith("w/")}


@pytest.fixture(scope="module")
def transformers():
    """The golden transformer as both levels of HSG, with its queries, under the released names."""
    rng = np.random.default_rng(0)
    with np.load(GOLDEN / "clustering_transformer.npz") as file:
        one = {key[2:]: file[key] for key in file.files if key.startswith("w/")}
        queries = file["queries"]
    tables = {"rows": rng.normal(size=(50, 16)), "columns": rng.normal(size=(50, 16))}
    tables |= {"queries_0": queries, "queries_1": queries[:4]}
    found = {published_hsg.TABLES[name]: array for name, array in tables.items()}
    for prefix in published_hsg.LEVELS.values():
        found |= {prefix + name: array for name, array in one.items()}
    return found


@pytest.fixture(scope="module")
def resnet():
    """Arrays of resnet_test under torchvision's names."""
    rng = np.random.default_rng(0)
    found = {"conv1.weight": rng.normal(size=(4, 3, 7, 7))} | _norm(rng, "bn1", 4)
    before = 4
    for stage, count in enumerate((1, 1, 1, 3)):
        inner, out = 4 * 2**stage, 16 * 2**stage
        for block in range(count):
            name = f"layer{stage + 1}.{block}"
            shapes = [(inner, before, 1, 1), (inner, inner, 3, 3), (out, inner, 1, 1)]
            for i, shape in enumerate(shapes, 1):
                found[f"{name}.conv{i}.weight"] = rng.normal(size=shape)
                found |= _norm(rng, f"{name}.bn{i}", shape[0])
            if block == 0:
                found[f"{name}.downsample.0.weight"] = rng.normal(size=(out, before, 1, 1))
                found |= _norm(rng, f"{name}.downsample.1", out)
            before = out
    return found


def _norm(rng, name, channels):
    kinds = ("weight", "bias", "running_mean", "running_var")
    found = {f"{name}.{kind}": rng.uniform(0.5, 1, channels) for kind in kinds}
    return found | {f"{name}.num_batches_tracked": np.asarray(7)}


def run(source, out, arch="", name=""):
    return command.convert(source, out, arch, HALF, HALF, name)


def test_an_npz_of_half_precision_becomes_a_weights_file(vit, tmp_path):
    halves = {name: array.astype(np.float16) for name, array in vit.items()}
    np.savez(tmp_path / "dino.npz", **halves, **{"head.weight": np.zeros((9, 48))})
    lines = run(tmp_path / "dino.npz", tmp_path / "out.safetensors", name="a small one")
    assert "vit_test" in lines[0]
    assert lines[1] == "left out (1): head.weight"
    tree, meta = weights.read_weights(tmp_path / "out.safetensors")
    assert (meta["architecture"], meta["name"]) == ("vit_test", "a small one")
    np.testing.assert_array_equal(tree["mean"], HALF)
    kernel = tree["params"]["block1"]["up"]["kernel"]
    assert kernel.dtype == np.float32
    np.testing.assert_array_equal(kernel, halves["blocks.1.mlp.fc1.weight"].T)
    abstract = jax.eval_shape(Backbone("vit_test").init, jax.random.key(0))
    weights.load_into(abstract, tmp_path / "out.safetensors")


@pytest.mark.parametrize("prefix", ["", "module.encoder_q.", "teacher.backbone."])
def test_safetensors_in_the_wrappers_of_moco_and_dino(resnet, prefix, tmp_path):
    wrapped = {prefix + name: np.asarray(array, np.float32) for name, array in resnet.items()}
    beside = {} if not prefix else {"module.queue": np.zeros((2, 2), np.float32)}
    safetensors.numpy.save_file(wrapped | beside, tmp_path / "in.safetensors")
    lines = run(tmp_path / "in.safetensors", tmp_path / "out.safetensors", "resnet_test")
    assert lines[1:] == (["left out (1): module.queue"] if prefix else [])
    tree, meta = weights.read_weights(tmp_path / "out.safetensors")
    assert meta["name"] == "in.safetensors"
    mean = tree["stats"]["res3_0"]["norm2"]["mean"]
    np.testing.assert_allclose(mean, resnet["layer2.0.bn2.running_mean"], rtol=1e-6)


def test_bfloat16_is_read(vit, tmp_path):
    halves = {name: np.asarray(array, jax.numpy.bfloat16) for name, array in vit.items()}
    safetensors.numpy.save_file(halves, tmp_path / "in.safetensors")
    run(tmp_path / "in.safetensors", tmp_path / "out.safetensors", "vit_test")
    tree, _ = weights.read_weights(tmp_path / "out.safetensors")
    np.testing.assert_allclose(tree["params"]["cls"], vit["cls_token"][0, 0], rtol=1e-2)


def test_the_architecture_is_found(resnet, tmp_path):
    np.savez(tmp_path / "in.npz", **resnet)
    assert "resnet_test" in run(tmp_path / "in.npz", tmp_path / "out.safetensors")[0]
    resnet = {key: value for key, value in resnet.items() if not key.startswith("layer4.2.")}
    np.savez(tmp_path / "in.npz", **resnet)
    with pytest.raises(UserError, match=r"the shapes of none of .*resnet50"):
        run(tmp_path / "in.npz", tmp_path / "out.safetensors")


def test_another_architecture_lists_what_differs(vit, tmp_path):
    names = [name for name in vit if not name.startswith("blocks.2.norm1")]
    named = {name: vit[name] for name in names} | {"decoder.weight": np.zeros((2, 2))}
    named["norm.bias"] = np.zeros(47)
    np.savez(tmp_path / "in.npz", **named)
    with pytest.raises(UserError) as caught:
        run(tmp_path / "in.npz", tmp_path / "out.safetensors", "vit_test")
    message = str(caught.value)
    assert "in.npz is not of the architecture vit_test" in message
    assert "Missing (2): params/block2/norm1/" in message
    assert "Unexpected (1): params/decoder/kernel." in message
    assert "Mis-shaped (1): params/norm/bias is [47] and should be [48]." in message
    assert not (tmp_path / "out.safetensors").exists()
    np.savez(tmp_path / "in.npz", **vit)
    with pytest.raises(UserError, match=r"not of the architecture resnet50.*Missing \(\d+\): "):
        run(tmp_path / "in.npz", tmp_path / "out.safetensors", "resnet50")


def hsg():
    """Returns a small HSG and the shapes of its state."""
    method = HSG(backbone="resnet_tiny", dim=32, hidden=64, dropout=0.0, trained_cells=2)
    spec = Batch(
        index=jax.ShapeDtypeStruct((2,), np.int32),
        seed=jax.ShapeDtypeStruct((2,), np.uint32),
        image=jax.ShapeDtypeStruct((2, 1, 32, 32, 3), np.uint8),
    )
    shapes = jax.eval_shape(lambda key: method.init(key, spec), jax.random.key(0))
    return method, shapes


def check_groups(method, state, queries):
    """Checks that the fine level of a state groups as the reference does."""
    params, stats = state.params["grouping"], state.extra["grouping"]
    with np.load(GOLDEN / "clustering_transformer.npz") as file:
        golden = dict(file)
    variables = {"params": params["level_0"], "batch_stats": stats["level_0"]}
    inputs = golden["segments"], golden["positions"], queries, ~golden["padding"]
    level = method._hierarchy.transformer(masked_std="code")
    groups = jax.jit(level.apply)(variables, *inputs)
    order = np.argsort(-np.max(groups.logits, axis=1), axis=1)
    logits = np.take_along_axis(np.asarray(groups.logits), order[:, None], 2)
    np.testing.assert_allclose(logits, golden["eval_logits"], rtol=1e-4, atol=1e-6)
    centroids = np.take_along_axis(np.asarray(groups.centroids), order[..., None], 1)
    expected = golden["eval_centroids_for_assignment"]
    np.testing.assert_allclose(centroids, expected, rtol=1e-4, atol=1e-6)


def test_hsg_s_transformers_group_as_published(transformers, tmp_path):
    """From a file of the whole network, through the command, into HSG: the golden values."""
    beside = {"model.head.weight": np.zeros(3), "model.pos_embed.num_batches_tracked": np.zeros(())}
    published = {f"model.{name}": array for name, array in transformers.items()}
    np.savez(tmp_path / "hsg.npz", **published | beside)
    out = tmp_path / "out.safetensors"
    lines = run(tmp_path / "hsg.npz", out)
    assert lines[0].startswith(f"{out}: hsg_clustering_transformer, ")
    assert "mean" not in lines[0]
    assert lines[1].startswith("left out (6): coarse_hrchy_transformer.centroid_feat_fc.1.weight")
    again = run(tmp_path / "hsg.npz", tmp_path / "again.safetensors", published_hsg.ARCHITECTURE)
    assert again[0].rpartition(" ")[2] == lines[0].rpartition(" ")[2]  # the hash

    method, shapes = hsg()
    found = Weights.read("grouping_weights", out, shapes)
    assert "hsg.npz (hsg_clustering_transformer, " in found.line
    state = found.put(shapes)
    assert weights.shapes(state.params["grouping"]) == weights.shapes(shapes.params["grouping"])
    assert weights.shapes(state.extra["grouping"]) == weights.shapes(shapes.extra["grouping"])
    check_groups(method, state, state.params["grouping"]["queries_0"])
    with pytest.raises(UserError, match=r"hsg_clustering_transformer\) does not fit this backbone"):
        Weights.read("weights", out, shapes)


def test_a_transformer_by_itself_is_that_of_the_fine_level(tmp_path):
    """The golden files themselves are files of weights, beside other arrays."""
    out = tmp_path / "out.safetensors"
    lines = run(GOLDEN / "clustering_transformer.npz", out)
    assert lines[0].startswith(f"{out}: hsg_clustering_transformer, ")
    assert "segments" in lines[1]
    method, shapes = hsg()
    drawn = jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), shapes)
    state = Weights.read("grouping_weights", out, shapes).put(drawn)
    with np.load(GOLDEN / "clustering_transformer.npz") as file:
        check_groups(method, state, file["queries"])
    for part in ("params", "extra"):
        ours, before = getattr(state, part)["grouping"], getattr(drawn, part)["grouping"]
        assert weights.shapes(ours) == weights.shapes(before)
        for name in before.keys() - {"level_0"}:
            assert ours[name] is before[name]


def test_transformers_without_statistics_begin_with_fresh_ones(tmp_path):
    out = tmp_path / "out.safetensors"
    with np.load(GOLDEN / "hsg_losses.npz") as file:
        queries = file["w/coarse_query_embed._query_embedding.weight"]
    assert "no running statistics" in run(GOLDEN / "hsg_losses.npz", out)[1]
    _, shapes = hsg()
    state = Weights.read("grouping_weights", out, shapes).put(shapes)
    np.testing.assert_array_equal(state.params["grouping"]["queries_1"], queries)
    norm = state.extra["grouping"]["level_1"]["encoder0"]["norm1"]
    assert (norm["mean"].tolist(), norm["var"].tolist()) == ([0] * 32, [1] * 32)


def test_transformers_that_are_not_hsg_s_list_what_differs(transformers, tmp_path):
    name = "fine_hrchy_transformer._transformer.encoder.layers.1.linear1.weight"
    changed = {k: v for k, v in transformers.items() if "coarse_query" not in k}
    changed |= {name: np.zeros((64, 31)), "fine_hrchy_transformer.extra.weight": np.zeros(3)}
    np.savez(tmp_path / "in.npz", **changed)
    with pytest.raises(UserError) as caught:
        run(tmp_path / "in.npz", tmp_path / "out.safetensors")
    message = str(caught.value)
    assert "in.npz is not of the architecture hsg_clustering_transformer" in message
    assert "Missing (1): params/queries_1." in message
    assert "Unexpected (1): params/level_0/extra/scale." in message
    assert "params/level_0/encoder1/up/kernel is [31, 64] and should be [32, 64]." in message
    fewer = {k: v for k, v in transformers.items() if "running_mean" not in k}
    np.savez(tmp_path / "in.npz", **fewer)
    with pytest.raises(UserError, match=r"Missing \(\d+\): stats/level_0/"):
        run(tmp_path / "in.npz", tmp_path / "out.safetensors")
    np.savez(tmp_path / "in.npz", weight=np.zeros(3))
    with pytest.raises(UserError, match=r"nothing under the names of HSG.*begins with weight"):
        run(tmp_path / "in.npz", tmp_path / "out.safetensors", "hsg_clustering_transformer")


def test_files_without_a_network_or_with_broken_numbers(vit, tmp_path):
    np.savez(tmp_path / "in.npz", weight=np.zeros(3))
    with pytest.raises(UserError, match=r"no Vision Transformer or ResNet.*begins with weight"):
        run(tmp_path / "in.npz", tmp_path / "out.safetensors")
    for array, what in ((np.array("x"), "pos_embed is of type <U1"), (np.zeros(()), "no network")):
        np.savez(tmp_path / "in.npz", **vit | {"pos_embed": array})
        with pytest.raises(UserError, match=rf"in\.npz .*{what}"):
            run(tmp_path / "in.npz", tmp_path / "out.safetensors")
    np.savez(tmp_path / "in.npz", **vit | {"norm.bias": np.full(48, np.nan)})
    with pytest.raises(UserError, match=r"params/norm/bias has values that are not finite"):
        run(tmp_path / "in.npz", tmp_path / "out.safetensors", "vit_test")


@pytest.mark.parametrize("name", ["in.npz", "in.safetensors", "in.txt", "absent.npz"])
def test_unreadable_files_are_named(name, tmp_path):
    for kind in ("in.npz", "in.safetensors", "in.txt"):
        (tmp_path / kind).write_bytes(b"this is no array" * 9)
    with pytest.raises(UserError, match=name.replace(".", r"\.")):
        run(tmp_path / name, tmp_path / "out.safetensors")


def test_flags_are_checked(tmp_path):
    for out in ("out.npz", "absent/out.safetensors"):
        with pytest.raises(UserError, match=r"--out is .*safetensors file in a folder"):
            run(tmp_path / "in.npz", tmp_path / out)
    with pytest.raises(UserError, match=r"'vit_huge' is none of"):
        run(tmp_path / "in.npz", tmp_path / "out.safetensors", "vit_huge")
    assert (
        command.numbers("--mean", "0.1,0.2,0.3", ()).tolist()
        == np.float32([0.1, 0.2, 0.3]).tolist()
    )
    for text in ("0.5", "a,b,c", "1,2,nan", ""):
        with pytest.raises(UserError, match=r"--mean is .*three numbers"):
            command.numbers("--mean", text, (0, 0, 0))
    with pytest.raises(UserError, match="--std"):
        command.numbers("--std", "0.5,0,0.5", (1, 1, 1))


class Bomb:
    """Creates a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (pathlib.Path.touch, (pathlib.Path(self.path),))


def malicious_files(folder, mark):
    """Files of every kind that create `mark` where they are unpickled."""
    bomb = Bomb(str(mark))
    (folder / "old.pth").write_bytes(pickle.dumps({"cls_token": bomb}, protocol=2))
    for name in ("new.pth", "new.pth.tar", "new.bin"):
        with zipfile.ZipFile(folder / name, "w") as file:
            file.writestr("archive/data.pkl", pickle.dumps({"cls_token": bomb}, protocol=2))
            file.writestr("archive/version", "3\n")
    np.savez(folder / "objects.npz", cls_token=np.array([bomb], dtype=object))
    (folder / "pickle.npz").write_bytes(pickle.dumps(bomb))
    (folder / "pickle.safetensors").write_bytes(pickle.dumps(bomb))
    return sorted(path for path in folder.iterdir() if path.is_file())


def test_nothing_in_a_file_is_ever_executed(tmp_path):
    """Without torch, a .pth asks for it; with torch, its weights-only loader refuses."""
    mark = tmp_path / "executed"
    files = malicious_files(tmp_path, mark)
    assert len(files) == 7
    for path in files:
        with pytest.raises(UserError) as caught:
            run(path, tmp_path / "out.safetensors", "vit_test")
        assert not mark.exists(), f"{path.name} was executed"
        assert path.name in str(caught.value)
    # The bombs are live: what jaxseg refuses to do would have created the file.
    pickle.loads((tmp_path / "pickle.npz").read_bytes())
    assert mark.exists()


def test_without_torch_a_pth_names_the_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    (tmp_path / "in.pth").write_bytes(b"")
    with pytest.raises(UserError, match=r"in\.pth is a PyTorch file.*jaxseg\[torch\]"):
        run(tmp_path / "in.pth", tmp_path / "out.safetensors")


def test_with_torch_a_pth_is_read(vit, resnet, tmp_path):
    torch = pytest.importorskip("torch")
    nested = {
        "epoch": 3,
        "args": argparse.Namespace(arch="vit_test"),
        "student": {f"module.backbone.{k}": torch.zeros(v.shape) for k, v in vit.items()},
        "teacher": {f"backbone.{k}": torch.tensor(v).bfloat16() for k, v in vit.items()},
    }
    torch.save(nested, tmp_path / "dino.pth")
    run(tmp_path / "dino.pth", tmp_path / "out.safetensors", "vit_test")
    tree, _ = weights.read_weights(tmp_path / "out.safetensors")
    np.testing.assert_allclose(tree["params"]["cls"], vit["cls_token"][0, 0], rtol=1e-2)
    state = {f"module.encoder_{e}.{k}": torch.tensor(v) for e in "qk" for k, v in resnet.items()}
    for legacy in (False, True):
        torch.save(
            {"arch": "resnet50", "state_dict": state},
            tmp_path / "moco.pth.tar",
            _use_new_zipfile_serialization=not legacy,
        )
        assert "resnet_test" in run(tmp_path / "moco.pth.tar", tmp_path / "out.safetensors")[0]
    torch.save({"model": state, "args": pathlib.Path("x")}, tmp_path / "args.pth")
    with pytest.raises(UserError, match=r"holds more than arrays.*state_dict"):
        run(tmp_path / "args.pth", tmp_path / "out.safetensors")
    (tmp_path / "cut.pth").write_bytes((tmp_path / "dino.pth").read_bytes()[:999])
    with pytest.raises(UserError, match=r"cut\.pth is damaged"):
        run(tmp_path / "cut.pth", tmp_path / "out.safetensors")
    torch.save([1, 2], tmp_path / "list.pth")
    with pytest.raises(UserError, match="no Vision Transformer or ResNet"):
        run(tmp_path / "list.pth", tmp_path / "out.safetensors")


def test_the_command_line(vit, tmp_path):
    np.savez(tmp_path / "in.npz", **vit)
    command.main([str(tmp_path / "in.npz"), f"--out={tmp_path / 'o.safetensors'}", "--std=1,1,2"])
    tree, _ = weights.read_weights(tmp_path / "o.safetensors")
    np.testing.assert_allclose(tree["mean"], [0.485, 0.456, 0.406], rtol=1e-6)
    np.testing.assert_array_equal(tree["std"], [1, 1, 2])
    found = subprocess.run(
        [sys.executable, "-m", "jaxseg.convert", "absent.npz", "--out=o.safetensors"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert found.returncode == 1
    assert found.stderr.startswith("jaxseg: There is no file absent.npz")


def test_real_vit_tiny_has_the_expected_tokens(real_data, tmp_path):
    folder = real_data("weights")
    source = folder / "vit_tiny_patch16_224_imagenet_supervised.npz"
    lines = run(source, tmp_path / "vit.safetensors", "vit_tiny_16")
    assert "5,524,416 values" in lines[0]
    backbone = Backbone("vit_tiny_16")
    tree = jax.eval_shape(backbone.init, jax.random.key(0))
    tree, _ = weights.load_into(tree, tmp_path / "vit.safetensors")
    with np.load(folder / "vit_tiny_expected.npz") as file:
        image, tokens = file["input_uint8"], file["tokens_after_final_norm"]
    features = jax.jit(backbone.features)(tree, image)
    assert features.shape == (4, 14, 14, 192)
    # Tokens reach 30 and are 3 in the mean; the expected ones were computed in float64.
    expected = tokens[:, 1:].reshape(features.shape)
    np.testing.assert_allclose(features, expected, rtol=1e-3, atol=1e-3)
