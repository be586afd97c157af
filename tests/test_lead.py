"""The picture of the first screen: what is shown follows from the tables, and never a unit that says nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from helpers import boundary_findings, findings, tuned_findings
from matplotlib.text import Text

from lis.report.lead import arrived, first_strip, lead
from lis.report.leaders import leaders_first
from lis.report.schematic import median_example
from lis.report.source import Source
from lis.report.tables import records, where
from lis.store import Recipe, Store

pytestmark = pytest.mark.usefixtures("page_style")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Source:
    """A cycle, tuned units, and counterfactuals, of the same classes."""
    root = tmp_path_factory.mktemp("run")
    units = tuned_findings.run(root, tuned_findings.tuned(30, 4), tuned_findings.tuned(20, 4, null=True))
    others = findings.make_artifacts(root) | boundary_findings.all_artifacts(root, classes=tuned_findings.CLASSES)
    return Source(units.facts, others | dict(units.artifacts))


def with_tables(run: Source, root: Path, stage: str, **changed: Any) -> Source:
    """A run whose stage has some tables replaced by what functions make of them."""
    artifact = run.artifacts[stage]

    def build(draft: Any) -> None:
        for file in artifact.manifest["files"]:
            name, _, kind = file.partition(".")
            if kind == "parquet":
                draft.table(name, changed.get(name, lambda table: table)(artifact.table(name)))
            elif kind == "safetensors":
                draft.tensors(name, artifact.tensors(name))
            else:
                draft.json(name, artifact.json(name))

    made = Store(root).make(Recipe(stage, 1, {"changed": sorted(changed)}), build)
    return Source(run.facts, {**run.artifacts, stage: made})


def reached(run: Source, root: Path, which: Any) -> Source:
    """The run with the units reached for which `which` holds."""
    return with_tables(run, root, "unit_statistics", ranking=lambda table: table.assign(reached=which(table["unit"])))


def written(run: Source) -> list[str]:
    made = lead(run)
    assert made is not None
    return [artist.get_text() for artist in made.figure.findobj(Text) if isinstance(artist, Text)]


def test_it_has_room_for_the_first_screen_and_readable_type(run: Source, tmp_path: Path) -> None:
    made = lead(reached(run, tmp_path, lambda unit: unit >= 0))
    assert made is not None and made.data is not None
    width, height = made.figure.get_size_inches()
    assert width <= 5.2 and height <= 5.6
    texts = [artist for artist in made.figure.findobj(Text) if isinstance(artist, Text) and artist.get_text()]
    assert min(float(text.get_fontsize()) for text in texts) * 100 / 72 >= 11
    assert made.data["picture"].tolist() == ["cycle", "unit", "counterfactual"]
    assert all(word in made.caption for word in ("First", "Second", "Third", "median pixel error", "own activation"))
    made.figure.draw_without_rendering()
    boxes = [text.get_window_extent() for text in texts]
    assert all(box.x0 >= -1 and box.x1 <= made.figure.bbox.width + 1 for box in boxes)


def test_a_unit_that_is_not_reached_or_outmoved_is_never_shown(run: Source, tmp_path: Path) -> None:
    pictured = where(run.table("pictures", "pictures"), step=0)
    units = sorted(set(pictured[pictured["label"] != ""]["unit"]))
    assert first_strip(reached(run, tmp_path / "none", lambda unit: unit < 0)) is None
    for unit in units:
        chosen = first_strip(reached(run, tmp_path / str(unit), lambda of, unit=unit: of == unit))
        own = where(pictured, unit=unit)[["own", "others"]].iloc[0]
        if own["others"] >= abs(own["own"]):
            assert chosen is None
        elif chosen is not None:
            assert chosen["unit"] == unit and chosen["measure"] in ("area", "luminance", "entropy")


def test_without_a_unit_that_is_fit_the_picture_says_so(run: Source, tmp_path: Path) -> None:
    none = reached(run, tmp_path, lambda unit: unit < 0)
    made = lead(none)
    assert made is not None and made.data is not None and "unit" not in made.data["picture"].tolist()
    assert "No unit is shown" in made.caption and not any(text.startswith("Unit ") for text in written(none))


def test_a_unit_beyond_random_directions_comes_first(run: Source, tmp_path: Path) -> None:
    everyone = reached(run, tmp_path / "all", lambda unit: unit >= 0)
    first = first_strip(everyone)
    assert first is not None
    pictured = where(run.table("pictures", "pictures"), step=0)
    told = [row for row in records(pictured) if row["measure"] in ("area", "luminance", "entropy")]
    other = next(row for row in told if row["unit"] != first["unit"] and row["others"] < abs(row["own"]))

    def larger(table: pd.DataFrame) -> pd.DataFrame:
        chosen = (table["unit"] == other["unit"]) & (table["label"] == other["label"])
        return table.assign(larger=chosen & (table["measure"] == other["measure"]), reached=True)

    changed = first_strip(with_tables(run, tmp_path / "larger", "unit_statistics", ranking=larger))
    assert changed is not None and changed["unit"] == other["unit"] and changed["larger"]


def test_without_one_it_is_the_first_strip_and_the_null_is_in_bold(run: Source, tmp_path: Path) -> None:
    null = with_tables(run, tmp_path, "unit_statistics", ranking=lambda x: x.assign(reached=True, larger=False))
    chosen, pictured = first_strip(null), where(run.table("pictures", "pictures"), step=0)
    assert chosen is not None
    ranked = where(run.table("unit_statistics", "ranking"), interpreted=True)
    keys = ["unit", "label", "measure"]
    sound = [
        row
        for row in records(pictured.merge(ranked[keys], on=keys).sort_values("row"))
        if row["measure"] in ("area", "luminance", "entropy") and abs(row["own"]) > row["others"]
    ]
    assert chosen["row"] == sound[0]["row"]
    made = lead(null)
    assert made is not None and f"Unit {chosen['unit']} tuned: no more than random directions do" in written(null)
    assert any(text.startswith(f"{chosen['measure'].title()} of the ") for text in written(null))


def test_the_counterfactual_is_one_that_arrived(run: Source, tmp_path: Path) -> None:
    chosen = arrived(run)
    assert chosen is not None
    row, steps, at = chosen
    assert steps["position"].iloc[at] == pytest.approx(1, abs=0.2) and steps["prediction"].iloc[at] == row["target"]
    assert row["trajectory"] == 0

    def first_fails(table: pd.DataFrame) -> pd.DataFrame:
        return table.assign(prediction=table["prediction"].mask(table["trajectory"] == 0, "someone"))

    other = arrived(with_tables(run, tmp_path / "a", "trajectories", steps=first_fails))
    assert other is not None and other[0]["trajectory"] == 1

    def first_beyond(table: pd.DataFrame) -> pd.DataFrame:
        return table.assign(beyond=table["trajectory"] == 0)

    other = arrived(with_tables(run, tmp_path / "b", "trajectories", steps=first_beyond))
    assert other is not None and other[0]["trajectory"] == 1
    none = with_tables(run, tmp_path / "c", "trajectories", steps=lambda table: table.assign(prediction="someone"))
    assert arrived(none) is None


def test_what_is_not_computed_is_left_out(run: Source) -> None:
    assert lead(Source(run.facts, {})) is None
    made = lead(Source(run.facts, {"evaluation": run.artifacts["evaluation"]}))
    assert made is not None and made.data is not None and made.data["picture"].tolist() == ["cycle"]


def test_the_example_has_the_median_error() -> None:
    image = np.zeros((5, 2, 2, 3), np.uint8)
    cycled = image + np.array([9, 1, 5, 3, 7], np.uint8)[:, None, None, None]
    assert median_example(image, cycled) == 2


def test_leaders_are_reached_and_move_more_than_the_others(run: Source) -> None:
    known = run.table("unit_statistics", "faithfulness").set_index("unit")
    table = pd.DataFrame({"unit": [0, 1, 2, 3], "own": [0.1, 2.0, 2.0, 0.2], "others": [0.5, 0.5, 0.5, 0.1]})
    bare = Source(run.facts, {})
    assert leaders_first(bare, table)["unit"].tolist() == [1, 2, 3, 0]
    assert leaders_first(bare, pd.DataFrame(table[["unit"]]))["unit"].tolist() == [0, 1, 2, 3]
    ordered = leaders_first(run, table)["unit"].tolist()
    reached = known["reached"].to_dict()
    sound = [unit for unit in (1, 2, 3) if reached[unit]]
    assert ordered[: len(sound)] == sound or not any(reached.values())
