"""Declarations are read definition by definition, and what takes long to import is named where it would be needed."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from lis.config.fields import number
from lis.declarations import Definitions, NotLight, definitions, forget, lazy
from lis.stage import Stage

HEAD = '''"""A file of an analysis."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

import nowhere as np
from nowhere.else_ import decorated

from lis.config.fields import number
from lis.linking.pairs import train_pairs
from lis.peaks import no_images
from lis.stage import stage

if TYPE_CHECKING:
    from lis.context import Context

COUNT = 3
"""Text at the margin, which
class No(
is none.
"""
PAIR = LOW, HIGH = (1, 9)
'''
GOOD = '''

@decorated
def checked(ctx: Context) -> np.ndarray:
    return np.zeros(3)


@cache
def doubled(value: int) -> int:
    return value * 2


@dataclass
class NewConfig:
    """Settings."""

    count: int = number(doubled(COUNT), low=LOW, high=HIGH)

    def values(self) -> np.ndarray:
        return np.arange(self.count)


def new_stage(name: str):
    return stage(name, version=1, inputs=(train_pairs,), config=NewConfig, check=checked, images=no_images)


@new_stage("new")
def new(ctx: Context, config: NewConfig, draft: object) -> None:
    """What it holds."""
    raise RuntimeError(np)
