"""HSG's networks: heads by hand, and one tree for all strides."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxseg.core import UserError
from jaxseg.models import weights
from jaxseg.models.fcn import FCNHead
from jaxseg.models.pixel_net import PixelNet
from jaxseg.models.pspnet import PSPHead, adaptive_average

X = np.random.default_rng(0).normal(size=(2, 7, 5, 6)).astype(np.float32)
TINY = PixelNet("resnet_tiny", 8)


def normalised(x, scale=1.0):
    """BatchNorm in training mode, of fresh parameters."""
    axes = tuple(range(x.ndim - 1))
    return scale * (x - x.mean(axes)) / np.sqrt(x.var(axes) + 1e-5)


def up(x, like):
    shape = (*like.shape[:3], x.shape[-1])
    return np.asarray(jax.image.resize(jnp.asarray(x), shape, "bilinear", antialias=False))


def pooled_by_hand(x, cells):
    """Torch's adaptive average pooling: bin i is floor(i h / n) to ceil((i + 1) h / n)."""
    found = np.zeros((len(x), cells, cells, x.shape[-1]))
    edges = [
        [(int(np.floor(i * n / cells)), int(np.ceil((i + 1) * n / cells))) for i in range(cells)]
        for n in x.shape[1:3]
    ]
    for i, (top, bottom) in enumerate(edges[0]):
        for j, (left, right) in enumerate(edges[1]):
            found[:, i, j] = x[:, top:bottom, left:right].mean((1, 2))
    return found


@pytest.mark.parametrize("cells", [1, 2, 3, 6, 9])
def test_adaptive_average_pooling_is_that_of_torch(cells):
    np.testing.assert_allclose(adaptive_average(X, cells), pooled_by_hand(X, cells), atol=1e-6)


def test_the_fcn_head_by_hand():
    head = FCNHead(4)
    variables = head.init(jax.random.key(0), X, train=False)
    params = jax.tree.map(np.asarray, variables["params"])
    assert weights.shapes(params) == {
        "hidden/kernel": (6, 6),
        "norm/scale": (6,),
        "norm/bias": (6,),
        "out/kernel": (6, 4),
        "out/bias": (4,),
    }
    found, _ = head.apply(variables, X, True, mutable=["batch_stats"])
    hidden = np.maximum(normalised(X @ params["hidden"]["kernel"]), 0)
    expected = hidden @ params["out"]["kernel"] + params["out"]["bias"]
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_the_psp_head_by_hand():
    head = PSPHead(4, width=3, grids=(1, 2))
    variables = head.init(jax.random.key(0), X, train=False)
    params = jax.tree.map(np.asarray, variables["params"])
    found, stats = head.apply(variables, X, True, mutable=["batch_stats"])
    maps = [X]
    for i, cells in enumerate((1, 2)):
        inner = pooled_by_hand(X, cells) @ params[f"grid{i}"]["kernel"]
        maps.append(up(np.maximum(normalised(inner), 0), X))
    maps = np.pad(np.concatenate(maps, -1), ((0, 0), (1, 1), (1, 1), (0, 0)))
    hidden = sum(
        maps[:, y : y + 7, x : x + 5] @ params["hidden"]["kernel"][y, x]
        for y in range(3)
        for x in range(3)
    )
    expected = np.maximum(normalised(hidden), 0) @ params["out"]["kernel"] + params["out"]["bias"]
    np.testing.assert_allclose(found, expected, atol=1e-4)
    assert set(stats["batch_stats"]) == {"grid0_norm", "grid1_norm", "norm"}


def test_heads_begin_as_in_torch():
    fcn = FCNHead(128).init(jax.random.key(0), jnp.zeros((1, 1, 1, 400)), False)["params"]
    for array in (fcn["hidden"]["kernel"], fcn["out"]["kernel"], fcn["out"]["bias"]):
        assert np.abs(array).max() == pytest.approx(400**-0.5, rel=0.05)
    psp = PSPHead(8, width=16, grids=(2,)).init(jax.random.key(0), X, False)["params"]
    assert np.abs(psp["hidden"]["kernel"]).max() == pytest.approx((9 * 22) ** -0.5, rel=0.05)


