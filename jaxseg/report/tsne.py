"""t-SNE (van der Maaten and Hinton 2008) of feature vectors, for pictures."""

import numpy as np
from sklearn.manifold import TSNE
from threadpoolctl import threadpool_limits


def places(vectors: np.ndarray) -> np.ndarray:
    """Returns places f32[N 2] of vectors f[N D], near where their cosine is high; always the same.

    Fewer than three vectors all lie at the origin.
    """
    if len(vectors) < 3:
        return np.zeros((len(vectors), 2), np.float32)
    perplexity = min(30.0, (len(vectors) - 1) / 3)
    placed = TSNE(metric="cosine", init="random", perplexity=perplexity, random_state=0)
    # Its threads wait for one another by spinning: where other programs want the cores, several
    # take many times as long as one.
    with threadpool_limits(limits=1):
        return placed.fit_transform(np.asarray(vectors, np.float32))
