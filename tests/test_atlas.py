"""The section and the pages of units: nothing is lost, controls stand beside, what is absent is said."""

from __future__ import annotations

import json
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pandas as pd
import pytest
from helpers.browser import CHROMIUM, dom
from PIL import Image

from lis.report.atlas import PAGE, SPRITE, TUNED, marked_images, ranked, sprite, write_atlas
from lis.report.dissect import concepts_figure, dissection_of_models, dissection_of_units, histograms

UNITS, SIDE = 40, 8


class MadeSource:
    """A run with two dissected layers, an ablated one, and, where asked for, tuned units."""

    def __init__(self, *more: str) -> None:
        rng, half = np.random.default_rng(0), UNITS // 2
        iou = rng.permutation(UNITS) / 100
        iou[3] = np.nan
        concept = np.where(np.isnan(iou), "", rng.choice(["ear", "black"], UNITS))
        columns = {"layer": ["a"] * half + ["b"] * half, "unit": [*range(half)] * 2, "concept": concept, "iou": iou}
        columns |= {"kind": np.select([concept == "ear", concept == "black"], ["part", "colour"], "")}
        columns |= {"control": 0.02, "same_images_iou": iou, "q": np.where(iou > 0.2, 0.01, 0.5), "dead": np.isnan(iou)}
        columns |= {"detector": iou > 0.04, "above_chance": iou > 0.2, "auprc": 0.1, "pearson": 0.1, "images_met": 9}
        specific = np.where(np.arange(UNITS) == iou.argsort()[-3], "spot", concept)  # second; NaN is last
        columns |= {"specific": specific, "specific_iou": 0.03, "specific_control": 0.01, "specific_q": 0.02}
        columns["correlated"], columns["active"] = concept, 0.01
        counts = {
            "detectors": 9,
            "same_images_detectors": 11,
            "control": 4.5,
            "low": 3.0,
            "high": 6.0,
            "above_chance": 8,
            "both": 7,
        }
        layers = [{"layer": name, "units": half, "dead": int(name == "a"), "concepts": 2} | counts for name in "ab"]
        histogram = [{"layer": name, "concept": c, "kind": k} | counts for name in "ab" for c, k in _CONCEPTS.items()]
        importance = {"layer": "a", "unit": [5, 5, 6], "class": ["pug", "chihuahua", "pug"], "rank": [1, 4, 5]}
        faithfulness = {"unit": [2, 0], "own": [0.2, 0.9], "own_control": 0.1, "others": 0.3, "reached": [False, True]}
        ranking = {"unit": [0, 2], "label": ["ear", "tail"], "measure": "area", "rank": 1, "change": [0.5, 0.1]}
        self.tables = {
            "units": pd.DataFrame(columns),
            "layers": pd.DataFrame(layers),
            "histogram": pd.DataFrame(histogram),
            "importance": pd.DataFrame(importance | {"importance": 0.1}),
            "faithfulness": pd.DataFrame(faithfulness | {"q_reached": [0.9, 0.01]}),
            "ranking": pd.DataFrame(ranking | {"q": 0.02, "interpreted": True}),
        }
        self.more = {"dissect", *more}
        tails = {name: {"decided": True} for name in ("larger", "reached")}
        control = SimpleNamespace(json=lambda name: {"smallest": 0.01, "tails": tails, "directions": 64})
        self.artifacts = {"unit_statistics": control}

    def has(self, stage: str, *names: str) -> bool:
        return stage in self.more

    def table(self, stage: str, name: str) -> pd.DataFrame:
        return self.tables[name]

    def arrays(self, stage: str, name: str) -> dict[str, np.ndarray]:
        image = np.arange(UNITS, dtype=np.uint8)[:, None, None, None].repeat(SIDE, 1).repeat(SIDE, 2).repeat(3, 3)
        index = np.arange(UNITS)[:, None].repeat(5, 1)
        mask = np.ones((UNITS, 5, SIDE, SIDE), bool)
        return {"image": 6 * image, "index": index, "mask": mask, "penultimate": index[::-1]}

    def json(self, stage: str, name: str) -> dict[str, Any]:
        facts = {"layers": {"a": [20, 4, 4], "b": [20, 2, 2]}, "threshold_images": 100, "images": 90, "concepts": 9}
        facts |= {
            "permuted_images": 50,
            "permutations": 1000,
            "quantile": 0.99,
            "min_iou": 0.04,
            "masks": "exact",
            "absent": [],
            "placement": "receptive_field",
            "fields": {"a": [16, 0, 64], "b": [32, 15.5, 64]},
            "size": 64,
        }
        return facts


_CONCEPTS = {"ear": "part", "black": "colour"}


