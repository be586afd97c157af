"""Every configuration composes, misspelt keys fail and name themselves, and bad values are found before any work."""

from __future__ import annotations

import copy
import dataclasses
import inspect
import itertools
import math
import re
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import cast, get_args, get_origin, get_type_hints

import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import ConfigCompositionException, MissingConfigException
from hydra.utils import get_object
from omegaconf import MISSING, DictConfig, OmegaConf

from lis import build
from lis.config import EngineConfig, FewShotConfig, RidgeConfig, conf_folder, schemas
from lis.config.fields import described
from lis.devices import describe, find_device
from lis.engine import InProcess
from lis.generators.partworld import SETS
from lis.stages import RunConfig, names, register
from lis.tracking import CsvTracker
from lis.validation import check_config, typed

GROUPS = ("gan", "classifier", "classes", "link", "segmenter", "matcher", "analysis", "size", "engine", "logger")
OPTIONS = {group: sorted(file.stem for file in (conf_folder() / group).glob("*.yaml")) for group in GROUPS}
OVERRIDES = {
    "classes/custom": ["classes.names=[pug,chihuahua]"],
    "gan/file": ["gan.weights=mine.pkl"],
    "classifier/timm": ["classifier.model=convnext_tiny.fb_in1k"],
    "classifier/file": ["classifier.model=resnet50", "classifier.weights=mine.safetensors", "classifier.num_classes=2"],
}


@pytest.fixture(autouse=True)
def hydra() -> Iterator[None]:
    register()
    with initialize_config_dir(version_base="1.3", config_dir=str(conf_folder())):
        yield
    assert not GlobalHydra.instance().is_initialized()


def composed(*overrides: str) -> DictConfig:
    return compose("config", list(overrides))


@lru_cache
def _composed_once(option: str) -> DictConfig:
    return composed(option)


@lru_cache
def _typed_once() -> RunConfig:
    return typed(composed("link=ridge"))


def changed(option: str, key: str, value: object) -> DictConfig:
    """A configuration with one more value; composing anew for each of hundreds would take minutes."""
    config = copy.deepcopy(_composed_once(option))
    OmegaConf.update(config, key, value)
    return config


def test_every_group_has_options() -> None:
    assert all(OPTIONS.values())
    assert set(OPTIONS["link"]) == {"lr", "ridge", "fc_l1", "fc_l2", "fc_l2_prediction"}
    assert set(OPTIONS["size"]) == {"smoke", "demo", "paper"}


@pytest.mark.parametrize(("group", "name"), [(group, name) for group in GROUPS for name in OPTIONS[group]])
def test_every_option_composes_and_is_valid(group: str, name: str) -> None:
    config = typed(composed(f"{group}={name}", *OVERRIDES.get(f"{group}/{name}", [])))
    check_config(config, names())
    if group not in ("size", "engine", "logger"):
        assert getattr(config, group)._target_ if group not in ("classes", "analysis") else config.classes.names


@pytest.mark.parametrize(
    ("overrides", "channels"),
    [([], 16), (["gan=imagenet256"], 32), (["gan=partworld", "segmenter=projected"], 32), (["segmenter=narrow"], 16)],
)
def test_part_world_chooses_the_narrow_segmenter_unless_another_is_asked_for(
    overrides: list[str], channels: int
) -> None:
    found = typed(composed(*overrides)).segmenter
    assert isinstance(found, FewShotConfig) and found.channels == channels


@pytest.mark.parametrize("file", sorted((conf_folder() / "experiment").glob("*.yaml")), ids=lambda file: file.stem)
def test_every_experiment_composes_and_is_valid(file: Path) -> None:
    check_config(typed(composed(f"+experiment={file.stem}")), names())