@pytest.mark.parametrize(("head", "hidden"), [("fcn", (2048, 2048)), ("psp", (3, 3, 4096, 512))])
def test_sizes_of_the_paper(head, hidden):
    """448 pixels: 28 cells of 16 in training, 56 of 8 in testing; PSPNet trains on 56 too."""
    net = PixelNet("resnet50", 128, head, cell=8 if head == "psp" else 0)
    params, rest = jax.eval_shape(net.init, jax.random.key(0))
    assert params["head"]["hidden"]["kernel"].shape == hidden
    image = jax.ShapeDtypeStruct((2, 448, 448, 3), jnp.float32)
    for train in (True, False):
        found, after = jax.eval_shape(lambda *a, t=train: net.features(*a, t), params, rest, image)
        cells = 448 // net.cell_side(train)
        assert cells == (28 if train and head == "fcn" else 56)
        assert found.shape == (2, cells, cells, 128)
        assert jax.tree.structure(after) == jax.tree.structure(rest)


def test_training_and_testing_on_one_tree():
    params, rest = TINY.init(jax.random.key(0))
    assert set(params) == {"backbone", "head"}
    assert set(rest["backbone"]) == {"stats", "mean", "std"}
    image = jax.random.uniform(jax.random.key(1), (2, 40, 33, 4))
    for train, shape in ((True, (2, 3, 3, 8)), (False, (2, 5, 5, 8))):
        run = jax.jit(lambda *a, train=train: TINY.features(*a, train))
        found, after = run(params, rest, image)
        assert found.shape == shape
        np.testing.assert_allclose(np.linalg.norm(found, axis=-1), 1, rtol=1e-5)
        for part in ("backbone", "head"):
            same = jax.tree.map(np.array_equal, after[part]["stats"], rest[part]["stats"])
            assert set(jax.tree.leaves(same)) == ({False} if train else {True})


def test_the_test_stride_refines_the_map_of_the_training_stride():
    """Every second cell at stride 8 is a cell at stride 16: both read the same pixels."""
    coarse, fine = (PixelNet("resnet_test", 8, test_stride=stride) for stride in (16, 8))
    params, rest = fine.init(jax.random.key(0))
    image = jax.random.uniform(jax.random.key(1), (1, 64, 64, 3))
    found, expected = (
        jax.jit(lambda *a, net=net: net.features(*a, False)[0])(params, rest, image)
        for net in (fine, coarse)
    )
    np.testing.assert_allclose(found[:, ::2, ::2], expected, atol=1e-5)


def test_rematerialising_changes_no_gradient():
    image = jax.random.uniform(jax.random.key(1), (2, 32, 32, 3))
    target = jax.random.normal(jax.random.key(2), (2, 4, 4, 8))
    grads = {}
    for remat in (False, True):
        net = PixelNet("resnet_tiny", 8, train_stride=8, remat=remat)
        params, rest = net.init(jax.random.key(0))

        def loss(params, net=net, rest=rest):
            found, after = net.features(params, rest, image, True)
            return (found * target).sum(), after

        program = jax.make_jaxpr(jax.grad(loss, has_aux=True))(params)
        assert ("remat" in str(program)) == remat
        grads[remat] = jax.jit(jax.grad(loss, has_aux=True))(params)
    for one, two in zip(*map(jax.tree.leaves, grads.values()), strict=True):
        np.testing.assert_allclose(one, two, atol=1e-4)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"arch": "vit_test"}, "method.backbone is 'vit_test'"),
        ({"head": "fpn"}, "method.head is 'fpn'; it is one of fcn, psp"),
        ({"train_stride": 4}, "method.train_stride is 4; it is one of 32, 16, 8"),
        ({"cell": 16}, "method.cell is 16"),
        ({"multi_grid": (1, 2)}, "3 blocks"),
    ],
)
def test_what_there_is_not(fields, words):
    with pytest.raises(UserError, match=words):
        PixelNet(**{"arch": "resnet50", "dim": 8} | fields)
