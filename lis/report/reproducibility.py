"""The reproducibility card: what a run was made of, and what repeats it, on the page and in `reproducibility.json`.

It follows from the artifacts, the settings and the installed versions alone, so that the page of the same artifacts is
the same; when a run was, and how long it took, is in `summary.json`. It is made to be published: of a path it tells the
last part, and nothing of the machine but its device.
"""

from __future__ import annotations

import platform
import re
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from hydra.core.hydra_config import HydraConfig

import lis
from lis.classifiers.libraries import find
from lis.config import (
    DetectorsConfig,
    NetworkConfig,
    PartNetConfig,
    PartWorldConfig,
    PlantedConfig,
    RunConfig,
    StyleGANXLConfig,
)
from lis.config.overrides import as_typed, bare, command
from lis.devices import describe
from lis.distributed.identity import identity
from lis.report.section import Table
from lis.report.source import Source, component_label
from lis.report.wording import words
from lis.stage import closure, requested

if TYPE_CHECKING:
    from lis.context import Context
    from lis.store import Artifact

FILE = "reproducibility.json"
PACKAGES = (
    "torch", "torchvision", "numpy", "scipy", "scikit-learn", "scikit-image", "pandas", "pyarrow", "pillow",
    "opencv-python-headless", "pytorch-lightning", "timm", "captum", "lpips", "safetensors", "hydra-core",
)  # fmt: skip
"""What results may depend on."""
OWN, UNKNOWN, NOTHING = "MIT, a part of lis", "unknown", "none needed: no weights of others"
"""What is said of the licence of weights."""
_OF_A_FILE = f"{UNKNOWN}: a file of the user's"
_PERCEPTUAL = {"lpips": "LPIPS: AlexNet of torchvision, not stated there; its linear part is of the package lpips"}
_NO_RESULT = ("store=", "logger=", "logger.")
"""What is typed of a run and does not belong to what repeats it."""
_PATH = re.compile(r"(?<![\w.:/~…])~?(?:/[^\s/,'\"\[\]{}=:]+)*/([^\s/,'\"\[\]{}=:]+)/?")
_SECRET = re.compile(r"(?<=://)[^/@\s]+@|(?<=[\w/])\?[^\s,'\"\]}]+")
"""Of an address: who asks, and with which words."""
_SECONDS = 10.0
"""That git may take."""


@dataclass(frozen=True)
class Card:
    """The card as the page shows it."""

    command: str
    """Repeats the run; empty where it was not begun from the command line."""
    rows: Sequence[tuple[str, str]]
    """What a reader needs to repeat the run: names, sizes, seed, versions, device."""
    tables: Mapping[str, Table]
    """By their titles."""
    notes: Sequence[str]
    settings: Mapping[str, Any]
    """The whole configuration, flat."""
    facts: Mapping[str, Any]
    """What `reproducibility.json` holds."""


def card(ctx: Context, run: Source) -> Card:
    """The card of a run.

    Args:
        ctx: the run.
        run: its facts and artifacts.
    """
    facts = reproducibility(ctx, run)
    tables = {
        "Artifacts: when, on what and with what each was made": _stage_table(facts),
        "Weights and their licences": _weight_table(facts["weights"]),
    }
    return Card(facts["command"], _rows(run, facts), tables, _notes(facts), facts["settings"], facts)


def reproducibility(ctx: Context, run: Source) -> dict[str, Any]:
    """What `reproducibility.json` holds: command, program, versions, seed, device, settings, stages and weights."""
    config, typed = ctx.config, _typed()
    stages = [*lineage(ctx, run.artifacts)]
    return {
        "command": command(typed) if HydraConfig.initialized() else "",
        "overrides": typed,
        "program": release(),
        "versions": versions(),
        "seed": config.seed,
        "streams": [stage.name for stage in closure(requested(ctx), ctx) if stage.seed],
        "device": describe(ctx.device),
        "threads": config.threads or None,
        "deterministic": config.deterministic,
        "settings": {key: without_paths(value) for key, value in run.facts.settings.items()},
        "stages": [_stage(*each, isinstance(config.gan, (PartWorldConfig, StyleGANXLConfig))) for each in stages],
        "weights": [*_weights(run, config, [artifact for _, _, artifact in stages if artifact])],
    }


