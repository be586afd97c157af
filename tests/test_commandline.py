"""The command line answers and refuses at once: nothing heavy is imported, and what is read is what is imported."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_type_hints

import pytest
from helpers.commandline import ROOT
from hydra import compose, initialize_config_dir
from hydra.core.config_store import ConfigStore
from hydra.core.hydra_config import HydraConfig
from omegaconf import OmegaConf

from lis import help as help_page
from lis import run, stages
from lis.compose import Composer, composed, composer
from lis.config import ClassifierConfig, NetworkConfig, PartNetConfig, conf_folder, root_schema
from lis.config.overrides import anchored, as_typed, spelled
from lis.config.root import GROUPS
from lis.plain import PLAIN
from lis.validation import typed

HEAVY = {
    *("torch", "timm", "torchvision", "pytorch_lightning", "numpy", "pandas", "sklearn", "scipy", "matplotlib", "cv2"),
    *("lis.store", "lis.job", "lis.linking.pairs", "rich"),
}
ANSWERS = {
    ("--help",): "Groups and their options",
    ("--help", "link=ridge"): "* ridge",
    ("--cfg", "job"): "_target_: lis.generators.partworld.PartWorld",
    ("--stages",): "| `pairs/train` |",
    ("-sc", "query=bash"): "link=fc_l1 link=fc_l2 link=fc_l2_prediction link=lr link=ridge\n",
    ("sede=1",): "sede: unknown group or key; did you mean seed?",
    ("--cfg", "job", "clasifier=resnet50"): "clasifier: unknown group or key; did you mean classifier?",
    ("--help", "link=fc_3"): "link=fc_3: unknown option; did you mean fc_l2?",
    ("pairs.train=abc",): "pairs.train=abc: expected a whole number",
    (
        "pairs.train=1",
        "traversal.steps=1",
    ): "pairs.train=1: expected at least 2\ntraversal.steps=1: expected at least 2",
    ("analysis=traversal", "pairs.test=5"): "traversal.samples or traversal.examples is",
    ("analysis.stages=[lnk]",): "analysis.stages: unknown stage 'lnk'; did you mean link? Expected some of pairs/train",
    ("strips.units=3",): "strips is now called traversal",
    ("-m", "seed=1,x", "link=lr,lx"): "link=lx: unknown option",
    ("--help", "--cfg", "job"): "Groups and their options",
    ("--help", "-cn", "config"): "Groups and their options",
    ("--experimental-rerun", "/nowhere"): "--experimental-rerun /nowhere: no such file",
    ("--cfg", "job", "seed=1,2"): "seed=1,2: several values",
    ("seed=${hydra:job.num}", "pairs.train=1"): "pairs.train=1: expected at least 2",
    ("seed=${nokey}",): "seed: Interpolation key 'nokey' not found",
    ("~tuning",): "no value for tuning.units, ",
    ("-m", "hydra.sweeper.params={seed:'1,2'}"): "hydra.sweeper.params={seed:'1,2'}: null stands there",
    ("-m", "+hydra.sweeper.params.seed='1,2'"): "+hydra.sweeper.params.seed='1,2': null stands there",
    ("+experiment=figS1,fig3",): "+experiment=figS1,fig3: several values",
    ("hydra.mode=multirun",): "hydra.mode=multirun: expected one of RUN, MULTIRUN or null",
}
"""What is typed, and what is then said."""


def answer(*arguments: str) -> str:
    """All that the command line says in this process."""
    sys.argv, printed = ["lis.run", *arguments], io.StringIO()
    HydraConfig.instance().cfg = None  # left by an answer of Hydra's before
    try:
        with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
            assert run.answered(), "a run would begin"
    except (SystemExit, ValueError) as ended:
        printed.write(str(ended))
    return printed.getvalue()


def facts() -> dict[str, Any]:
    """All that declarations say, as text."""
    stages.register()
    fields = {
        group: [
            (entry.name, repr(getattr(schema(), entry.name)), repr(get_type_hints(schema)[entry.name]))
            + (repr(dict(entry.metadata)),)
            for entry in dataclasses.fields(schema)
        ]
        for group, schema in GROUPS.items()
    }
    declared = [
        [each.name, each.version, each.file, each.build.__code__.co_firstlineno, each.build.__name__, each.holds]
        + [[(asked.name, asked.condition is None) for asked in each.inputs], each.config and each.config.__name__]
        + [each.group, each.seed, list(each.models), each.listed]
        + [getattr(each, name) is None for name in ("also", "problems", "check", "images", "arrays")]
        for each in stages.stages()
    ]
    analyses = ConfigStore.instance().repo["analysis"]
    return {
        "fields": list(fields.items()),
        "stages": declared,
        "table": stages.table(),
        "names": stages.names(),
        "keys": list(root_schema().__dataclass_fields__),
        "analyses": {name: OmegaConf.to_yaml(node.node) for name, node in sorted(analyses.items())},
    }


def everything() -> None:
    """What a process without anything imported says to all of the above, written as JSON."""
    os.environ["COMP_LINE"] = "python -m lis.run link="
    said = {" ".join(arguments): answer(*arguments) for arguments in ANSWERS}
    sys.argv = ["lis.run", "size=smoke", "analysis=demo", "class=pug", "seed=1"]
    begins = not run.answered()
    composed(["link=fc_l2"], Path.cwd())
    sys.stdout.write(json.dumps([said, begins, sorted(HEAVY & sys.modules.keys()), facts()]))


@pytest.fixture(scope="module")
def fresh() -> Any:
    """The output of `everything` in a process of its own: what is said, whether a run would begin, modules, facts."""
    program = "from test_commandline import everything; everything()"
    path = os.pathsep.join([str(ROOT), str(ROOT / "tests")])
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, env=os.environ | {"PYTHONPATH": path}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture
def each() -> Iterator[Composer]:
    stages.register()
    with composer() as made:
        yield made


def test_answering_checking_and_refusing_import_nothing_heavy(fresh: Any) -> None:
    said, begins, heavy, _ = fresh
    assert begins and heavy == []
    for arguments, expected in ANSWERS.items():
        assert expected in said[" ".join(arguments)], arguments
        assert "Traceback" not in said[" ".join(arguments)] and "HYDRA_FULL_ERROR" not in said[" ".join(arguments)]


def test_what_is_read_is_what_is_imported(fresh: Any) -> None:
    imported = json.loads(json.dumps(facts()))
    assert imported.keys() == fresh[3].keys()
    for name, value in imported.items():
        assert fresh[3][name] == value, name


@pytest.mark.parametrize(
    ("overrides", "lines"),
    [
        (["clasifier=resnet50"], ["clasifier: unknown group or key; did you mean classifier?"]),
        (["+experimnt=fig3"], ["experimnt: unknown group or key; did you mean experiment?"]),
        (["experiment=fig3"], ["experiment=fig3: nothing of this group is chosen yet; write +experiment=fig3"]),
        (["pairs.trian=3"], ["pairs.trian: unknown key of pairs; did you mean pairs.train?"]),
        (["link=fc_l1", "link.hiden=5"], ["link.hiden: unknown key of link=fc_l1; did you mean link.hidden?"]),
        (
            ["link.hiden=5"],
            [
                "link.hiden: unknown key of link=lr; did you mean link.hidden? link=fc_l1 has it, as fc_l2 and "
                "fc_l2_prediction do"
            ],
        ),
        (["truncation=0.7"], ["truncation: unknown group or key; did you mean gan.truncation?"]),
        (["link=fc_3"], ["link=fc_3: unknown option; did you mean fc_l2? Expected one of fc_l2, fc_l1, "]),
        (["link=null"], ["link=null: unknown option; expected one of fc_l1, fc_l2, fc_l2_prediction, lr, ridge"]),
        (["++link=lr"], ["++link=lr: "]),
        (["~link=ridge"], ["~link=ridge: Could not delete 'link=ridge'. No match in the defaults list"]),
        (["link=base_mlp"], ["link=base_mlp: unknown option; expected one of"]),
        (["classes.names=extend_list(a)"], ["classes.names=extend_list(a): Unknown function 'extend_list' Available"]),
        (["+labels=x"], ["+labels=x: Could not append to config. An item is already at 'labels'."]),
        (["pairs.train=abc", "gan.truncation=x"], ["pairs.train=abc: expected a whole number", "gan.truncation=x: "]),
        (["unit=a"], ["unit=a: expected a whole number or null"]),
        (["classes.names=pug"], ["classes.names=pug: expected a list of texts, as [a,b]"]),
        (["pairs=5"], ["pairs=5: pairs is a group of settings: expected pairs.train=…, pairs.test=…"]),
        (["pairs={trian: 3}"], ["pairs.trian: unknown key of pairs; did you mean pairs.train?"]),
        (["pairs.train.x=3"], ["pairs.train.x: pairs.train is one value and has no x"]),
        (["~pairs.train"], ["~pairs.train: a key of a run cannot be taken away; give it another value"]),
        (["hydra.rnu.dir=x"], ["hydra.rnu: unknown key of hydra; did you mean hydra.run?"]),
        (["seed=1,2"], ["seed=1,2: several values; a list is written seed=[…], and a run for each needs -m"]),
        (["seed"], ["seed: expected seed=…, a value behind a key"]),
        (["classes.names=[a"], ["classes.names=[a: expected a value that can be read: quotes and brackets in pairs"]),
        (
            ["counterfactuals.witness=partnet_atributes"],
            ["counterfactuals.witness=partnet_atributes: unknown option; did you mean partnet_attributes? Expected "],
        ),
        (
            ["counterfactuals.witness.domain=any"],
            ["counterfactuals.witness.domain=any: null stands there, which takes no keys from here; choose one, as "],
        ),
        (
            ["counterfactuals.witness=partnet", "counterfactuals.witness.tsk=classes"],
            ["counterfactuals.witness.tsk: unknown key of counterfactuals.witness; did you mean counterfactuals.wit"],
        ),
        (
            ["counterfactuals.witness=partnet,planted"],
            ["counterfactuals.witness=partnet,planted: several values; a list is written counterfactuals.witness=[…]"],
        ),
        (
            ["+counterfactuals.witness=partnet"],
            ["+counterfactuals.witness=partnet: expected an option of its group or"],
        ),
        (["names=[pug]", "classes=custom"], ["names: unknown group or key; did you mean classes.names?"]),
        (["classes=custom"], ["no value for classes.names: give it on the command line, as classes.names=…"]),
        (["sede=1", "link=rige", "seed=x"], ["sede: unknown", "link=rige: unknown", "seed=x: expected"]),
    ],
)
def test_what_is_wrong_is_told_in_a_line_each_with_what_was_probably_meant(
    overrides: list[str], lines: list[str]
) -> None:
    with pytest.raises(ValueError, match=r"\S") as error:
        composed(overrides, Path.cwd())
    told = str(error.value).splitlines()
    assert len(told) == len(lines) and all(line.startswith(start) for line, start in zip(told, lines, strict=True))
    assert not any(
        word in str(error.value).replace("link=base_mlp:", "") for word in ("base_", "HYDRA", "To append", "struct")
    )


@pytest.mark.parametrize(
    "overrides",
    [
        ["class=pug", "pairs.train=60", "images=my pictures, old", "evaluation.lpips=false"],
        ["link=ridge", "link.steps=5", "gan=imagenet256", "~labels", "++seed=4", "hydra.job.num=3"],
        ["+experiment=fig7", "size=smoke", "counterfactuals={samples: 3}", "segmenter=three"],
        ["classifier=partnet_attributes", "counterfactuals.witness=partnet", "counterfactuals.witness.domain=any"],
        ["counterfactuals.witness=null", "counterfactuals.samples=3"],
    ],
)
def test_settings_are_those_that_hydra_composes(overrides: list[str]) -> None:
    with initialize_config_dir(version_base="1.3", config_dir=str(conf_folder())):
        stages.register()
        expected = anchored(typed(compose("config", spelled(overrides))), Path("/start"))
    assert composed(overrides, Path("/start")) == expected


def test_of_a_sweep_every_value_of_every_key_is_checked_once(each: Composer) -> None:
    sweep = ["link=lr,ridge,fc_l1", "seed=range(0,4)", "pairs.train=60,70"]
    jobs = [[str(override.input_line) for override in job] for job in each._jobs(each._parsed(sweep))]
    assert len(jobs) == 1 + 2 + 3 + 1 and jobs[0] == ["link=lr", "seed=0", "pairs.train=60"]
    assert sorted({line for job in jobs for line in job if line[:4] == "seed"}) == [f"seed={n}" for n in range(4)]
    each.check(sweep, multirun=True)
    with pytest.raises(ValueError, match="several values") as error:
        each.check(sweep, multirun=False)
    assert len(str(error.value).splitlines()) == 3
    with pytest.raises(ValueError, match="expected") as error:
        each.check(["link=lr,rige", "seed=0,x", "pairs.train=60,1", "threads=2"], multirun=True)
    assert [line.partition(":")[0] for line in str(error.value).splitlines()] == [
        "link=rige",
        "seed=x",
        "pairs.train=1",
    ]


@pytest.mark.parametrize(
    "arguments",
    [
        ["store=${hydra:runtime.cwd}/s", "images=${hydra:runtime.output_dir}/x", "device=${hydra:job.name}"],
        ["-m", "seed=${hydra:job.num}", "link=lr,ridge"],
        ["+hydra.job.env_set.S=3", "seed=${oc.env:S}"],
        ["classes=custom", "classes.names=${oc.env:NOT_SET}"],
        ["link=${oc.env:NOT_SET,ridge}", "link.steps=5"],
        ["-m", "link=glob(*)", "matcher=glob([f*,p*])"],
    ],
)
def test_what_only_the_job_knows_is_left_to_it(each: Composer, arguments: list[str]) -> None:
    each.check([argument for argument in spelled(arguments) if argument != "-m"], multirun="-m" in arguments)


def test_a_file_that_python_cannot_parse_is_told_in_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "answered", lambda: compile("\nx = = 1", "new.py", "exec"))
    with pytest.raises(SystemExit, match=r"^new\.py:2: invalid syntax$"):
        run.command()


def test_no_shell_asks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("COMP_LINE", raising=False)
    with pytest.raises(ValueError, match="expected COMP_LINE in the environment"):
        run.complete()


def test_stages_that_reading_missed_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    known = stages.stages()
    registry = {each.name: each for each in known}
    monkeypatch.setattr(stages, "REGISTRY", registry)
    monkeypatch.setattr(stages, "GROUPS", dict(GROUPS))
    monkeypatch.setattr(stages, "_state", "read")
    monkeypatch.setattr(stages, "_modules", lambda: iter([("again", Path())]))
    monkeypatch.setattr(stages, "import_module", lambda _: registry.update(new=known[0]))
    registry.pop("link")
    with pytest.raises(stages.Unread, match=r"is declared in .* when that is imported, and not when it is read"):
        stages.discover()


def test_an_experiment_that_sweeps_is_checked_without_m(each: Composer) -> None:
    each.check(["+experiment=figS1", "seed=0,1"], multirun=False)
    with pytest.raises(ValueError, match=r"^seed=-1: expected a value from 0"):
        each.check(["+experiment=figS1", "seed=0,-1"], multirun=False)


def test_a_witness_is_an_option_of_classifier_beside_the_run_s() -> None:
    start, weights = Path("/start"), "counterfactuals.witness.weights=epoch=3.ckpt"
    settings = composed(["counterfactuals.witness=resnet50", weights], start)
    assert isinstance(settings.counterfactuals.witness, NetworkConfig) and isinstance(
        settings.classifier, PartNetConfig
    )
    assert settings.counterfactuals.witness.weights == "/start/epoch=3.ckpt"
    assert composed([], start).counterfactuals.witness is None


def test_a_sweep_over_witnesses_is_another_than_one_over_classifiers(each: Composer) -> None:
    sweep = spelled(["classifier=partnet,planted", "counterfactuals.witness=partnet_attributes,resnet50"])
    jobs = [[as_typed(str(override.input_line)) for override in job] for job in each._jobs(each._parsed(sweep))]
    assert jobs == [
        ["classifier=partnet", "counterfactuals.witness=partnet_attributes"],
        ["classifier=planted", "counterfactuals.witness=partnet_attributes"],
        ["classifier=partnet", "counterfactuals.witness=resnet50"],
    ]
    each.check(sweep, multirun=True)


def test_another_folder_with_options_is_read(tmp_path: Path) -> None:
    stages.register()
    for name, text in {
        "mine": "defaults:\n- base_mlp\nhidden: 7\n",
        "bad": "defaults:\n- base_mlp\nhiden: 7\n",
    }.items():
        (tmp_path / "link").mkdir(exist_ok=True)
        (tmp_path / "link" / f"{name}.yaml").write_text(text)
    (tmp_path / "classifier").mkdir()
    (tmp_path / "classifier" / "other.yaml").write_text("_target_: mine.Other\n")
    with composer(str(tmp_path)) as each:
        each.check(["link=mine", "link.patience=3"], multirun=False)
        settings = each.run(spelled(["counterfactuals.witness=other"]))
        assert settings.counterfactuals.witness == ClassifierConfig(_target_="mine.Other")
        with pytest.raises(ValueError, match=r"^link=bad: In 'link/bad': .*Key 'hiden' not in 'MLPConfig'"):
            each.check(["link=bad"], multirun=False)
    with composer() as each:
        each.check([f"hydra.searchpath=[file://{tmp_path}]", "link=mine", "link.patience=3"], multirun=False)
    with pytest.raises(ValueError, match="nowhere: no such folder"), composer(str(tmp_path / "nowhere")):
        pass


def test_help_says_what_every_option_is_and_marks_what_is_chosen(each: Composer) -> None:
    page = help_page.page(each, ["link=ridge"])
    assert "  * ridge " in page and "    lr " in page and "base_" not in page and "_target_" not in page
    assert max(map(len, page.splitlines())) <= help_page.WIDTH
    assert page.translate(PLAIN).isascii()
    for group in each.groups:
        for option in each.options(group):
            assert not option.startswith("base_")
            assert re.search(rf"(?<!\S){re.escape(option)}(?!\S)", page), option
            assert help_page.described(group, option), f"{group}/{option} begins with no comment"
    assert {*each.groups} == {*help_page._GROUPS}


def test_the_examples_of_help_would_run(each: Composer) -> None:
    examples = re.findall(r"^ +python -m lis\.run (.*)$", help_page.page(each, []), re.MULTILINE)
    assert len(examples) == 5
    for example in examples:
        each.check(spelled([word for word in example.split() if word != "-m"]), multirun="-m" in example.split())
