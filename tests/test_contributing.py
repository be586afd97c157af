"""CONTRIBUTING.md keeps what it says: its analysis runs word for word, and what it points at is there."""

from __future__ import annotations

import ast
import doctest
import html
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml
from helpers.commandline import ROOT, SMALL
from test_architecture import DRAWN, layers, offences

from benchmarks.house import modules

TEXT = (ROOT / "CONTRIBUTING.md").read_text()
FILES: dict[str, str] = dict(re.findall(r"^`(lis/\S+\.py)`\n\n```python\n(.*?)^```", TEXT, re.MULTILINE | re.DOTALL))
"""The worked example: text by file."""
NAME = Path(next(iter(FILES))).stem
ANSWERS = re.findall(r"^\| [^|]+ \| (.*) \|$", TEXT.partition("## Where would I change")[2], re.MULTILINE)[1:]


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the package with the two files of the example, and nothing else that is new."""
    root = tmp_path_factory.mktemp("contributing")
    shutil.copytree(ROOT / "lis", root / "lis", ignore=shutil.ignore_patterns("__pycache__"))
    (root / "conf").symlink_to(ROOT / "conf")
    for file, text in FILES.items():
        assert not (root / file).exists(), f"{file} is there already: the example needs another name"
        (root / file).write_text(text)
    return root


def test_a_new_analysis_is_one_file_and_one_picture_file(written: Path) -> None:
    assert [*FILES] == [f"lis/units/{NAME}.py", f"lis/report/{NAME}.py"]
    command = [sys.executable, "-m", "lis.run", f"analysis={NAME}", f"{NAME}.shuffles=5", *SMALL, "hydra.run.dir=run"]
    environment = os.environ | {"PYTHONPATH": str(written)}
    done = subprocess.run(command, cwd=written, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    run = written / "run"
    page, numbers = html.unescape((run / "report.html").read_text()), json.loads((run / "metrics.json").read_text())
    assert ">Dimensionality of R</h3>" in page and (run / "figures" / f"{NAME}.png").exists()
    assert 1 <= numbers[f"{NAME}/ratio"] < numbers[f"{NAME}/control"]
    table = pd.read_parquet(run / "tables" / NAME / f"{NAME}.parquet")
    low, control, high = (table[name].to_numpy() for name in ("low", "control", "high"))
    assert len(table) == 5 and (low <= control).all() and (control <= high).all()


def test_the_example_is_written_as_everything_else_is() -> None:
    for file, text in FILES.items():
        for arguments in (["format", "--check", "-"], ["check", "-"]):
            command = [sys.executable, "-m", "ruff", *arguments, "--stdin-filename", str(ROOT / file)]
            done = subprocess.run(command, cwd=ROOT, input=text, capture_output=True, text=True)
            assert done.returncode == 0, f"{file}: {done.stdout}{done.stderr}"
    known = dict.fromkeys(modules(ROOT), "")
    sources = {file.removesuffix(".py").replace("/", "."): text for file, text in FILES.items()}
    assert not offences(known | sources, layers(DRAWN))


def test_the_formula_of_the_example_is_that_of_its_docstring() -> None:
    """On the eigenvalues of a covariance matrix, one after the other."""
    tree = ast.parse(next(iter(FILES.values())))
    (formula,) = (node for node in tree.body if getattr(node, "name", "") == "participation_ratio")
    known: dict[str, Any] = {"np": np}
    exec(compile(ast.Module([formula], []), "CONTRIBUTING.md", "exec"), known)
    r = np.random.default_rng(0).standard_normal((9, 4)) * (3.0, 1.0, 1.0, 0.1)
    eigenvalues = np.linalg.eigvalsh(np.cov(r.T)).tolist()
    expected = sum(eigenvalues) ** 2 / sum(value**2 for value in eigenvalues)
    ratio = known["participation_ratio"]
    assert ratio(r) == pytest.approx(expected) and np.isnan(ratio(np.ones((3, 2))))
    (example,) = doctest.DocTestFinder().find(ratio, "participation_ratio", module=False, globs=known)
    assert example.examples and doctest.DocTestRunner().run(example).failed == 0


def test_ten_questions_are_answered() -> None:
    assert len(ANSWERS) == 10


@pytest.mark.parametrize("answer", ANSWERS)
def test_what_an_answer_names_is_where_it_says(answer: str) -> None:
    pointers = re.findall(r"`((?:lis|conf)/[^`]+)`: `([^`]+)`", answer)
    assert pointers, f"no file and name in {answer!r}"
    for file, name in pointers:
        text = (ROOT / file).read_text()
        names = defined(ast.parse(text)) if file.endswith(".py") else set(yaml.safe_load(text))
        assert name in names, f"{file} does not define {name}"


def defined(node: ast.Module | ast.ClassDef, prefix: str = "") -> set[str]:
    """Names that a module or a class defines, those inside of a class behind its own: `Batches.map`."""
    names: set[str] = set()
    for each in node.body:
        if isinstance(each, (ast.FunctionDef, ast.ClassDef)):
            names.add(prefix + each.name)
        if isinstance(each, ast.ClassDef):
            names |= defined(each, f"{prefix}{each.name}.")
        targets = (
            each.targets if isinstance(each, ast.Assign) else [each.target] if isinstance(each, ast.AnnAssign) else []
        )
        names |= {prefix + ast.unparse(target) for target in targets}
    return names
