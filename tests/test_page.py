"""The page as a reader uses it: what stands first, what is folded, what its script does, and that nothing is lost."""

from __future__ import annotations

import csv
import html
import io
import json
import re
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import pandas as pd
import pytest
from helpers import findings, tuned_findings
from helpers.browser import CHROMIUM, dom
from helpers.tuned_findings import CLASSES, LABELS

from lis.report import findings as registry
from lis.report import page as report_page
from lis.report import section
from lis.report.all_units import FIRST, all_units, strongest_by_unit
from lis.report.findings import Finding, Warned
from lis.report.html import Rendered, ReportError, appendix_closed, by_chapter, draw, render, show
from lis.report.page import write_report
from lis.report.reproducibility import Card
from lis.report.section import CHAPTERS, Picture, Section, Table, build_sections
from lis.report.source import source
from lis.report.style import sheet

FINDINGS = [
    Finding("Does the link explain?", "R² 0.72", "It does.", "0 by the mean of all.", "distances"),
    Finding("How many units are reached?", "none", "No unit is reached.", "2 by chance (q > 0.05).", "what-arrives"),
    Finding("Which <parts>?", "none", "No part.", "As many by chance.", "sparsity"),
]
WARNINGS = [Warned("Acceptance of pug is 12 %.", "Take another class.", "classes")]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The context and the artifacts of a run with every section on the link and on units."""
    root = tmp_path_factory.mktemp("run")
    learned = tuned_findings.learn(root, tuned_findings.tuned(24, 3), tuned_findings.tuned(25, 3, null=True))
    ctx = findings.make_ctx(root, CLASSES, classes__labels=list(LABELS))
    return ctx, findings.make_artifacts(root, CLASSES) | learned


@pytest.fixture(scope="module")
def page(run: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(report_page, "findings", lambda *_: FINDINGS)
        patch.setattr(report_page, "warnings", lambda *_: WARNINGS)
        patch.setattr(run[0].config, "svg", True)
        return write_report(run[0], run[1], tmp_path_factory.mktemp("out"))


@pytest.fixture(scope="module")
def text(page: Path) -> str:
    return page.read_text("utf-8")


def test_no_figure_or_table_is_lost(run: Any, page: Path, text: str) -> None:
    """Everything that a section shows is on the page, folded or not, and beside it."""
    for made in build_sections(source(*run)):
        for picture in made.figures:
            assert f'id="figure-{picture.name}"' in text
            endings = ("png", "svg") if picture.data is None else ("png", "svg", "csv")
            for name in (f"{picture.name}.{ending}" for ending in endings):
                assert (page.parent / "figures" / name).stat().st_size and f'href="figures/{name}"' in text
        for index, table in enumerate(made.tables, 1):
            assert table.caption in html.unescape(text)
            assert {cell for row in table.rows for cell in row} <= cells_of(text, f"table-{made.anchor}-{index}")


def test_sections_stand_in_order_and_their_tables_lie_beside(page: Path, text: str) -> None:
    titles = (
        "Similarity of R and W",
        "What arrives",
        "All units",
        "What units change",
        "Sparsity",
        "Map of units",
        "The fit",
    )
    places = [text.index(f'<section id="{section.anchor(title)}">') for title in titles]
    assert places == sorted(places) and page.stat().st_size < 1e7
    assert len(pd.read_parquet(page.parent / "tables" / "unit_statistics" / "ranking.parquet"))


def cells_of(text: str, address: str) -> set[str]:
    """The text of all cells of a table, those that stand there and those that are asked for."""
    box = re.search(rf'id="{address}".*?</table>(.*?)</div>', text, re.DOTALL)
    assert box is not None
    rest = re.search(r"<script[^>]*>(.*?)</script>", box[1])
    later = {cell for row in json.loads(rest[1]) for cell in row} if rest else set()
    return later | {html.unescape(cell) for cell in re.findall(r"<td[^>]*>(.*?)</td>", box[0])}


def test_the_page_begins_with_warnings_findings_and_a_picture(text: str) -> None:
    order = [
        "<h1>",
        "Acceptance of pug",
        "Take another class.",
        "R² 0.72",
        "No unit is reached.",
        "figure-lead",
        "</header>",
    ]
    places = [text.index(part) for part in order]
    assert places == sorted(places) and "Which &lt;parts&gt;?" in text
    top = text[: text.index("</header>")]
    assert top.count('<p class="value">') == len(FINDINGS) and "<details" not in top[top.index("<main") :]
    for finding in FINDINGS:
        assert finding.control in html.unescape(top) and f'href="#{finding.anchor}"' in top


def test_every_link_leads_somewhere_and_every_address_is_unique(page: Path, text: str) -> None:
    addresses = re.findall(r'\bid="(.*?)"', text)
    assert len(addresses) == len(set(addresses))
    for link in re.findall(r'href="(.*?)"', text):
        assert link[1:] in addresses if link.startswith("#") else (page.parent / link).is_file()


def test_contents_name_every_section_below_its_chapter(text: str) -> None:
    contents = text[text.index("<nav") : text.index("</nav>")]
    chapters = re.findall(r'<p><a href="#chapter-[\w-]+">(.*?)</a></p>', contents)
    assert chapters == ["Link", "Units", "Appendix"]
    sections = re.findall(r'<section id="(.*?)"', text)
    assert [link for link in re.findall(r'<li><a href="#(.*?)"', contents) if link != "findings"] == sections
    assert sections[-3:] == ["limits", "reproducibility", "how-to-cite"]


def rendered(title: str, chapter: str, **shown: Any) -> Rendered:
    return Rendered(
        title,
        section.anchor(title),
        "A lead.",
        *(shown.get(x, ()) for x in ("figures", "tables", "notes")),
        chapter=chapter,
    )


def test_what_stands_aside_is_folded_and_the_rest_is_seen(tmp_path: Path) -> None:
    figures = [Picture(name, drawing(), "A caption.", aside=name == "b") for name in "ab"]
    tables = [Table("One.", ["x"], [["1"]], aside=True), Table("Two.", ["x"], [["2"]])]
    made = show(Section("Title", "A lead.", figures, tables, ["A note."]), tmp_path)
    assert [figure.anchor for figure in made.front.figures] == ["figure-a"] and made.front.notes == ["A note."]
    assert list(made.front.tables) == ["table-title-2"] and list(made.folded.tables) == ["table-title-1"]
    assert made.folded.summary == "1 chart, 1 table" and not show(Section("T", "L."), tmp_path).folded.summary


def drawing() -> Any:
    figure, axes = sheet(2, 1)
    axes[0, 0].plot([0, 1])
    return figure


def test_only_the_appendix_is_closed_however_long_the_page_is() -> None:
    tables = [Table("One.", ["x"], [["1"]]), Table("All.", ["x"], [["1"], ["2"]], first=1)]
    many = [rendered(f"S {k}", CHAPTERS[2], tables=tables, notes=["N."]) for k in range(20)]
    page = appendix_closed([*many, rendered("Fit", CHAPTERS[7], tables=tables, notes=["N."])])
    assert [item.title for item in page if item.closed] == ["Fit"]
    assert list(page[-1].front.tables) == ["table-fit-2"], "a table that shows its first rows stays"
    assert page[-1].folded.summary == "1 table, 1 note" and not page[-1].front.notes


def test_the_appendix_is_open_where_a_finding_or_a_warning_points_at_it() -> None:
    notes = [rendered(name, CHAPTERS[7], notes=["N."]) for name in ("Fit", "Parts")]
    assert [item.closed for item in appendix_closed(notes, {"parts"})] == [True, False]


@pytest.fixture(scope="module")
def unruly(run: Any, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str, list[Any]]:
    """Text and error of a page of which one finding and one warning fail, and what all others say."""

    def units_reached(source: Any) -> None:
        raise ValueError("no unit 7")

    folder, others = (
        tmp_path_factory.mktemp("unruly"),
        [*registry.findings(source(*run)), *registry.warnings(source(*run))],
    )
    with pytest.MonkeyPatch.context() as patch:
        for rules, order in ((registry.FINDINGS, 5), (registry.WARNINGS, 5)):
            patch.setitem(rules["run"], order, units_reached)
        with pytest.raises(ReportError, match="Finding: units reached") as error:
            write_report(run[0], run[1], folder)
    return (folder / "report.html").read_text("utf-8"), str(error.value), others


def test_what_the_rules_of_a_run_point_at_is_open_or_opened_by_their_links(run: Any, unruly: Any) -> None:
    """Only what stands aside is folded, as a child of the section that a link opens."""
    text, _, told = unruly
    top = text[text.index("<main") : text.index("</header>")]
    pointed = set(re.findall(r'<h2><a href="#(.*?)"', top)) | set(re.findall(r'<a href="#(.*?)">Where it shows', top))
    assert pointed == {one.anchor for one in told} - {""} and len(pointed) > 3
    made = {one.anchor: one for one in build_sections(source(*run))}
    for address in pointed:
        section = re.search(rf'<section id="{address}">(.*?)</section>', text, re.DOTALL)
        assert section is not None
        seen, *folded = section[1].split('<details class="more">')
        assert len(folded) <= 1
        shown = [picture for picture in made[address].figures if not picture.aside]
        assert all(f'id="figure-{picture.name}"' in seen for picture in shown)


def test_a_rule_that_fails_loses_only_itself(unruly: Any) -> None:
    text, error, others = unruly
    assert "Warning: units reached" in error and "without 2 of its sections" in error
    assert html.unescape(text).count("ValueError: no unit 7") == 2
    assert others and all(one.sentence in html.unescape(text) for one in others)


def test_sections_stand_below_their_chapters_in_order() -> None:
    page = [rendered("Failed", ""), rendered("A", "Link"), rendered("Also failed", ""), rendered("B", "Units")]
    chapters = {chapter.title: [item.title for item in chapter.sections] for chapter in by_chapter(page, "Appendix")}
    assert chapters == {"": ["Failed"], "Link": ["A", "Also failed"], "Units": ["B"], "Appendix": []}
    assert [chapter.title for chapter in by_chapter([])] == [""]


def test_the_numbers_of_a_figure_lie_beside_it(tmp_path: Path) -> None:
    table = pd.DataFrame({"unit": [3, 1], "r²": [0.5, np.nan]})
    made = draw(Picture("fit", drawing(), "A caption.", data=table), tmp_path)
    assert made.files == ["fit.png", "fit.svg", "fit.csv"] == sorted(made.files, key=lambda name: "psc".index(name[4]))
    pd.testing.assert_frame_equal(pd.read_csv(tmp_path / "fit.csv"), table)
    text = (tmp_path / "fit.svg").read_text()
    assert text.startswith("<?xml") and "<path" in text
    few = draw(Picture("few", drawing(), "A caption."), tmp_path, vectors=False)
    assert few.files == ["few.png"] and not (tmp_path / "few.svg").exists()


def test_the_table_of_all_units_says_what_the_tables_say(run: Any) -> None:
    made = all_units(source(*run))
    assert made is not None
    shown = made.tables[0]
    table = run[1]["unit_statistics"].table("faithfulness")
    assert len(shown.rows) == len(table) == len({row[0] for row in shown.rows}) and shown.first == FIRST
    reached = [row[0] for row in shown.rows if row[1] == "yes"]
    assert {*map(int, reached)} == set(table[table["reached"]]["unit"]) and shown.columns[1] == shown.only
    assert all(len(row) == len(shown.columns) for row in shown.rows)


def test_the_strongest_change_of_a_unit_has_the_smallest_q() -> None:
    rows = [
        ("ear", "area", 3, 2, 0.1, 0.5),
        ("tail", "area", 3, 1, -0.9, 0.2),
        ("ear", "entropy", 3, 4, 0.3, 0.01),
        ("ear", "area", 5, 9, np.nan, np.nan),
        ("ear", "entropy", 5, 7, 0.2, np.nan),
        ("tail", "entropy", 5, 2, 0.1, np.nan),
    ]
    ranked = pd.DataFrame(rows, columns=["label", "measure", "unit", "rank", "change", "q"])
    strongest = strongest_by_unit(ranked)
    assert {unit: (row["label"], row["measure"], row["main"]) for unit, row in strongest.items()} == {
        3: ("ear", "entropy", "tail"),
        5: ("tail", "entropy", ""),
    }


SCRIPT = """
const told = {};
const box = document.querySelector(".sortable"), sieve = box.previousElementSibling;
const cells = (k) => [...box.querySelectorAll("tbody tr")].map((row) => row.cells[k].textContent);
const button = box.querySelectorAll("th button")[3], head = button.closest("th");
told.first = cells(0).length;
button.click(); told.down = cells(3); told.sort = head.getAttribute("aria-sort");
button.click(); told.up = cells(3); told.again = head.getAttribute("aria-sort");
sieve.querySelector("button").click(); told.all = cells(0).length;
sieve.querySelector("[type=checkbox]").click(); told.reached = cells(1);
const search = sieve.querySelector("[type=search]");
search.value = "SNOUT"; search.dispatchEvent(new Event("input")); told.found = cells(0).length;
told.status = sieve.querySelector("output").value;
told.open = document.getElementById("table-the-classifier-1").closest("details").open;
told.closed = document.getElementById("figure-ridge-path").closest("details").open;
told.buttons = document.querySelectorAll("caption button.file").length;
told.tables = document.querySelectorAll(".scroll[id]").length;
dispatchEvent(new Event("beforeprint"));
told.printed = [...document.querySelectorAll("main details")].every((fold) => fold.open);
told.rows = cells(0).length;
dispatchEvent(new Event("afterprint"));
told.again_found = cells(0).length;
told.after = document.querySelectorAll("main details[open]").length;
document.body.textContent = JSON.stringify(told);
"""


ADDRESSED = """
const told = { errors: 0 };
addEventListener("error", () => { told.errors += 1; });
const fold = document.querySelector("#direction-bär-mops details");
told.opened = fold.open;
fold.open = false;
document.querySelector(".findings a").click();
told.again = fold.open;
location.hash = "#%";
dispatchEvent(new Event("hashchange"));
let saved = "";
globalThis.Blob = class { constructor(parts) { saved = parts[0]; } };
URL.createObjectURL = () => "data:,";
document.querySelector("#table-direction-bär-mops-1 caption button").click();
told.csv = saved;
const copy = document.querySelector(".copy button");
told.button = copy.textContent;
copy.click();
told.selected = getSelection().toString();
document.body.textContent = JSON.stringify(told);
"""
CELLS = ["=1+1", "+cmd", "@a", "+20.0 %", "−0.3", "a\rb", 'say "x"']
LITERAL = ["'=1+1", "'+cmd", "'@a", "+20.0 %", "-0.3", "a\rb", 'say "x"']


def browse(text: str, script: str, root: Path, address: str) -> dict[str, Any]:
    """What a script tells as JSON that runs on a page, opened at an address in it."""
    probe = root / "probe.html"
    probe.write_text(text.replace("</body>", f'<script type="module">{script}</script></body>'), "utf-8")
    built = dom(f"{probe.as_uri()}#{address}")
    return json.loads(html.unescape(re.findall(r"<body>(.*?)</body>", built, re.DOTALL)[0]))


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")
def test_the_script_bears_any_title_address_and_cell(tmp_path: Path) -> None:
    """A title that is not ASCII, a link that is followed twice, an address that is none, a cell that is a formula."""
    title = "Direction: Bär → Mops"
    tables = [Table("One.", ["x"], [[cell] for cell in CELLS], first=1), Table("Two.", ["x"], [["1"]], aside=True)]
    address = section.anchor(title)
    page = render(
        "report.html.j2",
        tmp_path / "page.html",
        [rendered(title, CHAPTERS[3], tables=tables)],
        findings=[Finding("Which way?", "none", "None.", "none", address)],
        **dict.fromkeys(("title", "line", "kicker", "footer"), ""),
        limits=[],
        card=Card("python -m lis.run seed=1", [], {}, [], {}, {}),
    )
    told = browse(page.read_text("utf-8"), ADDRESSED, tmp_path, quote(address))
    assert told["opened"] and told["again"] and not told["errors"]
    assert [row[0] for row in csv.reader(io.StringIO(told["csv"], newline=""))] == ["x", *LITERAL]
    assert told["button"] == "Copy" and told["selected"].strip() == "python -m lis.run seed=1"


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")
def test_the_script_sorts_filters_and_unfolds(text: str, run: Any, tmp_path: Path) -> None:
    """In a browser, with the address of a table that is folded away."""
    told = browse(text, SCRIPT, tmp_path, "table-the-classifier-1")
    table = run[1]["unit_statistics"].table("faithfulness")
    down, up = (np.array([float(cell.replace("−", "-")) for cell in told[way]]) for way in ("down", "up"))
    assert told["first"] == len(down) == FIRST and (np.diff(down) <= 0).all() and (np.diff(up) >= 0).all()
    assert (told["sort"], told["again"]) == ("descending", "ascending") and told["all"] == len(table)
    assert told["reached"] == ["yes"] * int(table["reached"].sum()) and 0 < told["found"] < len(told["reached"])
    assert told["status"] == f"{told['found']} of {told['found']} rows"
    assert told["open"] and not told["closed"] and told["printed"] and told["after"] == 1
    assert told["rows"] == len(table) and told["again_found"] == told["found"]
    assert told["buttons"] == told["tables"] > 3
