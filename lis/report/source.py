"""What a report is made from: the facts of a run, and its artifacts by stage."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, asdict, dataclass, field, fields, replace
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from lis.classifiers.networks import usual_weights
from lis.config import NetworkConfig
from lis.report.style import label_colours
from lis.report.tables import records
from lis.report.wording import LINKS, link_label, network_name, words
from lis.stage import closure, generates, omitted, requested

if TYPE_CHECKING:
    import pandas as pd

    from lis.context import Context
    from lis.store import Artifact

_IN_THE_NAME = {"_target_", "library", "model", "num_classes", "class_names"}
"""Settings of a component that its label does not repeat."""
_WEIGHTS = {"partworld": "part world weights", "pretrained": "pretrained weights", "random": "random weights"}
IMAGES = ("image", "cycled", "aligned", "difference", "restyled")
"""Names of the tensors of stages that hold images."""
SPLITS = ("train", "test")
"""The pairs of a split are the artifact `pairs/<split>`; every other artifact has the name of its stage."""
_LABELLED = ("ranking", "agreement")
"""Tables with a row per label that may be there without the stage whose facts name them all."""


@dataclass(frozen=True)
class Facts:
    """What was run, in names and sizes."""

    generator: str
    classifier: str
    link: str
    """`lr`, `ridge`, `fc_l1`, `fc_l2`, or the name of another link."""
    classes: str
    """Name of the class set."""
    class_names: tuple[str, ...]
    conditional: bool
    """False: the generator draws the class itself."""
    known_truth: bool
    """The generator has true factors."""
    nonlinear_world: bool
    """Part world's hard mode: w depends on the factors through a fixed nonlinear map."""
    w_dim: int
    units: int
    resolution: int
    device: str
    classifier_notes: tuple[str, ...]
    """Remarks that the classifier comes with."""
    settings: Mapping[str, Any]
    """The whole configuration, flat: `{"pairs.train": 1200, …}`."""
    omitted: Mapping[str, str] = field(default_factory=dict)
    """Why the run did without some of its stages, by their names."""
    generated: bool = True
    """Images are the generator's; False: a user's own, of a run that asks for no generator and no link."""
    linked: bool = True
    """Whether a stage of the run asks for a link."""

    @property
    def vectors(self) -> bool:
        """Whether figures are written as SVG, too."""
        return bool(self.settings.get("svg", True))

    @property
    def partless(self) -> bool:
        """The class set names no parts."""
        return self.settings.get("classes.labels") == []

    @property
    def link_label(self) -> str:
        """The link's name as in the supplement."""
        return link_label(self.link)

    @property
    def labels(self) -> dict[str, str]:
        """The names by which a sweep tells its jobs apart."""
        return {"gan": self.generator, "classifier": self.classifier, "classes": self.classes, "link": self.link}


@dataclass(frozen=True)
class Source:
    """The facts of a run beside its artifacts."""

    facts: Facts
    artifacts: Mapping[str, Artifact]

    def has(self, stage: str, *names: str) -> bool:
        """Whether the stage's artifact is there and holds all of `names`."""
        return stage in self.artifacts and all(self.artifacts[stage].has(name) for name in names)

    def table(self, stage: str, name: str) -> pd.DataFrame:
        """A table of a stage."""
        return self.artifacts[stage].table(name)

    def arrays(self, stage: str, name: str) -> dict[str, np.ndarray]:
        """Tensors of a stage; images `[…, 3, h, w]` uint8 as `[…, h, w, 3]`."""
        return channels_last({key: tensor.numpy() for key, tensor in self.artifacts[stage].tensors(name).items()})

    def json(self, stage: str, name: str) -> dict[str, Any]:
        """A JSON object of a stage."""
        return self.artifacts[stage].json(name)

    def row(self, stage: str, table: str, column: str, key: str) -> dict[str, Any] | None:
        """The row of a table whose `column` is `key`; None where the table or the row is missing."""
        if not self.has(stage, table):
            return None
        return next((row for row in records(self.table(stage, table)) if row[column] == key), None)


