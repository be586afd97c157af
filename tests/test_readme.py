"""Every command of README.md: run at smoke size, or composed and checked where that takes a network or long work."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.commandline import ROOT, SMALL, lis
from hydra import compose, initialize_config_dir
from PIL import Image

from lis.config import conf_folder
from lis.config.overrides import spelled
from lis.stages import names, register
from lis.validation import check_config, typed

README = (ROOT / "README.md").read_text()
BLOCKS = "\n".join(re.findall(r"```bash\n(.*?)```", README, re.DOTALL))
COMMANDS = [
    shlex.split(line, comments=True)[2:]
    for line in [*BLOCKS.splitlines(), *re.findall(r"`(python -m lis[^`]*)`", README)]
    if line.startswith("python -m ")
]
"""Module and arguments of every command, those in the text as well."""
RUNS = sorted({shlex.join(arguments): arguments for module, *arguments in COMMANDS if module == "lis.run"}.items())
COMPOSED = {
    "": "run by test_run.py",
    "size=smoke": "run by test_run.py",
    "size=paper plan=true": "ends in no page; test_planning.py plans",
    "+experiment=fig3": "run by test_experiments.py",
    "analysis=unit_statistics classes=birds": "run by test_experiments.py along the link (figS26)",
    "analysis=motion": "run by test_experiments.py along the link (fig4c)",
    "analysis=counterfactuals 'counterfactuals.pairs=[pug-chihuahua]'": "run by test_trajectories.py, all stages",
    "analysis=unit unit=12 class=pug": "run along `closed`",
    "classes=custom 'classes.names=[pug,chihuahua]'": "run by test_classifiers.py",
    "link=fc_l2 classes=fungi": "run by test_experiments.py: the link in figS1, the set in figS21",
    "logger=wandb logger.mode=offline": "run by test_run.py where wandb is installed",
    "gan=imagenet256 classifier=resnet50": "published weights",
    "classifier=file classifier.model=resnet50 'classifier.weights=<path>' classifier.num_classes=2 '…'": "no file",
    "-m link=lr,ridge,fc_l1,fc_l2 classes=dogs,fungi,birds": "twelve jobs; test_run.py runs a sweep",
}
"""What is not run here, and why."""
ELSEWHERE = {
    "lis.classifiers": "run by test_catalogue.py",
    "lis.labels export '<folder>' gan=… classes=…": "run by test_labels.py",
    "lis.labels check '<folder>'": "run by test_labels.py",
    "lis.worker '<the' same 'overrides>'": "run by test_distributed.py",
}
"""Commands of other programs, and where they are run."""
LONG = (
    "analysis=demo",
    "classifier=densenet201 link=fc_l2",
    "classifier=timm classifier.model=convnext_atto.d2_in1k",
)
"""What is run in `make full`: the demo, whose numbers test_contents.py compares, and trainings of minutes."""


def small(arguments: list[str], cwd: Path, store: Path) -> list[str]:
    """A command at smoke size, with a folder of pictures for its placeholder."""
    folder = cwd / "my pictures (1)"
    folder.mkdir()
    for name in ("a", "b"):
        Image.fromarray(np.full((70, 80, 3), 90 + ord(name), np.uint8)).save(folder / f"{name}.png")
    filled = [argument.replace("<folder>", str(folder)) for argument in arguments]
    return [*filled, *SMALL, "threads=1", f"store={store}", "hydra.run.dir=run", "hydra.sweep.dir=run"]


def ends_in_a_page(arguments: list[str], cwd: Path, store: Path) -> None:
    code, output = lis(*small(arguments, cwd, store), cwd=cwd, timeout=800)
    assert code == 0, output
    assert (cwd / "run" / "report.html").stat().st_size > 20_000


def test_the_readme_has_commands_and_every_exception_is_one_of_them() -> None:
    assert {shlex.join(command) for command in COMMANDS if command[0] != "lis.run"} == {
        shlex.join(shlex.split(command)) for command in ELSEWHERE
    }
    assert len(RUNS) > 15
    assert {*COMPOSED, *LONG} <= {command for command, _ in RUNS}


@pytest.mark.parametrize("command", [*COMPOSED, *LONG])
def test_what_is_not_run_composes_and_is_valid(command: str) -> None:
    register()
    arguments = dict(RUNS)[command]
    overrides = [a for a in spelled([a for a in arguments if a != "…"]) if not a.startswith("-")]
    choices = [re.sub(r"(=\w+),.*", r"\1", a) if "-m" in arguments else a for a in overrides]  # a sweep's first job
    with initialize_config_dir(version_base="1.3", config_dir=str(conf_folder())):
        check_config(typed(compose("config", choices)), names())


@pytest.mark.slow
@pytest.mark.parametrize(
    "arguments",
    [a for command, a in RUNS if command not in (*COMPOSED, *LONG) and a[0] != "--help"],
    ids=lambda a: shlex.join(a),
)
def test_every_run_of_the_readme_ends_in_a_page(arguments: list[str], tmp_path: Path, shared_store: Path) -> None:
    ends_in_a_page(arguments, tmp_path, shared_store)


@pytest.mark.full
@pytest.mark.parametrize("command", LONG)
def test_every_long_run_of_the_readme_ends_in_a_page(command: str, tmp_path: Path, shared_store: Path) -> None:
    ends_in_a_page([*shlex.split(command), "training.images=2000"], tmp_path, shared_store)


@pytest.mark.slow
def test_the_python_of_the_readme_runs(tmp_path: Path, shared_store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every line of the block, and what its comments say of the results."""
    (block,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    monkeypatch.chdir(tmp_path)
    for folder in (tmp_path / "outputs", shared_store):
        folder.mkdir(exist_ok=True)
    (tmp_path / "outputs" / "store").symlink_to(shared_store)
    names: dict[str, Any] = {}
    exec(compile(block, "README.md", "exec"), names)
    assert names["t"].image.shape[:2] == (2, 7) and names["look"].measures.shape[0] == 2
    assert {"sample", "step", "value", "label", "measure", "change"} <= {*names["t"].table}
    assert {"r", "logits", "probability", "mask"} <= {*vars(names["look"])} and len(names["c"].success) == 2


def test_help_lists_groups_and_keys(tmp_path: Path) -> None:
    code, output = lis("--help", cwd=tmp_path)
    assert code == 0 and "\nanalysis= " in output and "imagenet256" in output and " seed=0 " in output, output