def release() -> dict[str, Any]:
    """Version of `lis`, digest of its sources, and the commit where it is a checkout of git, with what was changed."""
    commit, changed = checkout(Path(lis.__file__).parent)
    return {"lis": lis.__version__, "sources": identity().sources, "commit": commit, "changed": changed}


@cache
def checkout(package: Path) -> tuple[str | None, bool | None]:
    """The commit that a package is checked out at, and whether its files differ from it; None where there is none.

    Args:
        package: its folder; the folder `conf` beside it belongs to it.
    """
    root = package.parent
    if _git(root, "ls-files", "--error-unmatch", f"{package.name}/__init__.py") is None:  # a repository around it
        return None, None
    paths = [name for name in (package.name, "conf") if (root / name).is_dir()]
    changed = _git(root, "status", "--porcelain", "--untracked-files=no", "--", *paths)
    return _git(root, "rev-parse", "HEAD"), None if changed is None else bool(changed)


def _git(folder: Path, *command: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *command], capture_output=True, text=True, timeout=_SECONDS, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def versions() -> dict[str, str]:
    """Of Python, of CUDA and cuDNN where torch has them, and of the packages that are installed."""
    result = {"python": platform.python_version(), "torch": torch.__version__}
    if torch.version.cuda:
        result |= {"cuda": torch.version.cuda, "cudnn": str(torch.backends.cudnn.version())}
    for package in PACKAGES:
        try:
            result.setdefault(package, version(package))  # torch's own says for which device it was built
        except PackageNotFoundError:
            continue
    return result


def lineage(ctx: Context, artifacts: Mapping[str, Artifact]) -> Iterator[tuple[str, str, Artifact | None]]:
    """Stage, key and artifact of everything that a run rests on, inputs first, each once.

    An input is None where nothing has read it here.
    """
    names = {artifact.key: name for name, artifact in artifacts.items()}
    known = {artifact.key: artifact for artifact in artifacts.values()}
    told: set[str] = set()

    def walk(key: str) -> Iterator[tuple[str, str, Artifact | None]]:
        if key in told:
            return
        told.add(key)
        artifact = known.get(key) or ctx.store.opened(key)
        for asked in artifact.manifest["recipe"]["inputs"] if artifact else ():
            yield from walk(asked)
        stage = str(artifact.manifest["recipe"]["stage"]) if artifact else ""
        yield names.get(key, stage.replace("pairs-", "pairs/")), key, artifact

    for key in known:
        yield from walk(key)


def _stage(name: str, key: str, artifact: Artifact | None, counted: bool) -> dict[str, Any]:
    made = artifact.manifest if artifact else {}
    told = ("created", "seconds", "images", "device", "threads", "deterministic", "versions")
    inputs = list(made["recipe"]["inputs"]) if made else []
    facts = {"stage": name, "key": key, "inputs": inputs} | {each: made.get(each) for each in told}
    return facts if counted else facts | {"images": None}


def _weights(run: Source, config: RunConfig, artifacts: Sequence[Artifact]) -> Iterator[dict[str, str]]:
    """The models of a run, whose fingerprints are in the keys, and networks that distances are measured with."""
    recipes = [artifact.manifest["recipe"] for artifact in artifacts]
    fingerprints = {name: value for recipe in recipes for name, value in recipe["weights"].items()}
    models = {"classifier": (run.facts.classifier, config.classifier)}
    if run.facts.generated:
        models = {"generator": (run.facts.generator, config.gan)} | models
    if asked := config.counterfactuals.witness:
        models["witness"] = component_label(asked), asked
    for role, (name, settings) in models.items():
        yield _model(role, name, licence(settings), fingerprints.get(role, ""))
    if "evaluation" in run.artifacts:
        for name, checksum in run.artifacts["evaluation"].manifest["recipe"]["config"].get("metrics", {}).items():
            yield _model("distance", name, _PERCEPTUAL.get(name, _OF_A_FILE), checksum)