@pytest.mark.parametrize(
    "file", sorted(conf_folder().glob("*/*.yaml")), ids=lambda file: f"{file.parent.name}/{file.stem}"
)
def test_every_group_that_has_a_schema_uses_it(file: Path) -> None:
    group = file.parent.name
    if any(name.startswith(f"{group}/") for name in schemas()):
        assert f"- base_{'mlp' if file.stem.startswith('fc_') else ''}" in file.read_text()


@pytest.mark.parametrize(
    "key",
    ["sede", "pairs.trian", "gan.hrad", "classifier.tsk", "classes.nmaes", "link.rigde", "analysis.stage"]
    + ["engine.worker", "logger.mdoe", "evaluation.lipps", "similarity.repetition", "training.image", "probe.fold"],
)
def test_a_misspelt_key_fails_and_names_itself(key: str) -> None:
    with pytest.raises(ConfigCompositionException) as error:
        composed(f"{key}=1")
    cause = error.value.__cause__
    assert key in f"{error.value} {cause}" and key.rsplit(".", 1)[-1] in str(cause)


@pytest.mark.parametrize("group", [*GROUPS])
def test_a_misspelt_key_in_a_file_fails_and_names_itself(group: str, tmp_path: Path) -> None:
    """A copy of conf/ with one more key in the group's first file."""
    for file in conf_folder().rglob("*.yaml"):
        copy = tmp_path / file.relative_to(conf_folder())
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_text(file.read_text())
    name = OPTIONS[group][0]
    with (tmp_path / group / f"{name}.yaml").open("a") as file:
        file.write("misspelt: 1\n")
    GlobalHydra.instance().clear()
    with initialize_config_dir(version_base="1.3", config_dir=str(tmp_path)):
        with pytest.raises(ConfigCompositionException) as error:
            composed(f"{group}={name}")
        assert "misspelt" in f"{error.value} {error.value.__cause__}"


@pytest.mark.parametrize("group", GROUPS)
def test_an_unknown_option_is_answered_with_the_known_ones(group: str) -> None:
    with pytest.raises(MissingConfigException) as error:
        composed(f"{group}=nonsense")
    assert f"{group}/nonsense" in str(error.value) and all(name in str(error.value) for name in OPTIONS[group])


def test_a_value_of_another_type_fails_and_names_its_key() -> None:
    with pytest.raises(ConfigCompositionException) as error:
        composed("pairs.train=many")
    assert "pairs.train" in f"{error.value} {error.value.__cause__}"


def test_custom_classes_must_be_given() -> None:
    with pytest.raises(ValueError, match=r"no value for classes\.names: .*classes\.names="):
        typed(composed("classes=custom"))


def numeric_fields(schema: type, prefix: str = "") -> Iterator[tuple[str, bool]]:
    """Dotted key of every number and list of numbers in a schema, and whether it holds floats."""
    hints = get_type_hints(schema)
    for field in dataclasses.fields(schema):
        hint = hints[field.name]
        if dataclasses.is_dataclass(hint):
            yield from numeric_fields(cast(type, hint), f"{prefix}{field.name}.")
        elif {int, float} & (kinds := {hint, *get_args(hint)}):
            yield f"{prefix}{field.name}", float in kinds


NUMBERS = {
    (f"{group}." if group else "") + key: (schema, is_float)
    for group, schema in ((name.rpartition("/")[0], schema) for name, schema in schemas().items())
    for key, is_float in numeric_fields(schema)
}
"""Every numeric key of a run: a schema that has it, and whether it is a float."""
SAID = [
    (key, says)
    for name, schema in schemas().items()
    for key, _, says in described(schema, f"{name.rpartition('/')[0]}." if "/" in name else "")
]
"""Every key of every schema, and what its field says of itself."""
RANGES: dict[str, tuple[float, float]] = {key: (says["low"], says["high"]) for key, says in SAID if "low" in says}
CHOICES: dict[str, tuple[str, ...]] = {key: says["choices"] for key, says in SAID if "choices" in says}


