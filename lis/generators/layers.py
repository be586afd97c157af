"""Which of a generator's maps are asked for."""

from __future__ import annotations

from collections.abc import Collection, Sequence


def wanted_layers(features: bool | Collection[str], names: Sequence[str]) -> tuple[str, ...]:
    """The layers whose maps are wanted, in the order of the generator.

    Args:
        features: True for all, False for none, or names.
        names: of the generator's layers.

    Raises:
        ValueError: a name is unknown.

    Example:
        >>> wanted_layers(True, ["b4", "b8"]), wanted_layers({"b8"}, ["b4", "b8"])
        (('b4', 'b8'), ('b8',))
    """
    if isinstance(features, bool):
        return tuple(names) if features else ()
    if unknown := sorted(set(features) - set(names)):
        raise ValueError(f"there is no layer {unknown[0]!r}: expected some of {', '.join(names)}")
    return tuple(name for name in names if name in features)
