"""A network of a library, or a user's own, as a classifier: architecture, weights, class names, cut."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch

from lis.classifiers.cut import CutClassifier
from lis.classifiers.libraries import IMAGENET, Library, find
from lis.classifiers.preprocessing import Preprocessing
from lis.classifiers.tasks import Task
from lis.config import ClassifierConfig, NetworkConfig
from lis.types import Classifier, Generator

WEIGHTS = ("pretrained", "partworld", "random")
"""Choices of `classifier.weights` besides a path."""
SIZES = (64, 96, 128, 224)
"""Heights and widths in pixels at which part world is shown to a network: the smallest that it bears."""
PARTWORLD = "partworld"
"""The domain of part world's drawings."""
ANY = "any"
"""The value of `classifier.domain` that says: this classifier is meant, whatever the generator shows."""
UNSAID = "images"
"""The domain of a generator of which nobody has said what it shows."""
_SEED = 0

log = logging.getLogger(__name__)


def network(
    library: str,
    model: str,
    weights: str,
    num_classes: int | None = NetworkConfig.num_classes,
    class_names: Sequence[str] | None = NetworkConfig.class_names,
    attribute: str | None = NetworkConfig.attribute,
    uint8: bool = NetworkConfig.uint8,
    ema: bool = NetworkConfig.ema,
) -> CutClassifier:
    """The classifier that a `NetworkConfig` asks for, on the CPU.

    Args:
        library: `torchvision`, `timm`, `ip_irm`, `efficientnet_lite0` or `partnet`.
        model: name of the architecture in its library; timm's with the tag of the weights.
        weights: `pretrained`: the published ones; `partworld`: random ones that wait for a training on part world
            (`trained` is False); `random`: the same in every call; else the path of a checkpoint, whose images are
            preprocessed as for the published weights.
        num_classes: outputs of the checkpoint at a path; None: those of the published weights.
        class_names: names of the outputs; None: those of the published weights where there are as many,
            else "class 0", ….
        attribute: with `partworld`: `<set>/<factor>`, whose sign is to be told.
        uint8: round images to 8 bits, as a program that reads image files does.
        ema: of a checkpoint with raw and averaged weights take the averaged ones, as timm does.

    Raises:
        ValueError: something of this is unknown, missing, damaged or does not fit; says what to change.

    Example:
        >>> model = network("partnet", "partnet", "random", num_classes=2, class_names=["cat", "dog"])
        >>> model.units, model.class_names, model.weights
        (256, ('cat', 'dog'), 'random')
    """
    source = find(library, model)
    if weights in WEIGHTS:
        _leave_out({"ema": None if ema else ema}, weights)
    if weights == "partworld":
        _leave_out({"num_classes": num_classes, "uint8": uint8 or None}, weights)
        return _untrained(source, attribute, class_names)
    _leave_out({"attribute": attribute} | ({"num_classes": num_classes} if weights == "pretrained" else {}), weights)
    names = _names(source, num_classes, class_names, fixed=weights == "pretrained")
    origin, notes = _origin(source, weights), ()
    with _seeded():
        built = source.build(len(names))
        if origin.path:
            notes = source.load(built, origin.path, len(names), ema)
    for note in notes:
        log.info("%s", note)
    return CutClassifier(
        built,
        source.preprocessing(uint8),
        names,
        name=source.name,
        weights=origin.words,
        domain=origin.domain,
        notes=origin.notes + notes,
    )


def usual_weights(domain: str) -> str:
    """The weights that follow a generator's domain."""
    return "partworld" if domain == PARTWORLD else "pretrained"


def check_domain(
    config: ClassifierConfig, classifier: Classifier, generator: Generator, key: str = "classifier"
) -> None:
    """Check that the classifier knows the world that the generator shows; that class names agree is no proof of it.

    `config.domain` goes before what a classifier says of itself in `domain`. Where one of the two worlds is not known,
    the log says so. A probe is fitted to the generator's own images, so that with one nothing is checked. `key` is what
    chooses the classifier.

    Raises:
        ValueError: both are known and differ.
    """
    trained, generated = config.domain or getattr(classifier, "domain", None), generator.domain
    if config.probe or trained == ANY:
        return
    if trained is None:
        log.info(
            "the images that the %s was trained on are not known: does it know what the generator shows (%s)? "
            "%s.domain=<word> says what they are",
            key,
            generated,
            key,
        )
    elif generated == UNSAID:
        log.info("what the generator shows is not known, and the %s was trained on %s: gan.domain=<word>", key, trained)
    elif trained != generated:
        raise ValueError(
            f"the generator shows {generated} and the {key} was trained on {trained}; that their classes have the "
            f"same names does not make them alike. Expected a classifier of {generated}, {_remedy(generated, key)}; or "
            f"{key}.probe=true, a head that is fitted to the generator's images; or, where this is meant, "
            f"{key}.domain=any"
        )


