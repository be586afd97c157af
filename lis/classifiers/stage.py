"""The stage before all others: makes the run's classifier ready, by training it or by giving it a head."""

from __future__ import annotations

from dataclasses import asdict, replace

import torch

from lis.classifiers.cut import CutClassifier
from lis.classifiers.probe import probe, probed
from lis.classifiers.training import train
from lis.context import Context
from lis.generators.partworld.world import SETS, world
from lis.store import Artifact, Draft, Recipe

VERSION = 2


def ready(ctx: Context) -> tuple[Context, dict[str, Artifact]]:
    """The context with a classifier that can be used, and what was made for it.

    "classifier": the training on part world, where the weights are to come from there; "probe": the linear probe,
    where `classifier.probe` asks for it.

    Raises:
        ValueError: the training diverges, or the classes have no labels that a probe could be fitted to.
    """
    made: dict[str, Artifact] = {}
    if isinstance(ctx.classifier, CutClassifier) and not ctx.classifier.trained:
        made["classifier"] = artifact = classifier(ctx, ctx.classifier)
        load(ctx.classifier, artifact, ctx.device)
    if ctx.config.classifier.probe:
        made["probe"] = probe(ctx)
        ctx = replace(ctx, classifier=probed(ctx.classifier, made["probe"]))
    return ctx, made


def classifier(ctx: Context, untrained: CutClassifier) -> Artifact:
    """The training of a network on part world.

    Tensors "state", the network's; tables "curve" (images, loss) and "accuracy" (class, accuracy, low, high, bayes, n)
    on held-out rendered figures; json "training": images, steps, seconds, precision, learning_rate, accuracy, bayes.
    """
    recipe = Recipe(
        stage="classifier",
        version=VERSION,
        config={
            "name": untrained.name,
            "attribute": untrained.attribute,
            "outputs": list(untrained.class_names),
            "preprocessing": untrained.preprocessing.settings,
            "training": asdict(ctx.config.training),
            "seed": ctx.config.seed,
        },
        weights={"world": "|".join(world(name).identity for name in SETS), "initial": untrained.fingerprint},
    )
    return ctx.store.make(recipe, lambda draft: _build(ctx, untrained, draft))


def load(classifier: CutClassifier, artifact: Artifact, device: torch.device) -> None:
    """Give a classifier the weights of its training."""
    # As training leaves it, a network lies otherwise in memory, and its sums would be rounded otherwise.
    classifier.network.to(memory_format=torch.contiguous_format)  # pyright: ignore[reportCallIssue]: the stubs lack it
    classifier.network.load_state_dict(artifact.tensors("state"))
    classifier.eval().to(device)
    classifier.trained = True


def _build(ctx: Context, untrained: CutClassifier, draft: Draft) -> None:
    trained = train(untrained, ctx.config.training, ctx.config.seed, ctx.device, ctx.progress)
    draft.tensors("state", untrained.network.state_dict())
    draft.table("curve", trained.curve)
    draft.table("accuracy", trained.accuracy)
    draft.json("training", trained.facts)
