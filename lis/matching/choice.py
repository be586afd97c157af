"""PUMP on the descriptor that a configuration asks for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from lis.config import PumpConfig
from lis.matching.convmixer import ConvMixerDescriptor
from lis.matching.descriptors import Daisy, Descriptor, FeatureMaps, Patches, require_layers
from lis.matching.pump import Pump
from lis.types import Classifier

LARGE = 128
"""Height in pixels from which pictures are large enough as they are."""


def usual_enlargement(side: int) -> int:
    """Factor by which matchers enlarge pictures of `side` pixels unless told otherwise: 2 below `LARGE`, then 1."""
    return 2 if side < LARGE else 1


def pump(
    descriptor: str = PumpConfig.descriptor,
    layers: Sequence[str] | None = PumpConfig.layers,
    channels: int = PumpConfig.channels,
    weights: str | None = PumpConfig.weights,
    classifier: Classifier | None = None,
    **settings: Any,
) -> Pump:
    """The matcher; the arguments are those of `lis.config.PumpConfig`, and the classifier whose maps may be read.

    Raises:
        ValueError: see `find_descriptor`.
    """
    return Pump(find_descriptor(descriptor, layers, channels, weights, classifier), **settings)


def find_descriptor(
    name: str, layers: Sequence[str] | None, channels: int, weights: str | None, classifier: Classifier | None
) -> Descriptor:
    """The descriptor of that name; the arguments are those of `pump`.

    Raises:
        ValueError: there is none of that name, or what it needs is missing.
    """
    makers: dict[str, Callable[[], Descriptor]] = {
        "patches": lambda: Patches(channels=channels),
        "daisy": Daisy,
        "classifier": lambda: FeatureMaps(_given(classifier, layers), layers, channels),
        "generator": lambda: FeatureMaps(None, layers, channels),
        "convmixer": lambda: ConvMixerDescriptor(weights),
    }
    if name not in makers:
        raise ValueError(f"matcher.descriptor={name}: expected one of {', '.join(makers)}")
    return makers[name]()


def _given(classifier: Classifier | None, layers: Sequence[str] | None) -> Classifier:
    if classifier is None or not classifier.layers:
        raise ValueError(
            "matcher.descriptor=classifier: expected a classifier with convolutions whose maps can be read; "
            "use matcher.descriptor=patches"
        )
    require_layers(layers, classifier.layers)
    return classifier