def entries(page: Path) -> list[dict[str, Any]]:
    """What a page knows of its units."""
    data = re.search(r'id="data">(.*?)</script>', page.read_text("utf-8"))
    assert data is not None
    return json.loads(data[1])


def test_the_atlas_has_every_unit_by_its_iou_with_its_classes(tmp_path: Path) -> None:
    made: Any = MadeSource("importance")
    files = write_atlas(made, tmp_path)
    assert [file.name for file in files] == [PAGE, "0.jpg", "1.jpg"]
    told, units = entries(tmp_path / PAGE), made.tables["units"]
    assert {(one["layer"], one["unit"]) for one in told} == {*zip(units["layer"], units["unit"], strict=True)}
    order = [units["iou"][(units["layer"] == one["layer"]) & (units["unit"] == one["unit"])].item() for one in told]
    assert order[:-1] == sorted(order[:-1], reverse=True) and np.isnan(order[-1])
    assert told[-1]["title"] == "dead" and told[-1]["numbers"] == ""
    assert "control 0.020" in told[0]["numbers"] and "q 0.010" in told[0]["numbers"]
    notes = {(one["layer"], one["unit"]): one["note"] for one in told if one["note"]}
    second = told[1]["layer"], told[1]["unit"]
    assert notes.pop(second) == "spot stands out: IoU 0.030 (control 0.010), q 0.020"
    assert notes == {("a", 5): "matters to pug and chihuahua"}  # unit 6 is only the fifth of pug, and b was not ablated
    text = (tmp_path / PAGE).read_text("utf-8")
    assert not re.search(r"(src|href)=[\"']?(https?:)?//", text) and "matters" in text