def _remedy(domain: str, key: str) -> str:
    """What names a classifier of a domain."""
    known = {
        PARTWORLD: f"as {key}=partnet, or {key}=resnet50 {key}.weights=partworld",
        IMAGENET: f"as {key}=resnet50 {key}.weights=pretrained",
    }
    return known.get(domain, f"as {key}=file {key}.weights=<path> … {key}.domain={domain}")


def check_probe(library: str, probe: bool) -> None:
    """Check that a network without a head of its own is given one.

    Raises:
        ValueError: `ip_irm` without a probe.
    """
    if library == "ip_irm" and not probe:
        raise ValueError(
            "classifier.probe=false: IP-IRM is self-supervised and has no head that names classes; expected "
            "classifier.probe=true, which fits one to the classes of the set"
        )


def _untrained(source: Library, attribute: str | None, class_names: Sequence[str] | None) -> CutClassifier:
    """At the smallest size at which the network runs."""
    if source.untrainable:
        raise ValueError(f"classifier.weights=partworld: {source.untrainable}")
    outputs = Task(attribute).outputs
    if class_names is not None and attribute is None:
        raise ValueError(
            f"classifier.class_names={list(class_names)}: with classifier.weights=partworld the {len(outputs)} classes "
            "of part world are learnt under their own names; leave it out"
        )
    names, error = tuple(class_names or outputs), None
    for size in SIZES:
        try:
            with _seeded():
                built = source.build(len(outputs), size)
            return CutClassifier(
                built,
                Preprocessing.as_drawn(size),
                names,
                name=source.name,
                weights="partworld",
                domain=PARTWORLD,
                trained=False,
                attribute=attribute,
            )
        except (
            RuntimeError,
            AssertionError,
            ValueError,
        ) as failure:  # libraries agree on no exception for a wrong size
            error = failure
    if isinstance(error, ValueError):
        raise error
    raise ValueError(
        f"{source.name} runs on images of none of {', '.join(map(str, SIZES))} pixels ({error}): choose another network"
    ) from error


@dataclass(frozen=True)
class _Origin:
    """Where weights come from."""

    words: str
    path: Path | None = None
    notes: tuple[str, ...] = ()
    domain: str | None = None
    """The world of the images that they were trained on; None: not known."""


def _origin(source: Library, weights: str) -> _Origin:
    if weights == "random":
        return _Origin("random")
    if weights == "pretrained":
        published = source.published()
        path = published.fetch()
        remark = published.differs(path)
        return _Origin(f"pretrained ({published.tag})", path, (remark,) if remark else (), published.domain)
    path = Path(weights).expanduser()
    if not path.exists():
        raise ValueError(
            f"classifier.weights={weights}: expected {', '.join(WEIGHTS)} or the path of a checkpoint, and there is no "
            "such file"
        )
    return _Origin(f"file {path.name}", path)


def _names(source: Library, num_classes: int | None, class_names: Sequence[str] | None, fixed: bool) -> tuple[str, ...]:
    """Names of the outputs; `fixed`: there are as many as in the published weights."""
    published_names = source.class_names
    count = num_classes or (0 if fixed else len(class_names or ())) or len(published_names)
    if 1 in (num_classes, count if class_names else None):
        raise ValueError(
            f"classifier.num_classes={num_classes} classifier.class_names={class_names}: expected 2 or more classes; a "
            "checkpoint with one logit counts as two, of which the first has the logit 0 "
            "(classifier.num_classes=2 'classifier.class_names=[<no>,<yes>]')"
        )
    if not count:
        raise ValueError(
            f"{source.name} was published without a head: choose another network, classifier.weights=partworld, or "
            "weights of your own with classifier.num_classes"
        )
    names = tuple(
        class_names or (published_names if count == len(published_names) else (f"class {k}" for k in range(count)))
    )
    if len(names) != count:
        raise ValueError(
            f"classifier.class_names has {len(names)} names, and the network {count} outputs: give one name per output "
            "(their number is classifier.num_classes)"
        )
    return names


def _leave_out(given: Mapping[str, object], weights: str) -> None:
    for key, value in given.items():
        if value is not None:
            raise ValueError(f"classifier.{key}={value} with classifier.weights={weights}: leave it out")


@contextmanager
def _seeded() -> Iterator[None]:
    """The same random numbers in every call, and none taken from the rest of the program."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(_SEED)
        yield
