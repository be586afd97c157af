"""A stage of a run, declared once: what it takes, what its key follows from, what is checked of it, what it needs.

    @stage("similarity", version=1, inputs=(test_pairs,), config=SimilarityConfig, seed=True, problems=problems)
    def similarity(ctx: Context, config: SimilarityConfig, test: Artifact, draft: Draft) -> None:
        \"""ARI and RSA of R and W over random subsets of the test pairs.\"""
        ...

From then on `similarity(ctx)` is the artifact; `analysis.stages` may name it, and `similarity.examples=…` is a key.
Order, keys, checks, memory, the schema of a run and the table in ARCHITECTURE.md are all derived from here.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lis.config import RunConfig
from lis.config.fields import keyed
from lis.config.root import GROUPS
from lis.streams import declare

if TYPE_CHECKING:  # stages are declared without what they compute with: `lis.declarations`
    from lis.context import Context
    from lis.memory import Machine
    from lis.store import Artifact, Recipe
    from lis.workload import Expected, Workload

REGISTRY: dict[str, Stage] = {}
"""Every stage that is declared, by its name."""
MODELS = ("generator", "classifier")
"""The models of a run, most stages' `models`."""
FOLDERS = ("images", "labels.folder")
"""Keys of folders of the user: pictures, and their masks or labels."""
WITNESS = "witness"
"""The second classifier, where a run has one."""


@dataclass(frozen=True, eq=False)
class Stage:
    """A function of a run that gives an artifact, from the store or made now."""

    name: str
    """In `analysis.stages`, in the log and in the store."""
    version: int
    """Raised when the same inputs give another result."""
    build: Callable[..., None]
    """Writes the draft, given the context, the group of settings if it owns one, its inputs, and the draft."""
    inputs: tuple[Input, ...]
    config: type | None
    """Schema of the group of settings that it owns, all of whose values but silent ones are in the key."""
    group: str
    """Name of that group."""
    seed: bool
    """The seed of the run is in the key, and the stage may draw from the stream of its name."""
    models: tuple[str, ...]
    """Attributes of the context whose fingerprints are in the key, of those models that a run has."""
    also: Callable[[Context], Mapping[str, Any]] | None
    """What else is in the key, by name."""
    problems: Callable[[RunConfig], Iterable[str]] | None
    """What is wrong with the settings of a run, told with all other problems, before its models are built."""
    check: Callable[[Context], object] | None
    """Raises ValueError where a run cannot have this stage; before any work, and before the stage itself."""
    omitted: Callable[[Context], str | None] | None
    """Why a run that asks for other stages too does without this one; None: it does not."""
    images: Callable[[Context, Machine], int] | None
    """Bytes of the images that are worked on at once; None: as many as the classifier sees."""
    arrays: Callable[[Context], int] | None
    """Bytes of what is held from the beginning to the end; None: those of pairs."""
    listed: bool
    """False: what others ask for, and nobody by name."""
    generates: Callable[[Context], bool] | None
    """Whether a run's images are the generator's, which then has to know the classes and labels; None: they are."""
    work: Callable[[Context, Expected], Workload] | None
    """What it will do and write, for a plan; None: that is not known before."""
    folders: tuple[str, ...]
    """Keys of folders of the user that every run with it reads, of `FOLDERS`."""

    def __call__(self, ctx: Context) -> Artifact:
        """The artifact of a run; what cannot be had is refused before any work, of the stages before too.

        Raises:
            ValueError: what `problems` and `check` say, here and in the stages before.
        """
        for stage in reversed(_behind_inputs([self], lambda asked: asked.applies(ctx))):
            stage.require(ctx)
        return self.artifact(ctx)

    def artifact(self, ctx: Context) -> Artifact:
        """The artifact of a run whose checks are made: those of all stages before it too.

        Raises:
            ValueError: what cannot be known before the work.
        """
        inputs = [asked(ctx) for asked in self.inputs]
        settings = () if self.config is None else (getattr(ctx.config, self.group),)
        recipe = self.recipe(ctx, inputs)
        return ctx.store.make(recipe, lambda draft: self.build(ctx, *settings, *inputs, draft))

    def require(self, ctx: Context) -> None:
        """Raise what `problems` and `check` find, without any work.

        Raises:
            ValueError: as above.
        """
        if result := self.problems_of(ctx.config):
            raise ValueError("\n".join(result))
        if self.check:
            self.check(ctx)

    def problems_of(self, config: RunConfig) -> list[str]:
        """What `problems` finds."""
        return list(self.problems(config)) if self.problems else []

    def reads(self, ctx: Context) -> set[str]:
        """Keys of folders of the user that it reads in a run: all of `FOLDERS` where its images are not generated."""
        return set(FOLDERS if self.generates and not self.generates(ctx) else self.folders)

    def recipe(self, ctx: Context, inputs: Iterable[Artifact | None]) -> Recipe:
        """Everything that the artifact of a run follows from."""
        from lis.store import Recipe

        settings = {} if self.config is None else keyed(getattr(ctx.config, self.group))
        settings |= {"seed": ctx.config.seed} if self.seed else {}
        also = dict(self.also(ctx)) if self.also else {}
        if twice := sorted(settings.keys() & also.keys()):
            raise ValueError(
                f"stage {self.name!r}: `also` replaces {', '.join(twice)} of its key: expected other names"
            )
        return Recipe(
            stage=self.name.replace("/", "-"),
            version=self.version,
            config=settings | also,
            inputs=tuple(artifact.key for artifact in inputs if artifact is not None),
            weights={name: model.fingerprint for name in self.models if (model := getattr(ctx, name)) is not None},
        )

    def when(self, condition: Callable[[Context], bool]) -> Input:
        """This stage as an input of another, where the condition holds; elsewhere the other is given None."""
        return Input(self.name, condition)

    @property
    def holds(self) -> str:
        """What the artifact holds: the first paragraph of the docstring."""
        return " ".join((inspect.getdoc(self.build) or "").partition("\n\n")[0].split())

    @property
    def file(self) -> str:
        """Where it is declared, from the package on."""
        return self.build.__module__.partition(".")[2].replace(".", "/") + ".py"