def channels_last(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Arrays as they are, but images `[…, 3, h, w]` as `[…, h, w, 3]`."""
    return {name: np.moveaxis(x, -3, -1) if name in IMAGES else x for name, x in arrays.items()}


def source(ctx: Context, artifacts: Mapping[str, Artifact]) -> Source:
    """Read the facts off a context, and keep the artifacts beside them."""
    config, generator, classifier = ctx.config, ctx.generator, ctx.config.classifier
    if isinstance(classifier, NetworkConfig) and classifier.weights == usual_weights(generator.domain):
        classifier = replace(classifier, weights="auto")  # goes without saying
    facts = Facts(
        generator=component_label(config.gan),
        classifier=component_label(classifier),
        link=_link_name(config.link, artifacts),
        classes=words(config.classes.name),
        class_names=tuple(ctx.class_names),
        conditional=generator.num_classes > 0,
        known_truth=hasattr(generator, "true_factors"),
        nonlinear_world=bool(getattr(config.gan, "hard", False)),
        w_dim=generator.w_dim,
        units=ctx.classifier.units,
        resolution=generator.resolution,
        device=str(ctx.device),
        classifier_notes=tuple(getattr(ctx.classifier, "notes", ())),
        # Where a run is shown changes nothing of it.
        settings={key: value for key, value in flat(asdict(config)).items() if not key.startswith("logger.")},
        omitted=omitted(ctx),
        generated=generates(ctx),
        linked=any(stage.name == "link" for stage in closure(requested(ctx), ctx)),
    )
    return Source(facts, artifacts)


def component_label(node: Any) -> str:
    """A component's name, and those of its settings that are not the schema's defaults.

    Example:
        >>> from lis.config import NetworkConfig, PartNetConfig, PartWorldConfig
        >>> component_label(PartNetConfig(task="attributes")), component_label(PartWorldConfig(hard=True))
        ('PartNet (attributes)', 'PartWorld (hard)')
        >>> component_label(NetworkConfig(model="resnet50", weights="random"))
        'ResNet-50 (random weights)'
    """
    network = isinstance(node, NetworkConfig)
    name = network_name(node.library, node.model) if network else node._target_.rsplit(".", 1)[-1]
    # IP-IRM has no head of its own: that it has a probe goes without saying.
    silent = _IN_THE_NAME | ({"probe"} if network and node.library == "ip_irm" else set())
    told = [field for field in fields(node) if field.name not in silent and field.default is not MISSING]
    changed = [_setting(f.name, getattr(node, f.name)) for f in told if getattr(node, f.name) != f.default]
    return f"{name} ({', '.join(changed)})" if changed else name


def _setting(key: str, value: Any) -> str:
    """A setting in words, where its key and value alone would not read well."""
    if key == "weights":
        return _WEIGHTS.get(value, f"weights {Path(value).name}")
    named = {"task": f"{value}", "attribute": f"attribute {value}", "probe": "with probe", "ema": "not averaged"}
    return named.get(key) or (key if value is True else f"{key}={value}")


def flat(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """A nested mapping with dotted keys.

    Example:
        >>> flat({"pairs": {"train": 2}, "seed": 0})
        {'pairs.train': 2, 'seed': 0}
    """
    leaves: dict[str, Any] = {}
    for key, value in tree.items():
        branch = flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
        leaves.update(branch)
    return leaves


def _link_name(node: Any, artifacts: Mapping[str, Artifact]) -> str:
    """The kind that the fit recorded; before a fit, what the configuration asks for."""
    if "link" in artifacts and artifacts["link"].has("fit"):
        kind = str(artifacts["link"].json("fit")["kind"])
        if kind in LINKS:
            return kind
    target = str(node._target_).rsplit(".", 1)[-1]
    fc = "fc_l2" if getattr(node, "pc_weight", 0.0) > 0 else "fc_l1"
    known: dict[str, str] = {"LeastSquaresFit": "lr", "RidgeFit": "ridge", "MLPFit": fc}
    return known.get(target, target)


def label_names(source: Source) -> list[str]:
    """The segmenter's labels in order, as far as an artifact that is there names them: its facts, else its tables."""
    artifacts = source.artifacts.values()
    facts = (artifact.json("facts").get("labels") for artifact in artifacts if artifact.has("facts"))
    tables = (artifact.table(name) for artifact in artifacts for name in _LABELLED if artifact.has(name))
    columns = (dict.fromkeys(table["label"]) for table in tables if "label" in table)
    return list(next(filter(None, chain(facts, columns)), []))


def colours(source: Source) -> dict[str, str]:
    """A colour per label."""
    return label_colours(label_names(source))
