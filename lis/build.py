"""Makes objects from configuration: the only module that calls `hydra.utils.instantiate`."""

from __future__ import annotations

import math
from dataclasses import fields, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from hydra.errors import InstantiationException
from hydra.utils import instantiate

from lis.classifiers.classifier import ready
from lis.classifiers.networks import usual_weights
from lis.config import (
    ClassifierConfig,
    DetectorsConfig,
    FlowConfig,
    MatcherConfig,
    NetworkConfig,
    PlantedConfig,
    PumpConfig,
    RunConfig,
)
from lis.context import Context
from lis.determinism import use_deterministic
from lis.devices import describe, find_device
from lis.engine import InProcess
from lis.matching.gray import usual_enlargement
from lis.precision import check_tf32, use_float32
from lis.progress import Progress
from lis.store import Store
from lis.types import Classifier, Generator, Matcher


def build(config: Any, *left_out: str, **arguments: Any) -> Any:
    """The object that `config._target_` names, called with the config's other keys and `arguments`.

    Args:
        config: a typed configuration.
        left_out: keys that the object is not called with.
        arguments: more of its arguments.

    Raises:
        ValueError: the target cannot be found, does not take these keys, or refuses their values.
    """
    keys = {field.name: getattr(config, field.name) for field in fields(config) if field.name not in left_out}
    try:
        return instantiate(keys, **arguments, _convert_="all")
    except InstantiationException as error:
        cause = error.__cause__
        # What a class says about its arguments is clearer than where Hydra called it.
        raise (cause if isinstance(cause, ValueError) else ValueError(str(error))) from error


def context(
    config: RunConfig,
    generator: Generator | None = None,
    classifier: Classifier | None = None,
    witness: Classifier | None = None,
) -> Context:
    """Everything that the stages of a run need. Also sets torch's number of threads.

    Args:
        config: its settings.
        generator: an object in place of what `config.gan` names; moved to the run's device and frozen as that is.
        classifier: the same in place of `config.classifier`.
        witness: the same in place of `config.counterfactuals.witness`.

    Raises:
        ValueError: an unknown class, an unwritable store, or as `ready_device`.
    """
    named = generator is None and classifier is None and witness is None
    if config.threads:
        torch.set_num_threads(config.threads)
    device = ready_device(config)
    store = Store(Path(config.store), device=describe(device))
    gan = named_generator(config) if generator is None else generator
    config = replace(config, classifier=with_weights(config.classifier, gan))
    model = named_classifier(config.classifier, gan) if classifier is None else classifier
    if asked := config.counterfactuals.witness:
        asked = with_weights(asked, gan)
        config = replace(config, counterfactuals=replace(config.counterfactuals, witness=asked))
        witness = named_classifier(asked, gan) if witness is None else witness
    for each in (gan, model, witness):
        move(each, device)
    opener = partial(rebuilt, config) if named else None
    return Context(config, store, build(config.engine), gan, model, device, Progress(), witness, opener)


def rebuilt(config: RunConfig, device: str, threads: int) -> Context:
    """The context of a run in a process that makes shards for it: what `ready` has trained is read from the store.

    Args:
        config: its settings.
        device: in place of the run's.
        threads: of the CPU, in place of the run's.

    Raises:
        ValueError: as `context`.
    """
    ctx = context(replace(config, device=device, threads=threads))
    return ready(replace(ctx, engine=InProcess(), progress=Progress(every=math.inf)))[0]


def named_generator(config: RunConfig) -> Generator:
    """The generator that a run's settings name, where it is made.

    Raises:
        ValueError: as `build`.
    """
    return build(config.gan, class_names=config.classes.names)


def named_classifier(config: ClassifierConfig, generator: Generator) -> Classifier:
    """The classifier that settings name, where it is made.

    Args:
        config: its settings, `weights` being said.
        generator: of the run: whose factors or parts planted units are functions of.

    Raises:
        ValueError: as `build`.
    """
    arguments = {"generator": generator} if isinstance(config, (PlantedConfig, DetectorsConfig)) else {}
    return build(config, "probe", "domain", **arguments)


def matcher(config: MatcherConfig, side: int, classifier: Classifier | None = None) -> Matcher:
    """The matcher of a run.

    Args:
        config: its settings.
        side: height and width of the images, in pixels, by which `enlarge` is chosen where it is null.
        classifier: whose feature maps one may read.

    Raises:
        ValueError: it refuses its settings, or lacks something of `lis.types.Matcher`.
    """
    if isinstance(config, (FlowConfig, PumpConfig)) and config.enlarge is None:
        config = replace(config, enlarge=usual_enlargement(side))
    result = build(config, classifier=classifier) if isinstance(config, PumpConfig) else build(config)
    if missing := [name for name in ("fingerprint", "layers", "view", "__call__") if not hasattr(result, name)]:
        raise ValueError(f"matcher {config._target_}: it has no {missing[0]}; expected what lis.types.Matcher says")
    return result


def with_weights(config: ClassifierConfig, generator: Generator) -> ClassifierConfig:
    """The configuration with `weights: auto` replaced by what follows the generator's domain."""
    if not isinstance(config, NetworkConfig) or config.weights != "auto":
        return config
    return replace(config, weights=usual_weights(generator.domain))


def move(model: Any, device: torch.device) -> None:
    """Put a model on a device, if it is a module."""
    if isinstance(model, torch.nn.Module):
        model.to(device).eval().requires_grad_(False)


def ready_device(config: RunConfig) -> torch.device:
    """The device of a run, on which float32 is float32 from now on, and equal every time where that is asked for.

    Raises:
        ValueError: there is no such device, or it has no TF32, which is asked for; or as `use_deterministic`.
    """
    use_deterministic(config.deterministic)
    device = find_device(config.device)
    use_float32()
    check_tf32(
        {"gan.dtype": getattr(config.gan, "dtype", None), "training.precision": config.training.precision}, device
    )
    return device