def with_number(key: str, value: object) -> RunConfig:
    """A valid run in which one number is another; its group has the schema that knows the key."""
    schema, group = NUMBERS[key][0], key.partition(".")[0]
    config = copy.deepcopy(_typed_once())
    config.analysis.stages = ["link"]  # since a low number of test pairs is too few for the similarity
    if schema is not RunConfig:
        made = schema()
        vars(made).update({name: None for name, default in vars(made).items() if default == MISSING})
        setattr(config, group, made)
    owner = getattr(config, group) if "." in key else config
    is_list = get_origin(get_type_hints(type(owner))[key.rpartition(".")[2]]) is list
    setattr(owner, key.rpartition(".")[2], [value] if is_list else value)
    return config


def whole(value: float) -> float:
    """As an integer where it is one."""
    return int(value) if value == int(value) else value


def test_every_number_of_the_schema_has_a_range() -> None:
    assert NUMBERS.keys() == RANGES.keys()
    assert {says.keys() >= {"low", "high"} for key, says in SAID if key in NUMBERS} == {True}


@pytest.mark.parametrize("key", NUMBERS)
def test_a_number_beyond_its_range_not_a_number_or_infinite_is_named_with_what_is_allowed(key: str) -> None:
    low, high = RANGES[key]
    beyond = [low - 1, -1e9 if "." in key else -5, high + 1 if math.isfinite(high) else 2**31]
    values = [math.nan, math.inf, -math.inf, *map(float, beyond[:2])] if NUMBERS[key][1] else map(whole, beyond)
    for value in values:
        message = rf"{key}=\[?{re.escape(str(value))}\]?: expected .*(at least|a value from) {low:g}"
        with pytest.raises(ValueError, match=message):
            check_config(with_number(key, value), names())


def test_a_number_at_the_ends_of_its_range_is_taken() -> None:
    for key, bounds in RANGES.items():
        for value in filter(math.isfinite, bounds):
            config = with_number(key, float(value) if NUMBERS[key][1] else whole(value))
            if isinstance(config.link, RidgeConfig) and key == "link.largest":
                config.link.smallest = value
            check_config(config, names())


def test_composed_numbers_that_are_not_finite_are_refused() -> None:
    for override in ("gan.truncation=nan", "counterfactuals.lambda2=inf", "counterfactuals.l1_sweep=[0,nan]"):
        with pytest.raises(ValueError, match=re.escape(override.partition("=")[0])):
            check_config(typed(composed(override)), names())


@pytest.mark.parametrize("values", [[], [0.1, 0.1], [0.0, -0.1], [-0.1, 0.2], [math.nan, 0.1], [0.1, math.inf]])
def test_a_sweep_of_l1_weights_that_is_empty_double_negative_or_not_finite_is_refused(values: list[float]) -> None:
    config = typed(composed())
    config.counterfactuals.l1_sweep = values
    with pytest.raises(
        ValueError, match=r"counterfactuals\.l1_sweep=\[.*\]: expected different numbers, each .*least 0"
    ):
        check_config(config, names())


def test_a_ridge_path_that_ends_before_it_begins_is_refused_before_any_work() -> None:
    with pytest.raises(ValueError, match=r"link\.smallest=10: expected at most link\.largest=1"):
        check_config(typed(composed("link=ridge", "link.smallest=10", "link.largest=1")), names())


def test_similarity_needs_as_many_test_pairs_as_examples() -> None:
    config = composed("pairs.test=20", "similarity.examples=30", "analysis.stages=[link]")
    check_config(typed(config), names())
    config.analysis.stages.append("similarity")
    with pytest.raises(ValueError, match=r"similarity\.examples=30: expected at most pairs\.test=20"):
        check_config(typed(config), names())


def test_similarity_needs_three_samples_in_all() -> None:
    config = composed("pairs.test=2", "similarity.examples=2", "classes=custom", "classes.names=[pug]")
    with pytest.raises(ValueError, match=r"similarity\.examples=2 of 1 classes: expected 3 or more"):
        check_config(typed(config), names())


