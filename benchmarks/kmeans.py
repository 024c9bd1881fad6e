"""Points/s of k-means against scikit-learn and FAISS, in one process, as JSON.

python benchmarks/kmeans.py --points=1000000 --clusters=27,512

Unit vectors of 128 dimensions around `--centres` directions, float32, Euclidean; all libraries
start from the same points and take every point. `fit` is a run of 20 Lloyd rounds with all its
preparation; `round` is one of them, the difference to a run of one round divided by 19, so that no
preparation counts. The libraries take turns, and the best of `--repeats` counts. `cpu_seconds` is
the processor time of all threads, which other programs on the machine disturb less than the time on
the wall. FAISS is left out where faiss-cpu is not installed. `ratio` is the time of the faster of
the others over ours: 1 or more is a win.
"""

import argparse
import functools
import json
import time
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from sklearn.cluster import KMeans

from jaxseg.clustering import streaming_kmeans

try:
    import faiss
except ImportError:
    faiss = None

FIT_ROUNDS = 20


def make_points(count: int, size: int, centres: int) -> np.ndarray:
    """Returns unit vectors f32[count size] in overlapping groups, as pixel features are."""
    rng = np.random.default_rng(0)
    directions = rng.normal(size=(centres, size)).astype(np.float32)
    points = directions[rng.integers(0, centres, count)]
    points += 1.5 * rng.standard_normal((count, size), np.float32)
    return points / np.linalg.norm(points, axis=1, keepdims=True)


def contenders(points: np.ndarray, start: np.ndarray) -> dict[str, Callable[[int], object]]:
    """Returns functions from a number of rounds to centroids, by library."""
    batch = [(jnp.asarray(points), jnp.ones(len(points)))]
    k, size = start.shape

    def ours(rounds: int) -> object:
        return streaming_kmeans.lloyd(lambda: batch, start, rounds)

    def scikit_learn(rounds: int) -> object:
        return KMeans(k, init=start, n_init=1, max_iter=rounds, tol=0, algorithm="lloyd").fit(
            points
        )

    def of_faiss(rounds: int) -> object:
        fit = faiss.Kmeans(
            size, k, niter=rounds, max_points_per_centroid=10**7, min_points_per_centroid=1
        )
        fit.train(points, init_centroids=start)
        return fit

    found = {"jaxseg": ours, "scikit-learn": scikit_learn}
    return found | ({"faiss": of_faiss} if faiss else {})


def seconds(function: Callable[[], object]) -> np.ndarray:
    """Returns wall and processor time of a call, f64[2]."""
    wall, cpu = time.perf_counter(), time.process_time()
    function()
    return np.array([time.perf_counter() - wall, time.process_time() - cpu])


def measure(points: np.ndarray, k: int, repeats: int) -> dict:
    """Returns seconds and ratios for one number of clusters."""
    runs = contenders(points, points[:k].copy())
    runs["jaxseg"](1)  # compiles
    times: dict = {name: {1: [], FIT_ROUNDS: []} for name in runs}
    for _ in range(repeats):
        for name, run in runs.items():
            for rounds, found in times[name].items():
                found.append(seconds(functools.partial(run, rounds)))
    best = {n: {r: np.min(t, axis=0) for r, t in of.items()} for n, of in times.items()}
    spent = {
        "fit": {name: of[FIT_ROUNDS] for name, of in best.items()},
        "round": {n: (of[FIT_ROUNDS] - of[1]) / (FIT_ROUNDS - 1) for n, of in best.items()},
    }
    result = {}
    for task, by_name in spent.items():
        others = np.min([t for name, t in by_name.items() if name != "jaxseg"], axis=0)
        ratio = others / by_name["jaxseg"]
        points_done = len(points) * (FIT_ROUNDS if task == "fit" else 1)
        result[task] = {
            "seconds": {name: round(float(t[0]), 4) for name, t in by_name.items()},
            "cpu_seconds": {name: round(float(t[1]), 4) for name, t in by_name.items()},
            "points_per_second": round(points_done / float(by_name["jaxseg"][0])),
            "ratio": round(float(ratio[0]), 2),
            "ratio_cpu": round(float(ratio[1]), 2),
        }
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--points", type=int, default=1_000_000)
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--clusters", default="27,512")
    parser.add_argument("--centres", type=int, default=64)
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    points = make_points(arguments.points, arguments.size, arguments.centres)
    result = {
        f"{arguments.points} x {arguments.size} x {k}": measure(points, k, arguments.repeats)
        for k in map(int, arguments.clusters.split(","))
    }
    print(json.dumps(result | {"device": str(jax.devices()[0])}, indent=2))


if __name__ == "__main__":
    main()
