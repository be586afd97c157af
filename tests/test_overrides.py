"""Paths on the command line: taken as they are, whatever their name holds, and anchored where the command was typed."""

from __future__ import annotations

import ast
import inspect
import re
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from helpers.commandline import SMALL, lis
from hydra import compose, initialize_config_dir
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.utils import get_object
from omegaconf import OmegaConf

from lis.config import StyleGANXLConfig, conf_folder, models, root, root_schema
from lis.config import root as root_module
from lis.config.fields import described
from lis.config.overrides import anchored, path_keys, spelled
from lis.config.renamed import RENAMED, require_current
from lis.stages import names, register
from lis.validation import typed

NAMES = (
    "epoch=3-step=100.ckpt",
    "Übung/größe.ckpt",
    "Bilder (neu)/mit Leerzeichen.png",
    "a#b.ckpt",
    "a,b.ckpt",
    "[old] {x}.npy",
    'it\'s "mine".pt',
    "cost$5.pt",
    "${literal}.pt",
    "back\\slash.pt",
    "ends in \\",
    "007",
    "2024_01",
    "true",
    "1e3",
    "~tilde~",
    "a: b",
    "10% off & more; *?!.pt",
)


@pytest.fixture
def cwd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def read(*arguments: str, sweep: bool = False) -> list[object]:
    """The values that Hydra and OmegaConf read in the last override."""
    override = OverridesParser.create().parse_overrides([a for a in spelled(arguments) if not a.startswith("-")])[-1]
    values = list(override.sweep_string_iterator()) if override.is_sweep_override() else []
    if not values:
        return [OmegaConf.create({"value": override.value()})["value"]]
    assert sweep, f"{arguments} became a sweep"
    return [read(f"seed={value}")[0] for value in values]


def test_every_text_key_that_is_said_to_hold_a_path_is_known_as_one() -> None:
    """Found by their descriptions in the schema."""
    said = set()
    for module in (models, root_module, root, *(sys.modules[owned.__module__] for owned in root.GROUPS.values())):
        classes = [node for node in ast.parse(inspect.getsource(module)).body if isinstance(node, ast.ClassDef)]
        for schema in (node for node in classes if node.name.endswith("Config")):
            for field, text in zip(schema.body[:-1], schema.body[1:], strict=True):
                if isinstance(field, ast.AnnAssign) and isinstance(text, ast.Expr):
                    words = ast.unparse(text).lower()
                    if "str" in ast.unparse(field.annotation) and ("path" in words or "folder" in words):
                        said.add(ast.unparse(field.target))
    said -= {"folder"}  # described by what it holds
    assert {key.rpartition(".")[2] for key in path_keys()} - {"folder", "store"} == said
    assert "labels.folder" in path_keys() and "store" in path_keys()


@pytest.mark.parametrize("exists", [False, True])
@pytest.mark.parametrize("name", NAMES)
def test_a_path_is_taken_as_it_is_whatever_its_name_holds(name: str, exists: bool, cwd: Path) -> None:
    if exists:
        (cwd / name).parent.mkdir(exist_ok=True)
        (cwd / name).touch()
    elif "${" in name:
        pytest.skip("an interpolation, where there is no such file")
    for key in path_keys():
        assert read(f"{key}={name}") == [name]
        assert not exists or read("-m", f"++{key}={name}") == [name]


@pytest.mark.parametrize(
    ("typed_in", "expected"),
    [
        ("'a=b.pt'", "'a=b.pt'"),
        ('"a b"', '"a b"'),
        ("null", "null"),
        (r"a\=b\,c.pt", r"a\=b\,c.pt"),
        ("${oc.env:HOME}/my pictures", "'${oc.env:HOME}/my pictures'"),
        ("glob(*)", "glob(*)"),
    ],
)
def test_what_is_written_for_hydra_already_stays(typed_in: str, expected: str, cwd: Path) -> None:
    assert spelled([f"classifier.weights={typed_in}"]) == [f"classifier.weights={expected}"]