def option_with(key: str) -> str:
    """An option that has the key of a choice."""
    if key in ("gan.dtype", "gan.compile"):
        return "gan=imagenet256"
    if key == "link.pc_target":
        return "link=fc_l2"
    if key == "classifier.library":
        return "classifier=resnet50"
    if key == "classifier.read":
        return "classifier=planted"
    return "matcher=pump" if key == "matcher.descriptor" else "logger=wandb"


@pytest.mark.parametrize("key", CHOICES)
def test_every_choice_is_checked(key: str) -> None:
    with pytest.raises(ValueError, match=rf"{key}=nonsense: expected one of"):
        check_config(typed(changed(option_with(key), key, "nonsense")), names())
    for value in CHOICES[key]:
        check_config(typed(changed(option_with(key), key, value)), names())


def test_all_problems_are_told_at_once() -> None:
    with pytest.raises(ValueError, match="unknown stage 'zoo', expected some of pairs/train") as error:
        check_config(typed(composed("pairs.train=-1", "pairs.accept=all", "analysis.stages=[zoo]")), names())
    assert len(str(error.value).splitlines()) == 3


def test_the_default_is_the_demo() -> None:
    config = typed(composed())
    assert isinstance(config, RunConfig) and (config.pairs.train, config.pairs.test) == (1200, 1000)
    assert config.classes.name == "dogs"
    assert config.analysis.stages == ["pairs/train", "pairs/test", "link", "evaluation", "similarity"]


@pytest.mark.parametrize("schema", [schema for schema in schemas().values() if hasattr(schema, "_target_")])
def test_a_default_stands_in_the_schema_alone(schema: type) -> None:
    """The object that a schema describes had its defaults written down a second time."""
    if (target := vars(schema).get("_target_", MISSING)) == MISSING:
        return  # of whatever the user names
    made = get_object(target)
    source = inspect.getsource(made)
    for name, parameter in inspect.signature(made).parameters.items():
        default = getattr(schema, name, MISSING)
        if parameter.default is not inspect.Parameter.empty and default != MISSING and name != "enlarge":
            assert parameter.default == default
            assert re.search(rf"\b{name}: [^=\n]+ = {schema.__name__}\.{name}\b", source), f"{target}: {name}"


def test_engine_and_logger_are_built(tmp_path: Path) -> None:
    config = typed(composed())
    assert isinstance(build.build(config.engine), InProcess)
    assert isinstance(build.build(config.logger, out=str(tmp_path)), CsvTracker)


@pytest.mark.parametrize(
    ("target", "message"),
    [("lis.engine.Nothing", "lis.engine.Nothing"), ("lis.lock.Lease", "folder"), ("lis.streams.Stream", "name")],
)
def test_what_cannot_be_built_is_named(target: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build.build(EngineConfig(_target_=target))


def test_an_objects_own_complaint_about_its_arguments_is_passed_on() -> None:
    with pytest.raises(ValueError, match=r"^unknown stream 'x': expected one of") as error:
        build.build(EngineConfig(_target_="lis.streams.Stream"), name="x")
    assert "Error in call" not in str(error.value)


def test_devices() -> None:
    assert find_device("cpu") == torch.device("cpu")
    assert find_device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")
    assert describe(torch.device("cpu")) == "cpu"
    for name, unit in itertools.product(("cuda", "abacus", "meta"), ("", ":99")):
        if name + unit != "cuda" or not torch.cuda.is_available():
            with pytest.raises(ValueError, match=f"device '{name}{unit}': expected auto, cpu"):
                find_device(name + unit)


@pytest.mark.parametrize("name", SETS)
def test_class_sets_are_those_of_part_world(name: str) -> None:
    classes = typed(composed(f"classes={name}")).classes
    assert tuple(classes.names) == tuple(SETS[name].classes)
    assert tuple(classes.labels) == SETS[name].labels