'''


@pytest.fixture
def entered(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Stage]]:
    """What a test declares, which is not entered where all else is."""
    known: dict[str, Stage] = {}
    monkeypatch.setattr("lis.stage.REGISTRY", known)
    monkeypatch.setattr("lis.stage.GROUPS", {})
    forget()
    yield known
    forget()


def read(folder: Path, text: str) -> Definitions:
    file = folder / "new.py"
    file.write_text(text)
    made = Definitions("lis.units.new", file)
    made.declare()
    return made


def test_a_stage_is_declared_without_what_it_computes_with(tmp_path: Path, entered: dict[str, Stage]) -> None:
    text = HEAD + GOOD
    read(tmp_path, text)
    new = entered["new"]
    assert (new.file, new.holds, [each.name for each in new.inputs]) == (
        "units/new.py",
        "What it holds.",
        ["pairs/train"],
    )
    line = next(number for number, line in enumerate(text.splitlines(), 1) if line.startswith("@new_stage"))
    assert new.build.__code__.co_firstlineno == line
    assert new.config is not None and new.config().count == 6 and new.config.__annotations__["count"] is int
    assert new.config.__dataclass_fields__["count"].metadata == number(6, low=1, high=9).metadata
    assert "nowhere" not in sys.modules
    assert new.check is not None
    with pytest.raises(NotLight, match="decorated is used where a stage is declared"):
        new.check(None)  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("number(doubled(COUNT), low", "number(np.int64(3), low"),
        ("return value * 2", "return np.int64(value)"),
        ("COUNT = 3", "COUNT = np.int64(3)"),
        ("config=NewConfig,", "config=NewConfig, seed=np.bool_(1),"),
    ],
)
def test_what_takes_long_to_import_is_named_with_its_file_and_the_remedy(
    tmp_path: Path, entered: dict[str, Stage], old: str, new: str
) -> None:
    text = HEAD + GOOD
    assert old in text
    with pytest.raises(NotLight) as error:
        read(tmp_path, text.replace(old, new))
    line = text.splitlines().index("import nowhere as np") + 1
    assert str(error.value).startswith(f"{tmp_path / 'new.py'}:{line}: np is used where a stage is declared")
    assert "without importing nowhere" in str(error.value) and "inside the function" in str(error.value)


def test_what_another_module_does_not_define_is_named(tmp_path: Path, entered: dict[str, Stage]) -> None:
    for old, new in (("import no_images", "import no_images_at_all as no_images"), ("lis.peaks", "lis.peeks")):
        with pytest.raises(ImportError, match=r"new\.py:\d+: lis\.pe[ae]ks defines no no_images"):
            read(tmp_path, (HEAD + GOOD).replace(old, new))


def test_names_of_other_modules_are_evaluated_there(entered: dict[str, Stage]) -> None:
    module = definitions("lis.linking.pairs")
    assert module["STREAMS"]["train"] == "train pairs"
    assert lazy("lis").linking.link.link is definitions("lis.linking.link")["link"]
    with pytest.raises(KeyError, match="nothing_of_that_name"):
        module["nothing_of_that_name"]
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = lazy("lis.linking.pairs").nothing


def test_what_is_not_light_is_so_whenever_it_is_asked_for(tmp_path: Path, entered: dict[str, Stage]) -> None:
    text = (HEAD + GOOD).replace("PAIR = LOW", "HEAVY = np.ones(3)\nPAIR = LOW").replace("@decorated", "@cache(HEAVY)")
    later = "@cache(HEAVY)\ndef problems(config):\n    return ()\n\n\ndef new_stage("
    read(tmp_path, text.replace("def new_stage(", later).replace("check=checked", "check=checked, problems=problems"))
    for function in (entered["new"].check, entered["new"].problems):
        with pytest.raises(NotLight, match="np is used where a stage is declared"):
            function(None)  # pyright: ignore


DECLARED = '@new_stage("new")\ndef new('


@pytest.mark.parametrize(
    ("old", "new", "line"),
    [
        ("import stage\n", "import stage as declare\n", "import stage as declare"),
        ('@new_stage("new")', 'declare = stage\n\n\n@declare("new", version=1)', "declare = stage"),
        (DECLARED, "if True:\n    @new_stage('other')\n    def other(): pass\n\ndef new(", "    @new_stage('other')"),
        (
            DECLARED,
            "for name in 'ab':\n    stage(name, version=1)(print)\n\ndef new(",
            "    stage(name, version=1)(print)",
        ),
        (DECLARED, 'stage("t", version=1)(checked)\n\n\ndef new(', 'stage("t", version=1)(checked)'),
        (DECLARED, 'new = stage("t", version=1)(checked)\n\n\ndef n(', 'new = stage("t", version=1)(checked)'),
        ("new_stage(", "make(", "    return stage(name, version=1, inputs=(train_pairs,), config=NewConfig"),
    ],
)
def test_a_stage_that_reading_would_miss_is_refused_with_its_line(
    tmp_path: Path, entered: dict[str, Stage], old: str, new: str, line: str
) -> None:
    text = (HEAD + GOOD).replace(old, new)
    number = next(number for number, each in enumerate(text.splitlines(), 1) if line in each)
    with pytest.raises(ImportError, match=rf"new\.py:{number}: a stage is declared where nobody reads it"):
        read(tmp_path, text)


@pytest.mark.parametrize(
    ("old", "new", "high"),
    [
        ("PAIR = LOW", 'LIMIT = {}\nLIMIT["n"] = 50\nPAIR = LOW', 'LIMIT.get("n", 5)'),
        ("PAIR = LOW", 'WORDS = ["a"]\nWORDS.append("b")\nWORDS += 48 * ["c"]\nPAIR = LOW', "len(WORDS)"),
        (
            "PAIR = LOW",
            "WORDS = []\nfor word in range(50):\n    WORDS.append(word)\nPAIR = LOW",
            "len(WORDS) + word - 49",
        ),
    ],
)
def test_what_statements_at_the_margin_change_is_changed(
    tmp_path: Path, entered: dict[str, Stage], old: str, new: str, high: str
) -> None:
    read(tmp_path, (HEAD + GOOD).replace(old, new).replace("high=HIGH", f"high={high}"))
    config = entered["new"].config
    assert config is not None and config.__dataclass_fields__["count"].metadata["high"] == 50


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("import stage\n", "import stage\nfrom lis import stage as st\nimport lis.stage as st2\n"),
        ('    """What it holds."""\n', '    """What it holds.\n\ndef x(): …\n    """\n'),
        ('"""A file of an analysis.\n', '"""A file\ndef new_stage(x: …\n'),
        ('"""A file', '\ufeff"""A file'),
    ],
)
def test_files_are_read_as_python_reads_them(tmp_path: Path, entered: dict[str, Stage], old: str, new: str) -> None:
    text = (HEAD + GOOD).replace(old, new)
    read(tmp_path, text.replace("return stage(", "return st.stage(") if "st2" in new else text)
    assert entered["new"].holds == "What it holds."


@pytest.mark.parametrize(
    ("old", "new", "why"),
    [
        ("import number\n", "import *\n", "all names of a module are imported"),
        ("number(doubled(COUNT)", "number(doubled(COUTN)", "name 'COUTN' is not defined"),
    ],
)
def test_names_that_are_not_there_are_refused_with_their_line(
    tmp_path: Path, entered: dict[str, Stage], old: str, new: str, why: str
) -> None:
    with pytest.raises(ImportError, match=rf"new\.py:\d+: {why}"):
        read(tmp_path, (HEAD + GOOD).replace(old, new))
