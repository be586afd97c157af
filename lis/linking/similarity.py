"""Are R and W ordered alike? Clustering by class (ARI) and representational similarity (RSA; paper §4.1, Fig. 3A)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from omegaconf import MISSING
from scipy.spatial.distance import pdist, squareform
from sklearn.cluster import KMeans
from torch import Tensor

from lis.config import RunConfig
from lis.config.fields import number
from lis.context import Context
from lis.linking.pairs import known_classes, test_pairs
from lis.linking.permutations import mantel, p_value, rand_index, shuffles
from lis.linking.random_classes import RandomClasses
from lis.linking.work import similarity_work
from lis.memory import Machine
from lis.peaks import FLOAT, no_images, pair_arrays, seen_images, width
from lis.stage import stage
from lis.store import Artifact, Draft
from lis.streams import Stream

INITIALISATIONS = 20
"""Random starts of k-means, of which the best is taken (paper, Fig. 3)."""
STATISTICS = (
    "ari_r",
    "ari_w",
    "rsa_similarity",
    "rsa_dissimilarity",
    "rsa_similarity_within",
    "rsa_dissimilarity_within",
)
"""What is told of a set of samples."""
ALL, WITHIN = "all", "within classes"
"""Which samples a permutation exchanges."""
_RANDOM, _PERMUTED = 1, 2
"""Classes of the stream, for each purpose one; repetitions have none."""
_QUANTILES = (0.025, 0.975)

Array = NDArray[np.floating[Any]]
Labels = NDArray[np.integer[Any]]


def clusters(x: Array, count: int, seed: int) -> Labels:
    """k-means clusters `[samples]` of `x [samples, width]`; the seed is below 2³²."""
    means = KMeans(count, n_init=INITIALISATIONS, random_state=seed)  # pyright: ignore[reportArgumentType]: untyped
    return means.fit_predict(_rotated(x))


def cluster_agreement(x: Array, labels: Labels, seed: int) -> float:
    """Adjusted Rand index between classes and k-means clusters, k = number of classes.

    Args:
        x: `[samples, width]`.
        labels: class of each sample, `[samples]`, from 0.
        seed: of k-means; below 2³².

    Returns:
        1 for clusters that are the classes, 0 on average for clusters at random (Hubert & Arabie 1985).
    """
    return float(rand_index(labels[None], clusters(x, len(np.unique(labels)), seed))[0])


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
    itself = np.arange(len(r))[None]
    similarity, distance = (float(mantel(a, b, itself)[0]) for a, b in _matrices(r, w))
    return similarity, distance


def within_classes(r: Array, w: Array, labels: Labels) -> tuple[float, float]:
    """`representational_similarity` of the samples of each class among themselves, as a mean over the classes.

    That classes lie apart in both spaces makes no part of it.

    Args:
        r: `[samples, units]`.
        w: the same samples, `[samples, w_dim]`.
        labels: class of each sample, `[samples]`; those with fewer than three samples are left out.

    Returns:
        Both correlations; NaN where no class has any.
    """
    groups = _classes(labels)
    values = [representational_similarity(r[group], w[group]) for group in groups]
    similarity, distance = _mean_known(values, 2).tolist()
    return similarity, distance


@dataclass
class SimilarityConfig:
    """ARI and RSA of R and W (Fig. 3A)."""

    repetitions: int = number(MISSING, low=1)
    examples: int = number(MISSING, low=2)
    """Samples per class in each repetition."""
    permutations: int = number(999, low=1)
    """Of the first repetition's samples and labels: p is never below 1 / (permutations + 1)."""
    random_classes: int = number(0, low=0)
    """Draws of as many classes as the run has, from all that both models know: pairs of these are drawn anew."""


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


def validate_random_classes(ctx: Context) -> None:
    """Checks that there are other classes to draw, where some are asked for.

    Raises:
        ValueError: both models know no more classes than the run has.
    """
    draws = ctx.config.similarity.random_classes
    if draws and len(classes := known_classes(ctx)) <= len(ctx.class_names):
        raise ValueError(
            f"similarity.random_classes={draws}: generator and classifier have {len(classes)} classes in common, "
            f"expected more than the {len(ctx.class_names)} of the run; take fewer in classes.names, or "
            "similarity.random_classes=0"
        )