def test_each_unit_has_its_images_in_the_sprites(tmp_path: Path) -> None:
    made: Any = MadeSource()
    write_atlas(made, tmp_path)
    order = ranked(made.tables["units"]).index
    for rank in (0, 1, SPRITE, UNITS - 1):
        with Image.open(tmp_path / "atlas" / f"{rank // SPRITE}.jpg") as image:
            assert image.size == (5 * SIDE, min(SPRITE, UNITS - rank // SPRITE * SPRITE) * SIDE)
            level = np.asarray(image)[rank % SPRITE * SIDE + SIDE // 2, SIDE // 2]
        assert abs(int(level[0]) - 6 * order[rank]) <= 6


def test_tuned_units_have_a_page_where_there_are_some(tmp_path: Path) -> None:
    made: Any = MadeSource("unit_statistics")
    names = [file.name for file in write_atlas(made, tmp_path) if file.suffix == ".html"]
    assert names == [PAGE, TUNED] and f'href="{TUNED}"' in (tmp_path / PAGE).read_text("utf-8")
    reached, other = entries(tmp_path / TUNED)
    assert (reached["unit"], reached["title"], reached["significant"]) == (0, "reached", True)
    assert "own 0.90 sd (control 0.10), others 0.30, q 0.010" in reached["numbers"]
    assert reached["note"].startswith("ear, area") and reached["note"].endswith("q 0.020")
    assert (other["unit"], other["title"], other["significant"]) == (2, "not reached", False)
    write_atlas(MadeSource(), tmp_path / "without")  # pyright: ignore[reportArgumentType]
    assert not (tmp_path / "without" / TUNED).exists()


@pytest.mark.full
@pytest.mark.skipif(CHROMIUM is None, reason="needs a browser")
def test_a_browser_shows_the_first_page_without_a_server(tmp_path: Path) -> None:
    made: Any = MadeSource()
    write_atlas(made, tmp_path)
    shown = dom((tmp_path / PAGE).as_uri())
    assert shown.count('<div class="images"') == 24 and f"1–24 of {UNITS}" in shown


def test_units_are_marked_in_their_images_and_ordered_by_iou() -> None:
    top = {
        "image": np.full((1, 4, 4, 3), 200, np.uint8),
        "index": np.zeros((2, 1), np.int64),
        "mask": np.zeros((2, 1, 4, 4), bool),
    }
    top["mask"][1] = True
    drawn = sprite([marked_images(top, row) for row in (1, 0)])
    assert drawn.shape == (8, 4, 3) and (drawn[:4] == 200).all() and (drawn[4:] == 100).all()
    assert ranked(pd.DataFrame({"unit": [0, 1, 2], "iou": [np.nan, 0.1, 0.3]}))["unit"].tolist() == [2, 1, 0]


def test_the_section_names_the_control_beside_the_published_criterion() -> None:
    section: Any = dissection_of_units(MadeSource())  # pyright: ignore[reportArgumentType]
    assert (
        section.finding
        == "8 of 20 units of a agree with a concept above chance, the largest share of 2 layers; 11 have "
        "IoU > 0.04 of 50 images, beside 4.5 at chance"
    )
    assert (
        "7 units of a and 7 units of b have IoU > 0.04 and q ≤ 0.05 for the same concept" in section.lead
        and "1,000 permutations of 50" in section.lead
    )
    assert "permutation equals" not in section.lead  # 1,000 permutations tell a single one of 20 units
    assert "not evenly over the 64 pixels (a: 16 apart from pixel 0)." in section.lead  # b is even
    assert "No pixel" not in section.lead and "exceed their thresholds" not in section.lead
    source = MadeSource()
    source.tables["units"].loc[[4, 5, 6], "active"] = [0.05, 0.002, 0.02]
    section = dissection_of_units(source)  # pyright: ignore[reportArgumentType]
    assert "2 units exceed their thresholds on less than 1/4, or more than 4 times, of the 1 % of" in section.lead
    assert [picture.name for picture in section.figures] == [
        "dissect-concepts",
        "dissect-units",
    ] and section.page == PAGE
    layers, units = section.tables
    assert [row[:6] for row in layers.rows] == [
        [x, "20", str(int(x == "a")), "9", "11", "4.5 [3.0, 6.0]"] for x in "ab"
    ]
    assert len(units.rows) == UNITS and units.rows[-1][2] == "–"


def test_it_is_said_what_was_done_to_maps_of_each_size(monkeypatch: pytest.MonkeyPatch) -> None:
    made: Any = MadeSource()
    shapes = {"a": [20, 4, 4], "b": [20, 64, 64], "c": [20, 128, 96], "d": [20, 8, 16]}
    facts = made.json("dissect", "facts") | {"layers": shapes, "placement": "even", "fields": {}, "absent": ["spot"]}
    assert "Maps of 4×4 and 2×2 are enlarged to 64×64." in cast(Any, dissection_of_units(made)).lead
    monkeypatch.setattr(made, "json", lambda *_: facts)
    lead = cast(Any, dissection_of_units(made)).lead
    assert "Maps of 4×4 and 8×16 are enlarged to 64×64. Maps of 64×64 are as they are." in lead
    assert "Maps of 128×96 are averaged over areas to 64×64. Maps are laid over the image evenly" in lead
    assert "No pixel of the scored images has spot." in lead


def test_it_is_said_where_so_few_permutations_cannot_tell_a_single_unit(monkeypatch: pytest.MonkeyPatch) -> None:
    made: Any = MadeSource()
    facts = made.json("dissect", "facts") | {"permutations": 99}
    monkeypatch.setattr(made, "json", lambda *_: facts)
    lead: Any = dissection_of_units(made)
    assert "1/100, so that q ≤ 0.05 takes 4 of 20 units" in lead.lead and "dissect.permutations=400" in lead.lead


def test_a_concept_that_a_run_lacks_has_no_bar() -> None:
    table = MadeSource().tables["histogram"]
    without = table[(table["layer"] == "a") | (table["concept"] == "ear")]
    one, two = concepts_figure(pd.DataFrame(without), ["black", "ear"], "layer").axes
    assert [len(one.patches), len(two.patches)] == [4, 2]
    assert {bar.get_y() + bar.get_height() / 2 for bar in cast(Any, two.patches)} == {1.0}


def test_bars_end_at_the_numbers_of_the_histogram() -> None:
    table = MadeSource().tables["histogram"]
    axis: Any = concepts_figure(table, ["black", "ear"], "layer").axes[0]
    ends = [bar.get_x() + bar.get_width() for bar in axis.patches]
    assert ends == [7, 7, 9, 9]  # both; IoU only
    assert [line.get_xdata().tolist() for line in axis.lines[:4]] == [[4.5] * 2, [11] * 2, [8], [8]]
    assert axis.get_xlim()[1] > 11
    nothing = table.assign(detectors=0, above_chance=0, both=0)
    assert histograms("name", nothing, "layer", "0.04") == []


def test_models_of_a_sweep_stand_beside_each_other(tmp_path: Path) -> None:
    jobs: Any = []
    for name, layers in (("one", "a"), ("two", "ab"), ("three", "")):
        folder = tmp_path / name / "tables" / "dissect"
        folder.mkdir(parents=True)
        for table in ("histogram", "layers") if layers else ():
            made = MadeSource().tables[table]
            made[made["layer"].isin([*layers])].to_parquet(folder / f"{table}.parquet")
        jobs.append(SimpleNamespace(folder=tmp_path / name, name=name, settings={"dissect.min_iou": 0.04}))
    section: Any = dissection_of_models(jobs)
    assert [row[0] for row in section.tables[0].rows] == ["one", "two, a", "two, b"]
    assert [axis.get_title("left") for axis in section.figures[0].figure.axes] == ["one", "two, a", "two, b"]
    assert dissection_of_models(jobs[2:]) is None
