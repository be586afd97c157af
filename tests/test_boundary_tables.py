"""What the tables of the experiments' READMEs write where there is no number."""

from __future__ import annotations

from importlib import import_module
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from helpers.commandline import ROOT

from lis.report.tables import records

WITNESSED = {"who": "bayes", "share": 0.4, "low": 0.3, "high": 0.5, "origin": 0.2}


@pytest.fixture
def tables(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(ROOT / "experiments"))
    return import_module("boundary_tables")


def made_run(**frames: pd.DataFrame) -> Any:
    return SimpleNamespace(frame=lambda _, name: frames[name], rows=lambda _, name: records(frames[name]))


@pytest.mark.parametrize(
    ("reached", "cells"), [(True, ["1 of 2", "7", "3.0", "0.50", "0.90", "30"]), (False, ["–"] * 5)]
)
def test_of_no_search_that_reaches_there_is_no_median(tables: Any, reached: bool, cells: list[str]) -> None:
    known = {"steps": 7.0, "r_distance": 3.0, "w_distance": 0.5, "probability": 0.9, "passes": 15}
    searches = pd.DataFrame([known | {"success": reached}, known | {"success": False}])
    _, told = tables.searches(made_run(counterfactuals=searches, witnessed=pd.DataFrame([WITNESSED])))
    assert told[:6] == (cells if reached else ["0 of 2", *cells])


@pytest.mark.parametrize(("end", "told"), [(2.0, "0.00, 0.50, 1.00"), (1.5, "0.00, 0.50, –"), (1.0, "0.00, 0.50, –")])
def test_beyond_the_end_of_a_path_there_is_no_probability(tables: Any, end: float, told: str) -> None:
    position = np.linspace(0, end, 7)
    steps = pd.DataFrame({"step": range(7), "position": position, "probability": position / 2, "mse": position})
    path = pd.DataFrame([{"trajectory": 0, "origin": "pug", "target": "ant", "boundary": 0.8}])
    assert told in tables.paths(made_run(steps=steps.assign(trajectory=0), trajectories=path))