def _also(ctx: Context) -> dict[str, Any]:
    return {"min_acceptance": ctx.config.pairs.min_acceptance} if ctx.config.similarity.random_classes else {}


def _images(ctx: Context, machine: Machine) -> int:
    return (seen_images if ctx.config.similarity.random_classes else no_images)(ctx, machine)


def _arrays(ctx: Context) -> int:
    """Bytes of the test pairs, and of the pairs of all classes that may be drawn."""
    config = ctx.config.similarity
    classes = config.random_classes * len(ctx.class_names)
    return pair_arrays(ctx) + classes * config.examples * width(ctx) * FLOAT


@stage(
    "similarity",
    version=2,
    inputs=(test_pairs,),
    config=SimilarityConfig,
    seed=True,
    also=_also,
    problems=problems,
    check=validate_random_classes,
    images=_images,
    arrays=_arrays,
    work=similarity_work,
)
def similarity(ctx: Context, config: SimilarityConfig, test: Artifact, draft: Draft) -> None:
    """ARI and RSA of R and W over random subsets of the test pairs, beside permutations and random classes.

    Table "similarity", a row per repetition: repetition, ari_r, ari_w (k-means clusters against the classes),
    rsa_similarity, rsa_dissimilarity (of correlations, of distances), rsa_similarity_within, rsa_dissimilarity_within
    (the same among the samples of a class, mean over classes).

    Table "permutations", of the first repetition: statistic, exchanged ("all": any sample of W takes the place of any,
    of the ARI any label; "within classes": samples of a class take each other's, which leaves what the classes alone
    give), value, mean, low, high (95 % of the permutations), p (share with at least the value, itself among them: never
    below 1 / (permutations + 1)), permutations.

    Table "random_classes", a row per draw of classes; without rows where `similarity.random_classes` is 0: draw,
    classes, and the statistics of the first samples of each. Table "refused", the classes that were drawn anew since
    the classifier accepts too few of their samples: class.

    Raises:
        ValueError: what `problems` and `validate_random_classes` say; too few classes are accepted.
    """
    tensors = test.tensors("pairs")
    r, w, labels = (tensors[name].numpy() for name in ("r", "w", "class_index"))
    stream = Stream("similarity", ctx.config.seed)

    def subset(repetition: int) -> tuple[Array, Array, Labels, int]:
        rng = stream.rng(index=repetition)
        chosen = draw(labels, config.examples, rng)
        return r[chosen], w[chosen], labels[chosen], int(rng.integers(2**32))

    repetitions = ctx.progress.track(range(config.repetitions), label="similarity of R and W")
    draft.table("similarity", pd.DataFrame([{"repetition": k} | statistics(*subset(k)) for k in repetitions]))
    draft.table("permutations", permuted(*subset(0), config.permutations, stream.rng(_PERMUTED)))
    random, rows = RandomClasses(ctx, config.examples), []
    for k in ctx.progress.track(range(config.random_classes), label="similarity of random classes"):
        rng = stream.rng(_RANDOM, k)
        drawn, seed = random.draw(rng), int(rng.integers(2**32))
        told = statistics(drawn.r, drawn.w, drawn.labels, seed)
        rows.append({"draw": k, "classes": ", ".join(drawn.classes)} | told)
    draft.table("random_classes", pd.DataFrame(rows, columns=["draw", "classes", *STATISTICS]))
    draft.table("refused", pd.DataFrame({"class": random.refused}, dtype=str))


def draw(labels: Labels, examples: int, rng: np.random.Generator) -> Labels:
    """Indices of `examples` samples of each class, without replacement, by class."""
    classes = np.unique(labels)
    return np.concatenate([rng.choice(np.flatnonzero(labels == c), examples, replace=False) for c in classes])


