"""Which descriptor a configuration asks for."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from lis.matching.convmixer import ConvMixerDescriptor
from lis.matching.descriptors import Daisy, Descriptor, FeatureMaps, Patches
from lis.types import Classifier


def descriptor(
    name: str, layers: Sequence[str] | None, channels: int, weights: str | None, classifier: Classifier | None
) -> Descriptor:
    """The descriptor of that name; the arguments are those of `lis.config.PumpConfig`.

    Raises:
        ValueError: there is none of that name, or what it needs is missing.
    """
    makers: dict[str, Callable[[], Descriptor]] = {
        "patches": lambda: Patches(channels=channels),
        "daisy": Daisy,
        "classifier": lambda: FeatureMaps(_given(classifier), layers, channels),
        "generator": lambda: FeatureMaps(None, layers, channels),
        "convmixer": lambda: ConvMixerDescriptor(weights),
    }
    if name not in makers:
        raise ValueError(f"matcher.descriptor={name}: expected one of {', '.join(makers)}")
    return makers[name]()


def _given(classifier: Classifier | None) -> Classifier:
    if classifier is None or not classifier.layers:
        raise ValueError(
            "matcher.descriptor=classifier: expected a classifier with convolutions whose maps can be read; "
            "use matcher.descriptor=patches"
        )
    return classifier
