"""The documentation keeps what it says: every analysis has its section, command and picture; names and links exist."""

from __future__ import annotations

import ast
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest
import yaml
from helpers.commandline import ROOT
from PIL import Image

import lis
from docs import pictures
from lis.compose import composed
from lis.config import conf_folder
from lis.stages import names
from lis.validation import check_config

DOCS = ROOT / "docs"
PAGES = {str(file.relative_to(DOCS)): file.read_text() for file in sorted(DOCS.rglob("*.md"))}
OPTIONS = sorted(
    {*(f.stem for f in (conf_folder() / "analysis").glob("*.yaml")), *(n for n in names() if "/" not in n)}
)
"""Of the group `analysis`: its files, and the stages that stand for themselves."""
SECTIONS = {
    name: text
    for page in PAGES.values()
    for name, text in re.findall(r"^## `(\w+)` \{ #\1 \}$(.*?)(?=^## |\Z)", page, re.MULTILINE | re.DOTALL)
}


def blocks(language: str, text: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


def runs(text: str) -> list[list[str]]:
    """Arguments of every `python -m lis.run` in a text's blocks."""
    lines = [
        shlex.split(line, comments=True)
        for block in blocks("bash", text)
        for line in block.replace("\\\n", "").splitlines()
    ]
    return [line[3:] for line in lines if line[:3] == ["python", "-m", "lis.run"]]


COMMANDS = sorted({shlex.join(run): run for page in PAGES.values() for run in runs(page)}.items())


@pytest.mark.parametrize("option", OPTIONS)
def test_every_analysis_has_a_command_a_picture_and_what_it_does_not_show(option: str) -> None:
    text = SECTIONS[option]
    assert any(f"analysis={option}" in run for run in runs(text)), "no command"
    assert re.search(r"^\*Does not show\*", text, re.MULTILINE) and re.search(
        r"^\*\*.*\?\*\*|^All of", text, re.MULTILINE
    )
    assert f"](../img/{option}.webp)" in text
    assert option in pictures.PICTURES


def test_no_section_is_of_an_analysis_that_is_gone() -> None:
    assert sorted(SECTIONS) == OPTIONS
    overview = PAGES["analyses/index.md"]
    assert not [option for option in OPTIONS if f"#{option})" not in overview and f"#{option} }}" not in overview]


@pytest.mark.parametrize("command", [command for command, _ in COMMANDS if command != "--help"])
def test_every_command_composes_and_is_valid(command: str, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "a.png").touch()
    arguments = [each.replace("<folder>", "folder").replace("<path>", "weights") for each in dict(COMMANDS)[command]]
    sweep = "-m" in arguments
    first = [re.sub(r"^([\w.]+=[^,\[]+),.*", r"\1", each) if sweep else each for each in arguments if each != "-m"]
    check_config(composed(first, tmp_path), names())


def test_every_page_is_in_the_navigation_and_the_reverse() -> None:
    def files(entry: object) -> list[str]:
        values = entry.values() if isinstance(entry, dict) else entry if isinstance(entry, list) else ()
        return [entry] if isinstance(entry, str) else [file for value in values for file in files(value)]

    assert sorted(files(yaml.safe_load((ROOT / "mkdocs.yml").read_text())["nav"])) == sorted(PAGES)


@pytest.mark.parametrize("file", sorted(ROOT.glob("*.md")), ids=lambda file: file.stem)
def test_files_that_a_text_links_to_are_there(file: Path) -> None:
    links = re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", file.read_text())
    assert not [link for link in links if not link.startswith("https://") and not (ROOT / link).exists()]


def test_pictures_are_small_and_none_is_left_over() -> None:
    files = {file.stem: file for file in (DOCS / "img").iterdir()}
    assert set(files) == {*pictures.PICTURES, "partworld"}
    sizes = {name: file.stat().st_size for name, file in files.items()}
    assert max(sizes.values()) <= pictures.LARGEST and sum(sizes.values()) <= 1_100_000
    for name, file in files.items():
        with Image.open(file) as image:
            assert image.format == "WEBP" and image.width <= pictures.WIDEST
        assert any(f"img/{name}.webp" in page for page in PAGES.values()), name


def test_a_figure_becomes_a_small_picture_on_white_or_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    figure = Image.new("RGBA", (2 * pictures.WIDEST, 300), (0, 0, 0, 0))
    content = pictures.shrunk(figure)
    assert content[8:12] == b"WEBP" and len(content) <= pictures.LARGEST
    monkeypatch.setattr(pictures, "LARGEST", 10)
    with pytest.raises(ValueError, match=r"1100, 150.*does not fit into 10 bytes: take one with fewer"):
        pictures.shrunk(figure)


def test_a_picture_that_there_is_not_is_refused_before_any_run(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"no such picture: nothing; there are demo, link"):
        pictures.main(tmp_path / "runs", "tuning", "nothing")
    assert not (tmp_path / "runs").exists()


def test_every_run_of_the_pictures_is_a_command(tmp_path: Path) -> None:
    assert {run for run, _ in pictures.PICTURES.values()} == set(pictures.RUNS)
    (tmp_path / "my pictures").mkdir()
    for arguments in pictures.RUNS.values():
        check_config(composed(arguments, tmp_path), names())


def test_names_of_the_package_in_examples_exist() -> None:
    trees = [ast.parse(block) for page in PAGES.values() for block in blocks("python", page)]
    nodes = [node for tree in trees for node in ast.walk(tree)]
    used = {node.attr for node in nodes if isinstance(node, ast.Attribute) and ast.unparse(node.value) == "lis"}
    imported = [node for node in nodes if isinstance(node, ast.ImportFrom) and node.module]
    assert used and imported
    for node in imported:
        module = __import__(str(node.module), fromlist=["_"])
        assert not [each.name for each in node.names if not hasattr(module, each.name)]
    assert not [name for name in used if not hasattr(lis, name)]


@pytest.mark.slow
def test_the_first_study_runs_as_it_stands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    known: dict[str, Any] = {}
    exec(blocks("python", PAGES["index.md"])[0], known)
    assert known["t"].image.shape == (1, 7, 3, 64, 64) and known["c"].success.all()


def test_everything_that_the_package_offers_is_on_the_page_of_the_api() -> None:
    offered = {name for name in lis.__all__ if name != "__version__"}
    assert offered == set(re.findall(r"(?:^::: |heading: )lis\.(\w+)(?=$|,)", PAGES["api.md"], re.MULTILINE))


def test_what_is_to_be_cited_is_this_version() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert citation["cff-version"] == "1.2.0" and citation["type"] == "software"
    # A preferred citation would have hosts show the paper alone, where the message asks for the tool too.
    cited = [each["title"] for each in citation["references"]]
    assert "preferred-citation" not in citation and len(set(cited)) == len(cited) and "Linking in Style" in cited[0]
    assert citation["version"] == lis.__version__ and citation["license"] == project["license"] == "MIT"
    assert citation["title"] == project["name"] and (ROOT / "LICENSE").read_text().startswith("MIT License")
    assert [each["name"] for each in citation["authors"]] == [each["name"] for each in project["authors"]]


@pytest.mark.parametrize("form", sorted((ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml")), ids=lambda f: f.stem)
def test_every_form_of_an_issue_is_one(form: Path) -> None:
    content = yaml.safe_load(form.read_text())
    if form.stem == "config":
        assert content == {"blank_issues_enabled": True}
        return
    assert {"name", "description", "body"} <= set(content)
    asked = [each for each in content["body"] if each["type"] != "markdown"]
    assert all(each["attributes"]["label"] for each in asked)
    assert len({each["id"] for each in asked}) == len(asked) >= 4


@pytest.mark.full
def test_the_site_is_whole_and_loads_nothing_from_elsewhere(tmp_path: Path) -> None:
    """Built strictly: pages and links that are missing are errors. Then the pages as a browser has them."""
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    site = {file.relative_to(tmp_path).as_posix(): Page.read(file) for file in tmp_path.rglob("*.html")}
    assert len(site) > len(PAGES)  # and 404.html
    for name, page in site.items():
        assert not [each for each in page.loaded if urlsplit(each).netloc], name
        assert not list(broken(tmp_path, name, page, site)), name
    for sheet in tmp_path.rglob("*.css"):
        assert not re.search(r"url\(['\"]?(?:https?:)?//|@import", sheet.read_text()), sheet


class Page(HTMLParser):
    """Addresses and anchors of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.loaded: list[str] = []
        """Scripts, styles, fonts, images and frames."""
        self.links: list[str] = []
        self.anchors: set[str] = set()

    @classmethod
    def read(cls, file: Path) -> Page:
        page = cls()
        page.feed(file.read_text())
        return page

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        self.anchors.add(values.get("id", ""))
        if address := values.get("src") or values.get("href"):
            (self.links if tag == "a" else self.loaded).append(address)


def broken(root: Path, name: str, page: Page, site: dict[str, Page]) -> Iterator[str]:
    """Addresses of a page inside of the site where nothing is."""
    if name == "404.html":  # lies wherever it is asked for: its addresses begin at the root
        return
    for address in [*page.links, *page.loaded]:
        parts = urlsplit(address)
        if parts.scheme or parts.netloc:
            continue
        target = (root / name).parent / unquote(parts.path) if parts.path else root / name
        relative = target.resolve().relative_to(root.resolve()).as_posix()
        if not target.is_file() or (parts.fragment and unquote(parts.fragment) not in site[relative].anchors):
            yield address