def statistics(r: Array, w: Array, labels: Labels, seed: int) -> dict[str, float]:
    """`STATISTICS` of samples: `cluster_agreement` of R and of W, and both similarities over all and within classes."""
    agreement = [cluster_agreement(x, labels, seed) for x in (r, w)]
    values = (*agreement, *representational_similarity(r, w), *within_classes(r, w, labels))
    return dict(zip(STATISTICS, values, strict=True))


def permuted(r: Array, w: Array, labels: Labels, seed: int, count: int, rng: np.random.Generator) -> pd.DataFrame:
    """`statistics` beside those of samples, or labels, that are permuted: table "permutations" of `similarity`.

    The similarities are held against both kinds of permutations: those within classes show what classes that lie apart
    in both spaces give alone.
    """
    anywhere, within = shuffles(np.zeros_like(labels), count, rng), shuffles(labels, count, rng)
    rows = []
    for name, x in (("ari_r", r), ("ari_w", w)):
        result = clusters(x, len(np.unique(labels)), seed)
        rows.append(_beside(name, ALL, rand_index(labels[None], result), rand_index(labels[anywhere], result)))
    itself = np.arange(len(labels))[None]
    for name, (a, b) in zip(("rsa_similarity", "rsa_dissimilarity"), _matrices(r, w), strict=True):
        value, inside = mantel(a, b, itself), _mantel_within(a, b, labels, np.concatenate([itself, within]))
        rows.append(_beside(name, ALL, value, mantel(a, b, anywhere)))
        rows.append(_beside(name, WITHIN, value, mantel(a, b, within)))
        rows.append(_beside(f"{name}_within", WITHIN, inside[:1], inside[1:]))
    return pd.DataFrame(rows)


def _beside(statistic: str, exchanged: str, value: Array, null: Array) -> dict[str, Any]:
    """A row of "permutations"."""
    known = null[np.isfinite(null)]
    low, high = np.quantile(known, _QUANTILES) if len(known) else (np.nan, np.nan)
    mean, p = known.mean() if len(known) else np.nan, p_value(float(value[0]), null)
    told = {"value": value[0], "mean": mean, "low": low, "high": high, "p": p, "permutations": len(null)}
    return {"statistic": statistic, "exchanged": exchanged} | told


def _mantel_within(a: Array, b: Array, labels: Labels, orders: Labels) -> Array:
    """`mantel` of the samples of each class among themselves, as a mean over classes: `[count]`."""
    blocks = [
        mantel(a[np.ix_(group, group)], b[np.ix_(group, group)], np.searchsorted(group, orders[:, group]))
        for group in _classes(labels)
    ]
    return _mean_known(blocks, len(orders)).numpy()


def _classes(labels: Labels) -> list[Labels]:
    """Indices of the samples of each class that has three or more."""
    groups = [np.flatnonzero(labels == c) for c in np.unique(labels)]
    return [group for group in groups if len(group) > 2]


def _mean_known(rows: Sequence[Any], columns: int) -> Tensor:
    """Mean over rows, NaN dropped: `[columns]` float64."""
    return torch.tensor(np.array(rows, np.float64).reshape(-1, columns)).nanmean(0)


def _matrices(r: Array, w: Array) -> list[tuple[Array, Array]]:
    """Of R and of W: Pearson's r between every pair of samples, and their Euclidean distances; `[n, n]` each."""
    both = np.asarray(r, np.float64), np.asarray(w, np.float64)
    return [(_correlations(both[0]), _correlations(both[1])), (squareform(pdist(both[0])), squareform(pdist(both[1])))]


def _rotated(x: Array) -> Array:
    """x in as many coordinates as there are samples at most: a rotation, which leaves all distances as they are."""
    x = np.asarray(x, np.float64)
    x = x - x.mean(0)
    return x if x.shape[1] <= len(x) else np.linalg.qr(x.T).R.T


def _correlations(x: Array) -> Array:
    """Pearson's r between every pair of samples, `[n, n]`."""
    with np.errstate(invalid="ignore"):  # NaN says that a constant sample correlates with nothing
        x = x - x.mean(1, keepdims=True)
        x = x / np.linalg.norm(x, axis=1, keepdims=True)
    return x @ x.T
