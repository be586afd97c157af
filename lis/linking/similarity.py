"""Are R and W ordered alike? Clustering by class (ARI) and representational similarity (RSA; paper §4.1, Fig. 3A)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from omegaconf import MISSING
from scipy.spatial.distance import pdist
from sklearn.cluster import KMeans
from sklearn.metrics import adjusted_rand_score

from lis.config import RunConfig
from lis.config.fields import number
from lis.context import Context
from lis.linking.pairs import test_pairs
from lis.peaks import no_images
from lis.stage import stage
from lis.store import Artifact, Draft
from lis.streams import Stream

INITIALISATIONS = 20
"""Random starts of k-means, of which the best is taken (paper, Fig. 3)."""

Array = NDArray[np.floating[Any]]


def cluster_agreement(x: Array, labels: NDArray[np.integer[Any]], seed: int) -> float:
    """Adjusted Rand index between classes and k-means clusters, k = number of classes.

    Args:
        x: `[samples, width]`.
        labels: class of each sample, `[samples]`.
        seed: of k-means; below 2³².

    Returns:
        1 for clusters that are the classes, 0 on average for clusters at random (Hubert & Arabie 1985).
    """
    k = len(np.unique(labels))
    means = KMeans(k, n_init=INITIALISATIONS, random_state=seed)  # pyright: ignore[reportArgumentType]: untyped
    clusters = means.fit_predict(_rotated(x))
    return float(adjusted_rand_score(labels, clusters))


def representational_similarity(r: Array, w: Array) -> tuple[float, float]:
    """Correlations between the (dis)similarity matrices of R and W (Kriegeskorte et al. 2008).

    Args:
        r: `[samples, units]`.
        w: the same samples, `[samples, w_dim]`.

    Returns:
        Pearson's r between the upper triangles of the matrices of pairwise correlations, and of those of Euclidean
        distances; in [-1, 1]. NaN where a sample is constant, or all pairs are alike.

    Raises:
        ValueError: fewer than three samples, or not as many in r as in w.
    """
    if len(r) != len(w) or len(r) < 3:
        raise ValueError(f"{len(r)} samples of r and {len(w)} of w: expected the same number, 3 or more")
    similarity = _pearson(_correlations(r), _correlations(w))
    return similarity, _pearson(pdist(np.asarray(r, np.float64)), pdist(np.asarray(w, np.float64)))


@dataclass
class SimilarityConfig:
    """ARI and RSA of R and W (Fig. 3A)."""

    repetitions: int = number(MISSING, low=1)
    examples: int = number(MISSING, low=2)
    """Samples per class in each repetition."""


def problems(config: RunConfig) -> list[str]:
    """More examples per class than there are test pairs, or too few for a matrix."""
    examples, classes, result = config.similarity.examples, len(config.classes.names), []
    if examples > config.pairs.test:
        result.append(
            f"similarity.examples={examples}: expected at most pairs.test={config.pairs.test}, the pairs per class "
            "that there are to choose from"
        )
    if 0 < examples * classes < 3:  # no class at all is told with the names there are
        result.append(
            f"similarity.examples={examples} of {classes} classes: expected 3 or more samples in all (raise it, or "
            "leave similarity out of analysis.stages)"
        )
    return result


@stage(
    "similarity",
    version=1,
    inputs=(test_pairs,),
    config=SimilarityConfig,
    seed=True,
    problems=problems,
    images=no_images,
)
def similarity(ctx: Context, config: SimilarityConfig, test: Artifact, draft: Draft) -> None:
    """ARI and RSA of R and W over random subsets of the test pairs.

    Table "similarity": repetition, ari_r, ari_w, rsa_similarity, rsa_dissimilarity.

    Raises:
        ValueError: what `problems` says.
    """
    tensors = test.tensors("pairs")
    r, w, labels = (tensors[name].numpy() for name in ("r", "w", "class_index"))
    stream = Stream("similarity", ctx.config.seed)
    rows = []
    for repetition in ctx.progress.track(range(config.repetitions), label="similarity of R and W"):
        rng = stream.rng(index=repetition)
        chosen = draw(labels, config.examples, rng)
        seed = int(rng.integers(2**32))
        agreement = [cluster_agreement(x[chosen], labels[chosen], seed) for x in (r, w)]
        rows.append((repetition, *agreement, *representational_similarity(r[chosen], w[chosen])))
    columns = ["repetition", "ari_r", "ari_w", "rsa_similarity", "rsa_dissimilarity"]
    draft.table("similarity", pd.DataFrame(rows, columns=columns))


def draw(labels: NDArray[np.integer[Any]], examples: int, rng: np.random.Generator) -> NDArray[np.integer[Any]]:
    """Indices of `examples` samples of each class, without replacement, by class."""
    classes = np.unique(labels)
    return np.concatenate([rng.choice(np.flatnonzero(labels == c), examples, replace=False) for c in classes])


def _rotated(x: Array) -> Array:
    """x in as many coordinates as there are samples at most: a rotation, which leaves all distances as they are."""
    x = np.asarray(x, np.float64)
    x = x - x.mean(0)
    return x if x.shape[1] <= len(x) else np.linalg.qr(x.T).R.T


def _correlations(x: Array) -> Array:
    """Pearson's r between every pair of samples: the upper triangle, in the order of `pdist`."""
    x = np.asarray(x, np.float64)
    with np.errstate(invalid="ignore"):  # NaN says that a constant sample correlates with nothing
        x = x - x.mean(1, keepdims=True)
        x = x / np.linalg.norm(x, axis=1, keepdims=True)
    return (x @ x.T)[np.triu_indices(len(x), 1)]


def _pearson(a: Array, b: Array) -> float:
    a, b = a - a.mean(), b - b.mean()
    scale = np.linalg.norm(a) * np.linalg.norm(b)
    return float(a @ b / scale) if scale > 0 else float("nan")
