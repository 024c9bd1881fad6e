"""Scores on disturbed images, of a prediction that is known."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxseg import robustness
from jaxseg.core import Batch, Output, UserError
from jaxseg.evaluate import Evaluator
from jaxseg.evaluation.probes import Argmax
from jaxseg.sections import EvalSection


@jax.jit
def predict(image):
    """Cluster 0 is red, cluster 1 is not."""
    red = image[..., :1].astype(jnp.float32) / 255
    rest = image[..., 1:2].astype(jnp.float32) / 255
    return Output(features=red, logits=jnp.concatenate([red - rest, rest - red], -1))


def make_evaluator(labelled=True) -> Evaluator:
    """Two images whose left is red and of class 1, and whose right is green and of class 0."""
    image = np.zeros((2, 1, 8, 8, 3), np.uint8)
    image[..., :4, 0], image[..., 4:, 1] = 250, 250
    label = np.zeros((2, 8, 8), np.int32)
    label[..., :4] = 1
    batch = Batch(
        index=jnp.arange(2),
        seed=jnp.zeros(2, jnp.uint32),
        image=jnp.asarray(image),
        size=jnp.full((2, 1, 2), 8),
        label={"class": jnp.asarray(label)} if labelled else {},
    )

    def stream(batch_size=None, limit=None):
        return [batch]

    return Evaluator("toy", Argmax(), stream, stream, stream, ("right", "left"))


def test_labels_go_with_the_image_and_clusters_keep_their_classes():
    evaluators = {
        "toy": (EvalSection(), make_evaluator()),
        "crf": (EvalSection(refine="crf"), make_evaluator()),
        "colour": (EvalSection(model="colour"), make_evaluator()),
    }
    found = robustness.measure(evaluators, lambda model: predict, jax.random.key(0))
    assert list(found) == ["toy"]
    scored = {name: r.scalars["accuracy"] for name, r in found["toy"].items()}
    assert scored["none"] == scored["flip"] == scored["brightness"] == 1
    # Grey has no red: half of the pixels are taken for the other cluster, which stays class 0.
    assert scored["grey"] == pytest.approx(0.5)
    assert found["toy"]["grey"].match.tolist() == [1, 0]
    # Bilinear at the border of the halves, labels by the nearest pixel.
    assert scored["crop"] > 0.9
    for result in found["toy"].values():
        assert set(result.scalars) == {"accuracy", "miou"}
    lines = robustness.table(found).splitlines()
    assert lines[0].split() == ["Acc,", "mIoU", "%", "toy"]
    assert lines[1].split() == ["none", "100.0", "100.0"]
    assert len(lines) == 2 + len(robustness.DISTURBANCES)


def test_what_cannot_be_scored():
    for section, labelled, message in (
        (EvalSection(), False, "needs a test split with labels"),
        (EvalSection(model="colour"), True, "model='trained'"),
    ):
        evaluators = {"toy": (section, make_evaluator(labelled))}
        with pytest.raises(UserError, match=message):
            robustness.measure(evaluators, lambda model: predict, jax.random.key(0))
