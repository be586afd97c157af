"""What is learned from tuned units: every table of it, from one screen (paper §4.3, §4.4)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lis.config.fields import number
from lis.context import Context
from lis.peaks import no_images
from lis.stage import stage
from lis.store import Artifact, Draft
from lis.streams import Stream
from lis.units.effects import Effects
from lis.units.honesty import honesty
from lis.units.normality import distribution, scaled_changes
from lis.units.ranking import overlap, ranking
from lis.units.relevance import (
    null_relevance,
    relevance,
    relevance_correlation,
    robustness,
    seeds_of_relevant,
    shared,
)
from lis.units.screen import screen, tuned_arrays
from lis.units.sparsity import label_sparsity_table, unit_sparsity_table
from lis.units.transfer import class_agreement, transfer
from lis.units.tuned import Tuned
from lis.units.unit_map import cluster_table, map_table, plane, tree, vectors

_RANKING, _SPARSITY = 1, 2
"""Places in the stream, for each purpose one."""


@dataclass
class UnitsConfig:
    """Statistics over tuned units (paper §4.3, §4.4)."""

    top: int = number(10, low=1)
    """Units at the head of a ranking."""
    clusters: int = number(8, low=1)
    """Branches that the tree of units is cut into (Fig. 5C)."""
    perplexity: float = number(30.0, low=1)
    """Of the map of units (t-SNE, Fig. 5B)."""
    relevant: float = number(0.15, low=0, high=1)
    """A unit is relevant for a class from this mean change of its probability on (Fig. 6B)."""
    examples: int = number(3, low=1, silent=True)
    """Units shown per picture."""


@dataclass(frozen=True)
class Findings:
    """What the tables are made from."""

    effects: Effects
    """Of the units."""
    null: Effects
    """Of random directions."""
    config: UnitsConfig
    stream: Stream

    def rng(self, purpose: int) -> np.random.Generator:
        """Random numbers for one purpose."""
        return self.stream.rng(index=purpose)


@stage(
    "units",
    version=5,
    inputs=(screen,),
    config=UnitsConfig,
    seed=True,
    images=no_images,
    arrays=lambda ctx: 3 * tuned_arrays(ctx),
)
def units(ctx: Context, config: UnitsConfig, screened: Artifact, draft: Draft) -> None:
    """Rankings, sparsity, map of units, class relevance, transfer between classes, each beside random directions.

    Tables (columns where they are made): "ranking", "overlap", "transfer", "agreement", "honesty"; "distribution" with
    tensors "scaled" (a vector of changes per measure); "label_sparsity", "label_sparsity_null", "unit_sparsity";
    "map", "clusters", and json "tree" {linkage, order}; "relevance", "relevance_null", "relevance_seeds",
    "relevance_correlation", "shared", "robustness". Labels that are too small to be interpreted are flagged in
    "ranking" and left out of the other tables.

    Raises:
        ValueError: as the stages before.
    """
    _build(ctx, screened, draft)


def _build(ctx: Context, screened: Artifact, draft: Draft) -> None:
    tuned, null = (Effects.of(Tuned.of(screened, name)) for name in ("tuning", "null"))
    findings = Findings(tuned, null, ctx.config.units, Stream("map of units", ctx.config.seed))
    parts = (_rankings, _distributions, _sparsity, _map, _relevance)
    for part in ctx.progress.track(parts, label="what units stand for"):
        part(findings, draft)


def _rankings(found: Findings, draft: Draft) -> None:
    draft.table("ranking", ranking(found.effects, found.null, found.rng(_RANKING)))
    draft.table("overlap", overlap(found.effects, found.config.top))
    draft.table("transfer", transfer(found.effects))
    draft.table("agreement", class_agreement(found.effects))
    draft.table("honesty", honesty(found.effects, found.null))


def _distributions(found: Findings, draft: Draft) -> None:
    scaled = scaled_changes(found.effects)
    draft.table("distribution", distribution(scaled))
    draft.tensors("scaled", scaled)


def _sparsity(found: Findings, draft: Draft) -> None:
    own, null = found.effects, found.null
    draft.table("label_sparsity", label_sparsity_table(own, own, {"unit": own.tuned.unit}))
    draft.table("label_sparsity_null", label_sparsity_table(null, own, {"name": null.tuned.names}))
    draft.table("unit_sparsity", unit_sparsity_table(own, found.rng(_SPARSITY)))


def _map(found: Findings, draft: Draft) -> None:
    config, effects = found.config, found.effects
    x = vectors(effects).reshape(len(effects.tuned.unit), -1)
    grown = tree(x, config.clusters)
    places = plane(x, config.perplexity)
    draft.table("map", map_table(effects, places, grown.cluster))
    draft.table("clusters", cluster_table(effects, grown.cluster))
    draft.json("tree", grown.facts)


def _relevance(found: Findings, draft: Draft) -> None:
    config, tuned, null = found.config, found.effects.tuned, found.null.tuned
    table = relevance(tuned, null, config.relevant)
    draft.table("relevance", table)
    draft.table("relevance_null", null_relevance(null))
    draft.table("relevance_seeds", seeds_of_relevant(tuned, config.top))
    draft.table("relevance_correlation", relevance_correlation(tuned))
    draft.table("shared", shared(table))
    draft.table("robustness", robustness(table, tuned.class_names))
