"""The order of units by what they change: a plane (t-SNE) and a tree (Ward), coloured by label (paper §4.3, Fig. 5)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.cluster.hierarchy import fcluster, leaves_list, linkage
from sklearn.manifold import TSNE

from lis.quantify.sparsity import scaled
from lis.units.tuned import Tuned

Array = NDArray[np.floating[Any]]

FEWEST = 4
"""Units below which no plane is drawn."""
CROWD = 20
"""Units from which on the plane is t-SNE's."""
_ITERATIONS = 4000
"""At most; it ends where nothing changes any more."""


@dataclass(frozen=True)
class Tree:
    """A hierarchy of n units, cut into clusters."""

    merges: Array
    """`[n − 1, 4]`: the two that are joined, their distance, the size (as scipy's `linkage`)."""
    order: NDArray[np.integer[Any]]
    """Units from left to right, `[n]`."""
    cluster: NDArray[np.integer[Any]]
    """Cluster of each unit, `[n]`, from 1."""

    @property
    def facts(self) -> dict[str, Any]:
        """`linkage` and `order` for JSON."""
        return {"linkage": self.merges.tolist(), "order": self.order.tolist()}


def vectors(tuned: Tuned) -> Array:
    """Effect of each unit in every interpreted label, each measure over its largest: `[P, K', M]` in [-1, 1].

    A change that no sample has is 0.
    """
    return scaled(tuned.average.effect[:, tuned.interpreted_index]).nan_to_num(0.0).double().numpy()


def flat(x: Array) -> Array:
    """A row per unit of `x [n, K, M]`: `[n, K · M]`, also where K is 0."""
    return x.reshape(len(x), x.shape[1] * x.shape[2])


def plane(x: Array, perplexity: float) -> Array:
    """t-SNE of `x [n, features]`, two features or more, from its principal components on: `[n, 2]`.

    van der Maaten & Hinton 2008; the start after Kobak & Berens 2019, with a standard deviation of 1 and without early
    exaggeration, and a learning rate of n / 4: larger steps end in another plane for another last digit of x. A change
    of x by 10⁻⁶ moves a unit by less than 1 % of the plane's extent. Fewer than `CROWD` units lie in the plane of
    their principal components, since the clusters that t-SNE makes of a few drift apart without end.

    Args:
        x: the vectors.
        perplexity: lowered to (n − 1) / 3 for few units.

    Returns:
        NaN for fewer than `FEWEST` units, or where all are alike.
    """
    n = len(x)
    if n < FEWEST or not np.ptp(x, axis=0).any():
        return np.full((n, 2), np.nan)
    start = components(x)
    if n < CROWD:
        return start
    model = TSNE(
        perplexity=min(perplexity, (n - 1) / 3),
        init=start / start[:, 0].std(),
        method="exact",
        early_exaggeration=1.0,
        learning_rate=n / 4,  # pyright: ignore[reportArgumentType]  # a number or "auto"
        max_iter=_ITERATIONS,
    )
    return model.fit_transform(x).astype(np.float64)


def components(x: Array) -> Array:
    """The first two principal components of `x [n, features]`: `[n, 2]`, each turned so that its long tail is positive.

    Example:
        >>> components(np.array([[1.0, 0.0], [1.0, 0.0], [4.0, 0.0], [0.0, 0.0]]))[:, 0].round(1).tolist()
        [-0.5, -0.5, 2.5, -1.5]
    """
    left, size, _ = np.linalg.svd(x - x.mean(0), full_matrices=False)
    scores = left[:, :2] * size[:2]
    return scores * np.where((scores**3).sum(0) < 0, -1, 1)


def tree(x: Array, clusters: int) -> Tree:
    """Ward's hierarchy (1963) of `x [n, features]`, cut into at most `clusters`."""
    n = len(x)
    if n < 2 or not x.shape[1]:
        return Tree(np.zeros((0, 4)), np.arange(n), np.ones(n, dtype=np.int64))
    merges = linkage(x, "ward")
    return Tree(merges, leaves_list(merges), fcluster(merges, clusters, "maxclust"))


def map_table(tuned: Tuned, position: Array, cluster: NDArray[np.integer[Any]]) -> pd.DataFrame:
    """The map of units.

    Args:
        tuned: the units.
        position: of `plane`, `[P, 2]`.
        cluster: of `tree`, `[P]`.

    Returns:
        unit, x, y, label (the one with the largest strength; "" where no label is interpreted), cluster, strength
        (mean over the measures of the label's |scaled change|, in [0, 1]).
    """
    label, strength = strongest(np.abs(vectors(tuned)).mean(2), tuned.interpreted_labels)
    columns = {"unit": tuned.unit, "x": position[:, 0], "y": position[:, 1], "label": label}
    return pd.DataFrame(columns | {"cluster": cluster, "strength": strength})


def cluster_table(tuned: Tuned, cluster: NDArray[np.integer[Any]]) -> pd.DataFrame:
    """What each cluster changes (Fig. 5C).

    Args:
        tuned: the units.
        cluster: of `tree`, `[P]`.

    Returns:
        cluster, units (how many), label (strongest), and a column per interpreted label with its mean strength.
    """
    strength = np.abs(vectors(tuned)).mean(2)
    numbers, units = np.unique(cluster, return_counts=True)
    means = np.stack([strength[cluster == number].mean(0) for number in numbers])
    label, _ = strongest(means, tuned.interpreted_labels)
    columns = {"cluster": numbers, "units": units, "label": label}
    return pd.DataFrame(columns).join(pd.DataFrame(means, columns=tuned.interpreted_labels))


def strongest(strength: Array, labels: list[str]) -> tuple[list[str], Array]:
    """The label with the largest strength in each row of `strength [n, labels]`, and that strength `[n]`.

    Example:
        >>> strongest(np.array([[0.1, 0.4], [0.3, 0.0]]), ["ear", "eye"])
        (['eye', 'ear'], array([0.4, 0.3]))
    """
    if not labels:
        return [""] * len(strength), np.full(len(strength), np.nan)
    return [labels[k] for k in strength.argmax(1)], strength.max(1)