def _model(role: str, name: str, terms: str, fingerprint: str) -> dict[str, str]:
    return {"role": role, "name": name, "licence": terms, "fingerprint": fingerprint}


def licence(config: Any) -> str:
    """What is known of the licence of a model's weights.

    Args:
        config: settings of a generator or a classifier.

    Example:
        >>> from lis.config import NetworkConfig, PartNetConfig
        >>> licence(PartNetConfig()), licence(NetworkConfig(model="resnet50", weights="random"))
        ('MIT, a part of lis', 'none needed: no weights of others')
    """
    if isinstance(config, (PartWorldConfig, PartNetConfig, PlantedConfig, DetectorsConfig)):
        return OWN
    weights = getattr(config, "weights", None)
    if weights in ("random", "partworld"):  # trained here
        return NOTHING
    if isinstance(config, NetworkConfig) and weights == "pretrained":
        return OWN if config.library == "partnet" else find(config.library, config.model).published().licence
    if isinstance(config, StyleGANXLConfig) and weights == "published":
        return f"{UNKNOWN}: that of StyleGAN-XL's authors, where the file is published"
    return _OF_A_FILE if isinstance(config, (NetworkConfig, StyleGANXLConfig)) else UNKNOWN


def _typed() -> list[str]:
    """What was typed behind `python -m lis.run` and changes results, without where files lie."""
    if not HydraConfig.initialized():
        return []
    config = HydraConfig.get()
    folders = [each.path for each in config.runtime.config_sources if each.provider == "command-line"]
    options = [f"--config-dir={without_paths(folder)}" for folder in folders]
    typed = [bare(as_typed(each)) for each in config.overrides.task if not each.startswith(_NO_RESULT)]
    return [*options, *map(without_paths, typed)]


def without_paths(value: Any) -> Any:
    """A setting or an override in which a path from the root or from home is cut to its last part, and no address has
    a name or a password.

    Example:
        >>> without_paths("images=/home/ada/pictures"), without_paths(["~/gan.pkl", "a/b"]), without_paths(0.5)
        ('images=…/pictures', ['…/gan.pkl', 'a/b'], 0.5)
        >>> without_paths("gan.url=https://ada:secret@host/gan.pkl?token=abc"), without_paths("file:///home/ada/gan.pkl")
        ('gan.url=https://host/gan.pkl', '…/gan.pkl')
    """
    if isinstance(value, (list, tuple)):
        return [without_paths(each) for each in value]
    if not isinstance(value, str):
        return value
    if "://" in value:
        value = _SECRET.sub("", value).replace("file://", "")
    key, equals, path = value.partition("=") if "=" in value.partition("/")[0] else ("", "", value)
    if path.startswith("/") or (path.startswith("~") and "/" in path):
        return f"{key}{equals}…/{Path(path).name}"
    return _PATH.sub(r"…/\1", value)


