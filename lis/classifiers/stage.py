"""The stage before all others: makes the run's classifier ready, by training it or by giving it a head."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import Any

import torch

from lis.classifiers.cut import CutClassifier
from lis.classifiers.probe import probe, probed
from lis.classifiers.training import train
from lis.context import Context
from lis.generators.partworld.world import SETS, world
from lis.stage import stage
from lis.store import Artifact, Draft


def ready(ctx: Context) -> tuple[Context, dict[str, Artifact]]:
    """The context with a classifier that can be used, and what was made for it.

    "classifier": the training on part world, where the weights are to come from there; "probe": the linear probe,
    where `classifier.probe` asks for it.

    Raises:
        ValueError: the training diverges, or the classes have no labels that a probe could be fitted to.
    """
    made: dict[str, Artifact] = {}
    if isinstance(ctx.classifier, CutClassifier) and not ctx.classifier.trained:
        made["classifier"] = artifact = classifier(ctx)
        load(ctx.classifier, artifact, ctx.device)
    if ctx.config.classifier.probe:
        made["probe"] = probe(ctx)
        ctx = replace(ctx, classifier=probed(ctx.classifier, made["probe"]))
    return ctx, made


def load(classifier: CutClassifier, artifact: Artifact, device: torch.device) -> None:
    """Give a classifier the weights of its training."""
    # As training leaves it, a network lies otherwise in memory, and its sums would be rounded otherwise.
    classifier.network.to(memory_format=torch.contiguous_format)  # pyright: ignore[reportCallIssue]: the stubs lack it
    classifier.network.load_state_dict(artifact.tensors("state"))
    classifier.eval().to(device)
    classifier.trained = True


def _untrained(ctx: Context) -> CutClassifier:
    """The run's classifier, as one that waits for its training.

    Raises:
        ValueError: it is none.
    """
    if not isinstance(ctx.classifier, CutClassifier):
        raise ValueError(f"{type(ctx.classifier).__name__} cannot be trained: expected a network of a library")
    return ctx.classifier


def _also(ctx: Context) -> dict[str, Any]:
    untrained = _untrained(ctx)
    return {
        "name": untrained.name,
        "attribute": untrained.attribute,
        "outputs": list(untrained.class_names),
        "preprocessing": untrained.preprocessing.settings,
        "training": asdict(ctx.config.training),
        "world": [world(name).identity for name in SETS],
    }


@stage(
    "classifier",
    version=2,
    seed=True,
    models=("classifier",),
    also=_also,
    check=_untrained,
    listed=False,
)
def classifier(ctx: Context, draft: Draft) -> None:
    """Before all others, where asked for: the weights of a training on part world with its accuracy.

    Tensors "state", the network's; tables "curve" (images, loss) and "accuracy" (class, accuracy, low, high, bayes, n)
    on held-out rendered figures; json "training": images, steps, seconds, precision, learning_rate, accuracy, bayes.
    """
    untrained = _untrained(ctx)
    trained = train(untrained, ctx.config.training, ctx.config.seed, ctx.device, ctx.progress)
    draft.tensors("state", untrained.network.state_dict())
    draft.table("curve", trained.curve)
    draft.table("accuracy", trained.accuracy)
    draft.json("training", trained.facts)