def test_interpolations_in_paths_are_resolved(cwd: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PICTURES", "/photos (1)")
    assert read("images=${oc.env:PICTURES}/a, b=c") == ["/photos (1)/a, b=c"]
    assert read("-m", "images=${oc.env:NOWHERE,/x}/a,b", sweep=True) == ["/x/a", "b"]


def test_a_sweep_over_paths_is_one_unless_a_file_has_that_name(cwd: Path) -> None:
    assert read("-m", "classifier.weights=a=1.ckpt,'b,c.ckpt'", sweep=True) == ["a=1.ckpt", "b,c.ckpt"]
    assert read("-m", "images=a, b", sweep=True) == read("-m", "images=a , 'b'", sweep=True) == ["a", "b"]
    (cwd / " c").touch()
    assert read("-m", "images=a, c", sweep=True) == ["a", " c"]
    (cwd / "a,b.ckpt").touch()
    assert read("-m", "classifier.weights=a,b.ckpt") == ["a,b.ckpt"]
    assert read("-m", "hydra.sweep.dir=my sweep, new") == ["my sweep, new"]  # Hydra does not sweep over its own keys
    assert spelled(["-m", "link=lr,ridge"]) == ["link=lr,ridge", "-m"]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["seed=1", "-m", "link=lr,ridge"], ["seed=1", "link=lr,ridge", "-m"]),
        (["--info", "seed=1"], ["seed=1", "--info"]),
        (["--cfg", "job", "seed=1", "--package", "pairs"], ["seed=1", "--cfg", "job", "--package", "pairs"]),
        (["-cd", "my=conf", "seed=1", "~labels"], ["seed=1", "~labels", "-cd", "my=conf"]),
        (["--config-dir=my=conf", "class=pug"], ["class_name=pug", "--config-dir=my=conf"]),
    ],
)
def test_options_may_stand_between_overrides(arguments: list[str], expected: list[str], cwd: Path) -> None:
    assert spelled(arguments) == expected


def test_relative_paths_are_anchored_and_words_are_left(cwd: Path) -> None:
    register()
    with initialize_config_dir(version_base="1.3", config_dir=str(conf_folder())):
        config = typed(compose("config", ["gan=file", "gan.weights=g.pkl", "classifier=resnet50"]))
    config = replace(config, direction="pc:1", images="~/photos", labels=replace(config.labels, folder="/labels"))
    found = anchored(config, Path("/start"))
    assert isinstance(found.gan, StyleGANXLConfig) and found.gan.weights == "/start/g.pkl"
    assert found.store == "/start/outputs/store" and found.labels.folder == "/labels"
    assert found.classifier == config.classifier and found.direction == "pc:1" and found.evaluation.moco is None
    assert found.images == str(Path("~/photos").expanduser())
    assert anchored(replace(config, direction="d.npy"), Path("/start")).direction == "/start/d.npy"


@pytest.mark.slow
def test_paths_are_those_of_the_folder_that_the_command_was_started_in(tmp_path: Path) -> None:
    """Hydra may change into the run's folder first."""
    (tmp_path / "meine Bilder (1)").mkdir()
    run = ("hydra.run.dir=runs/größe=1, neu", "hydra.job.chdir=true", "analysis.stages=[pairs/test]", "pairs.test=5")
    code, output = lis(*SMALL, *run, "images=meine Bilder (1)", cwd=tmp_path)
    assert code == 1 and f"images={tmp_path / 'meine Bilder (1)'}: no stage of this run reads it (pairs/test)" in output
    code, output = lis(*SMALL, *run, "store=mein Lager", cwd=tmp_path)
    assert code == 0, output
    assert (tmp_path / "mein Lager" / "pairs-test").is_dir()
    assert {"report.html", "metrics.json", "lis.log"} <= {p.name for p in (tmp_path / "runs/größe=1, neu").iterdir()}
    code, output = lis(*SMALL, "analysis=images", "images=meine Bilder (1)", *run[:2], cwd=tmp_path)
    assert code == 1 and f"{tmp_path / 'meine Bilder (1)'}" in output


@pytest.mark.parametrize("digits", [4_001, 5_000])
def test_a_number_of_thousands_of_digits_was_a_traceback(digits: int, tmp_path: Path) -> None:
    """It is named, whether or not Python reads it."""
    code, output = lis(f"seed={'9' * digits}", cwd=tmp_path)
    assert code and "Traceback" not in output and "seed=" in output and len(output) < 4000