@dataclass(frozen=True)
class Input:
    """A stage that another asks for."""

    name: str
    condition: Callable[[Context], bool] | None = None

    @property
    def stage(self) -> Stage:
        """The stage of that name."""
        return REGISTRY[self.name]

    def applies(self, ctx: Context) -> bool:
        """Whether a run needs it."""
        return self.condition is None or self.condition(ctx)

    def __call__(self, ctx: Context) -> Artifact | None:
        """Its artifact; None where the run does not need it."""
        return self.stage.artifact(ctx) if self.applies(ctx) else None


def stage(
    name: str,
    *,
    version: int,
    inputs: Iterable[Stage | Input] = (),
    config: type | None = None,
    group: str | None = None,
    seed: bool = False,
    models: Iterable[str] = (),
    also: Callable[[Context], Mapping[str, Any]] | None = None,
    problems: Callable[[RunConfig], Iterable[str]] | None = None,
    check: Callable[[Context], object] | None = None,
    omitted: Callable[[Context], str | None] | None = None,
    images: Callable[[Context, Machine], int] | None = None,
    arrays: Callable[[Context], int] | None = None,
    listed: bool = True,
    generates: Callable[[Context], bool] | None = None,
    work: Callable[[Context, Expected], Workload] | None = None,
    folders: Iterable[str] = (),
) -> Callable[[Callable[..., None]], Stage]:
    """Declares the function that builds a stage's artifact; the arguments are the fields of `Stage`.

    Args:
        group: name of the group of settings that it owns; None: that of the stage.

    Raises:
        ValueError: another function has declared a stage or a group of that name.
    """

    def decorate(build: Callable[..., None]) -> Stage:
        asked = tuple(each if isinstance(each, Input) else Input(each.name) for each in inputs)
        made = Stage(
            name, version, build, asked, config, group or name, seed, tuple(models), also, problems, check, omitted,
            images, arrays, listed, generates, work, tuple(folders),
        )  # fmt: skip
        _enter(made)
        return made

    return decorate


def _enter(made: Stage) -> None:
    """Put a stage into the registry, and its settings into the schema of a run."""
    if (known := REGISTRY.get(made.name)) and (known.file, known.holds) != (made.file, made.holds):
        raise ValueError(f"stage {made.name!r} is declared in {known.file} and in {made.file}: expected one name each")
    if made.config is not None:
        if made.group in {**GROUPS, **RunConfig.__dataclass_fields__} and GROUPS.get(made.group) is not made.config:
            raise ValueError(f"stage {made.name!r} in {made.file}: the settings {made.group!r} are there already")
        GROUPS[made.group] = made.config
    if made.seed:
        declare(made.name)
    REGISTRY[made.name] = made


def omitted(ctx: Context) -> dict[str, str]:
    """Why a run does without some stages of its `analysis.stages`, by their names.

    The last one is what it is for: where that cannot be had, the run is refused instead.
    """
    names = ctx.config.analysis.stages
    beside = [name for name in names if name != names[-1]]
    reasons = {name: asked(ctx) for name in beside if (asked := REGISTRY[name].omitted)}
    return {name: reason for name, reason in reasons.items() if reason}


def requested(ctx: Context) -> list[str]:
    """The stages of a run's `analysis.stages` without those that are `omitted`."""
    without = omitted(ctx)
    return [name for name in ctx.config.analysis.stages if name not in without]


def generates(ctx: Context) -> bool:
    """Whether any stage of a run makes images of the generator."""
    stages = closure(requested(ctx), ctx)
    return any(each.generates is None or each.generates(ctx) for each in stages)


def closure(names: Iterable[str], ctx: Context) -> list[Stage]:
    """The stages of these names behind all that they ask for in this run, each once."""
    return _behind_inputs([REGISTRY[name] for name in names], lambda asked: asked.applies(ctx))


def ordered(stages: Iterable[Stage]) -> list[Stage]:
    """The stages, each behind its inputs, and otherwise in the order in which they are given."""
    return _behind_inputs(stages, lambda _: True)


def always(stage: Stage) -> list[Stage]:
    """The stage behind all that it asks for in every run."""
    return _behind_inputs([stage], lambda asked: asked.condition is None)


def _behind_inputs(stages: Iterable[Stage], follow: Callable[[Input], bool]) -> list[Stage]:
    result: dict[str, Stage] = {}

    def add(stage: Stage) -> None:
        if stage.name not in result:
            for asked in stage.inputs:
                if follow(asked):
                    add(asked.stage)
            result[stage.name] = stage

    for stage in stages:
        add(stage)
    return list(result.values())
