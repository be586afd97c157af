"""What is passed to `lis.study`, as the overrides that a person would type behind `python -m lis.run`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
import torch
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.types import Quote, QuotedString
from hydra.version import VersionBase

from lis.config import OBJECT, conf_folder, schemas

_MODELS = {"gan": "gan", "classifier": "classifier", "witness": "counterfactuals.witness"}
"""Keywords that take a model, the name of an option or an object, and what the key is called."""
_HYDRA = Lock()
"""Hydra has one state for all threads."""


def overrides_of(keys: Mapping[str, Any]) -> list[str]:
    """Keywords as overrides: options of groups first, then the keys that they may have.

    Args:
        keys: names of groups, keys of a run, dotted or as dictionaries; values as Python has them. An object as `gan`,
            `classifier` or `witness` is named by its class.

    Raises:
        ValueError: a value of a type that no setting has.

    Example:
        >>> overrides_of({"seed": 3, "link": "ridge", "pairs": {"train": 60}, "classes": ["pug", "chihuahua"]})
        ["link='ridge'", 'classes=custom', 'seed=3', 'pairs.train=60', "classes.names=['pug','chihuahua']"]
        >>> overrides_of({"labels.folder": Path("my labels"), "unit": np.int64(4), "evaluation": {"lpips": False}})
        ["labels.folder='my labels'", 'unit=4', 'evaluation.lpips=false']
    """
    groups, rest = list[str](), list[str]()
    for name, value in keys.items():
        if name == "experiment":
            groups.append(f"+experiment={literal(name, value)}")
        elif name in _MODELS and is_object(value):
            groups.append(f"{_MODELS[name]}={OBJECT}")
            rest.append(f"{_MODELS[name]}._target_={literal(name, target_of(value))}")
        elif name in _groups() | _MODELS.keys() and isinstance(value, (str, Path)):
            groups.append(f"{_MODELS.get(name, name)}={literal(name, value)}")
        elif name == "classes" and value is not None:
            groups.append("classes=custom")
            names = value if isinstance(value, Mapping) else {"names": value}
            rest += [f"{key}={literal(key, each)}" for key, each in _flat(name, names)]
        else:
            rest += [f"{key}={literal(key, each)}" for key, each in _flat(_MODELS.get(name, name), value)]
    return groups + rest


@contextmanager
def beside_hydra() -> Iterator[None]:
    """Lets settings be composed inside a program that uses Hydra itself, which goes on with its own afterwards.

    One thread waits for the other.
    """
    with _HYDRA:
        hydra, base = GlobalHydra.instance().hydra, VersionBase.instance()
        version = base.version_base
        GlobalHydra.instance().clear()
        try:
            yield
        finally:
            GlobalHydra.instance().hydra, base.version_base = hydra, version


def is_object(value: Any) -> bool:
    """Whether a value is a model itself, neither the name of an option nor settings.

    Raises:
        ValueError: it is a class.
    """
    if isinstance(value, type):
        raise ValueError(f"{value.__name__} is a class: expected an object of it, as {value.__name__}(…)")
    return value is not None and not isinstance(value, (str, Path, Mapping))


def target_of(value: Any) -> str:
    """Where the class of an object is defined, for the settings."""
    kind = type(value)
    return f"{kind.__module__}.{kind.__qualname__}"


def literal(key: str, value: Any) -> str:
    r"""A value in Hydra's grammar.

    Args:
        key: for the message.
        value: None, a truth value, number, text, path, device, or a list, tuple, array or dictionary of such.

    Raises:
        ValueError: it is of another type.

    Example:
        >>> literal("key", None), literal("key", True), literal("key", np.float32(0.5)), literal("key", (1, "it's"))
        ('null', 'true', '0.5', "[1,'it\\'s']")
    """
    if isinstance(value, torch.Tensor):
        value = value.detach().cpu().numpy()
    if isinstance(value, (np.ndarray, np.generic)):
        value = value.tolist()
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, (int, float)):
        return repr(value)
    if isinstance(value, (str, Path, torch.device)):  # what looks like an interpolation is text
        return QuotedString(str(value).replace("${", r"\${"), Quote.single).with_quotes()
    if isinstance(value, Mapping):
        return "{" + ",".join(f"{name}:{literal(key, each)}" for name, each in value.items()) + "}"
    if isinstance(value, Sequence):
        return "[" + ",".join(literal(key, each) for each in value) + "]"
    raise ValueError(
        f"{key} is of the type {type(value).__name__}: expected None, a truth value, a number, text, a path, or a list "
        "or dictionary of these"
    )


def _groups() -> set[str]:
    """Names of the groups of options."""
    folders = {folder.name for folder in conf_folder().iterdir() if folder.is_dir()}
    return folders | {name.partition("/")[0] for name in schemas() if "/" in name}


def _flat(key: str, value: Any) -> Iterator[tuple[str, Any]]:
    """A dictionary as dotted keys."""
    if not isinstance(value, Mapping):
        yield key, value
        return
    for name, each in value.items():
        yield from _flat(f"{key}.{name}", each)