@pytest.mark.parametrize(
    ("typed_in", "name", "new", "write"),
    [
        ("strips.units=3", "strips", "traversal", "traversal.units=3"),
        ("units.top=5,6", "units", "unit_statistics", "unit_statistics.top=5,6"),
        ("+counterfactual.samples=2", "counterfactual", "counterfactuals", "+counterfactuals.samples=2"),
        ("~gan_counterfactual.units", "gan_counterfactual", "gan_counterfactuals", "~gan_counterfactuals.units"),
        ("++strips={units: 3}", "strips", "traversal", "++traversal={units: 3}"),
        ("~strips", "strips", "traversal", "~traversal"),
        (
            "tuning.null_directions=4",
            "tuning.null_directions",
            "tuning.control_directions",
            "tuning.control_directions=4",
        ),
        (
            "counterfactual.shown=1",
            "counterfactual.shown",
            "counterfactuals.trajectories",
            "counterfactuals.trajectories=1",
        ),
        (
            "gan_counterfactual.shown=1",
            "gan_counterfactual.shown",
            "gan_counterfactuals.examples",
            "gan_counterfactuals.examples=1",
        ),
        (
            "segmenter._target_=lis.segmentation.fewshot.FewShotFit",
            "the target lis.segmentation.fewshot.FewShotFit",
            "lis.segmentation.segmenter.FewShotFit",
            "segmenter._target_=lis.segmentation.segmenter.FewShotFit",
        ),
        ("analysis=strips", "the analysis strips", "traversal", "analysis=traversal"),
        ("analysis='units'", "the analysis units", "unit_statistics", "analysis='unit_statistics'"),
        (
            "analysis=link,counterfactual",
            "the analysis counterfactual",
            "counterfactuals",
            "analysis=link,counterfactuals",
        ),
        (
            "analysis=choice(unit,gan_counterfactual)",
            "the analysis gan_counterfactual",
            "gan_counterfactuals",
            "analysis=choice(unit,gan_counterfactuals)",
        ),
        (
            "analysis=counterfactual_truth",
            "the analysis counterfactual_truth",
            "boundary_truth",
            "analysis=boundary_truth",
        ),
        (
            "analysis.stages=[pairs/train,link,strips]",
            "the stage strips",
            "traversal",
            "analysis.stages=[pairs/train,link,traversal]",
        ),
        (
            "analysis.stages=[tuning, units]",
            "the stage units",
            "unit_statistics",
            "analysis.stages=[tuning, unit_statistics]",
        ),
    ],
)
def test_an_old_name_is_refused_with_the_new_one(typed_in: str, name: str, new: str, write: str) -> None:
    """Hydra named the key that is missing, and no remedy."""
    with pytest.raises(ValueError, match=re.escape(f"{typed_in}: {name} is now called {new}; write {write}")):
        spelled(["seed=1", "-m", typed_in])
    assert spelled([write])  # and what it says to write is not refused again


def test_all_old_names_of_a_command_line_are_told_at_once(tmp_path: Path) -> None:
    code, output = lis("analysis=strips", "strips.units=3", "counterfactual.samples=1", *SMALL, cwd=tmp_path)
    assert code == 1 and [line.split(":")[0] for line in output.splitlines()] == [
        "analysis=strips",
        "strips.units=3",
        "counterfactual.samples=1",
    ]
    assert not (tmp_path / "outputs").exists()


def test_words_that_only_hold_an_old_name_are_left() -> None:
    current = [
        "analysis=unit",
        "motion.units=4",
        "images=strips",
        "gan_counterfactuals.units=2",
        "unit=3",
        "matching=1",
    ]
    require_current([*current, "analysis.stages=[unit_statistics,counterfactuals]", "+experiment=fig4", "class=units"])


def test_every_new_name_of_a_setting_an_analysis_or_a_stage_exists() -> None:
    register()
    keys = {key for key, _, _ in described(root_schema())}
    assert {*RENAMED["group"].values()} <= {key.partition(".")[0] for key in keys}
    assert {*RENAMED["key"].values()} <= keys and not {*RENAMED["key"]} & keys
    assert {*RENAMED["stage"].values()} <= {*names()} and not {*RENAMED["stage"]} & {*names()}
    assert all(callable(get_object(target)) for target in RENAMED["target"].values())
    written = {file.stem for file in (conf_folder() / "analysis").glob("*.yaml")}
    assert {*RENAMED["analysis"].values()} <= written and not {*RENAMED["analysis"]} & written