def _rows(run: Source, facts: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Names and sizes of what was linked, then what else a repetition needs."""
    linked = _linked(run) if run.facts.generated else []
    own = facts["program"]
    commit = f", commit {own['commit'][:12]}{' with changes' * bool(own['changed'])}" if own["commit"] else ""
    count = facts["threads"]
    threads = f"{count} CPU thread{'s' * (count > 1)}" if count else "as many CPU threads as torch chooses"
    strict = "deterministic operations alone" if facts["deterministic"] else "deterministic=false"
    streams = f"; with a random stream of their own: {', '.join(facts['streams'])}" if facts["streams"] else ""
    return [
        *linked,
        ("Classifier", f"{run.facts.classifier}: {run.facts.units} units in the penultimate layer"),
        ("Parts", ", ".join(run.facts.settings.get("classes.labels", [])) or "no labels given"),
        ("Seed", f"{facts['seed']}{streams}"),
        ("Device", f"{facts['device']}, {threads}; {strict}"),
        ("lis", f"{own['lis']} (sources {own['sources']}){commit}"),
        ("Versions", ", ".join(f"{name} {number}" for name, number in facts["versions"].items())),
    ]


def _linked(run: Source) -> list[tuple[str, str]]:
    facts, flat = run.facts, run.facts.settings
    size = f"{facts.resolution} × {facts.resolution} pixels"
    return [
        ("Generator", f"{facts.generator}: W has {facts.w_dim} dimensions, {size}"),
        ("Link", facts.link_label),
        ("Classes", f"{facts.classes}: {', '.join(words(name) for name in facts.class_names)}"),
        ("Pairs per class", f"{flat['pairs.train']:,} for the fit, {flat['pairs.test']:,} for the test"),
        ("Samples taken", f"pairs.accept={flat['pairs.accept']}; truncation {flat['gan.truncation']}"),
    ]


def _stage_table(facts: Mapping[str, Any]) -> Table:
    """When each artifact was made, on what, and in how much time, which may have been in another run."""
    caption = (
        "Artifacts that this page rests on, as their manifests tell: made once, in whatever run came first, and read "
        "from the store since. Seconds: of the run that made it, without what it asked for. Images: passes through the "
        "generator, its shards' too, where it is one of lis."
    )
    columns = ["stage", "made (UTC)", "seconds", "images", "device", "threads", "versions", "key"]
    return Table(caption, columns, [_cells(stage, facts["versions"]) for stage in facts["stages"]])


def _cells(stage: Mapping[str, Any], installed: Mapping[str, str]) -> list[str]:
    made = stage["created"] or ""
    seconds = "" if stage["seconds"] is None else f"{stage['seconds']:.1f}"
    with_what = ", ".join(_other_versions(stage, installed)) or "as installed"
    images = "" if stage["images"] is None else f"{stage['images']:,}"
    known = [made[:16].replace("T", " "), seconds, images, stage["device"], str(stage["threads"] or ""), with_what]
    return [stage["stage"], *(cell or "–" for cell in (known if made else [""] * 6)), stage["key"][:12]]


def _other_versions(stage: Mapping[str, Any], installed: Mapping[str, str]) -> list[str]:
    """What an artifact was made with that is another version now."""
    now = {**installed, "lis": lis.__version__}
    return [f"{name} {used}" for name, used in (stage["versions"] or {}).items() if used != now.get(name, used)]


def _weight_table(weights: Sequence[Mapping[str, str]]) -> Table:
    caption = "Weights that were used. The fingerprint, SHA-256 of weights and settings or of a file, is in the keys."
    rows = [[each["role"], each["name"], each["licence"], each["fingerprint"][:12]] for each in weights]
    return Table(caption, ["model", "name", "licence of the weights", "fingerprint"], rows)


def _notes(facts: Mapping[str, Any]) -> list[str]:
    """What of the artifacts does not follow from what is installed here, and what is cut."""
    stages = facts["stages"]
    notes = []
    if others := [each["stage"] for each in stages if _other_versions(each, facts["versions"])]:
        notes.append(f"Made with other versions than are installed here: {', '.join(others)}.")
    if others := [each["stage"] for each in stages if each["device"] not in (None, facts["device"])]:
        notes.append(f"Made on another device: {', '.join(others)}.")
    if facts["deterministic"] and (others := [each["stage"] for each in stages if not each["deterministic"]]):
        notes.append(f"Made before, without deterministic=true: {', '.join(others)}.")
    if "…/" in facts["command"]:
        notes.append("Of paths only the last part is told: put yours in their place.")
    return notes
