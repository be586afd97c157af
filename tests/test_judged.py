"""What became of searches: each reason on made-up results, and what others than the searched network say."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from helpers.commandline import SMALL, lis, metrics
from helpers.fakes import NAMES, FakeClassifier, FakeGenerator, make_context
from helpers.fakes_units import tuning_context, use_fake_segmenter
from test_counterfactuals import context, frame
from test_trajectories import Known
from torch import Tensor

from lis.boundary import searches
from lis.boundary.counterfactuals import counterfactuals
from lis.boundary.gan_counterfactuals import GanCounterfactualsConfig, gan_counterfactuals
from lis.boundary.judged import FAILURES, OTHERS, failures, others, others_table, reasons, witnessed
from lis.boundary.sparse_counterfactuals import sparse_counterfactuals
from lis.context import Context
from lis.generators.partworld import PartWorld
from lis.linking.pairs import pairs
from lis.linking.region import Region
from lis.report.tables import records
from lis.streams import Stream

ORIGIN, TARGET, THIRD = 0, 1, 2


def result(**changes: Any) -> dict[str, Tensor]:
    """Two searches from `ORIGIN` to `TARGET`: one that is still under way, changed; one whose target is ahead."""
    first: dict[str, Any] = {"success": False, "diverged": False, "beyond": False, "short": False}
    first |= {"after": ORIGIN, "asked": ORIGIN, "before": ORIGIN, "ahead": -0.5, "halfway": -0.9}
    first |= {"steps": 9, "probability": 0.25}
    assert not changes.keys() - first.keys()
    other = first | {"success": True, "after": TARGET, "ahead": 0.1, "probability": 0.75}
    return {name: torch.tensor([value, other[name]]) for name, value in (first | changes).items()}


CASES: dict[str, dict[str, Any]] = {
    "diverged": {"diverged": True, "after": TARGET, "beyond": True, "asked": TARGET},
    "beyond": {"after": TARGET, "beyond": True, "short": True},
    "short": {"after": TARGET, "short": True, "asked": TARGET},
    "unseen": {"asked": TARGET, "halfway": -0.5},
    "stuck": {"halfway": -0.5},
    "steps": {},
}


@pytest.mark.parametrize("key", CASES)
def test_the_first_reason_that_holds(key: str) -> None:
    told = result(**CASES[key])
    assert failures(told, torch.tensor([ORIGIN] * 2), torch.tensor([TARGET] * 2)) == [key, ""]
    assert failures(told | {"success": torch.ones(2, dtype=torch.bool)}, *torch.tensor([[ORIGIN] * 2] * 2)) == ["", ""]


def test_a_target_that_the_link_never_shows_is_unreachable() -> None:
    """Where originals of that class are in the run, and f(r) of none of them is called it."""
    told = {name: values.expand(2).clone() for name, values in result().items() for values in [values[:1]]}
    told |= {"before": torch.tensor([ORIGIN, THIRD]), "asked": torch.full((2,), THIRD)}
    ends = torch.tensor([ORIGIN, TARGET]), torch.tensor([TARGET, ORIGIN])
    assert failures(told, *ends) == ["unreachable", "steps"]
    told["before"][1] = TARGET
    assert failures(told, *ends) == ["steps", "steps"]


def test_every_reason_has_a_test_and_words() -> None:
    assert {*CASES, "unreachable"} == set(FAILURES)
    keys, told = [*FAILURES, ""], {"steps": torch.full((8,), 9), "probability": torch.full((8,), 0.25)}
    words = reasons(keys, told, ["bee"] * 8)
    assert words[-1] == "" and not any("{" in text for text in words) and len(set(words)) == 8
    assert words[2] == "called bee, but only with p = 0.25 after 9 steps"


def said(**columns: list[str]) -> pd.DataFrame:
    """A table of four searches from ant to bee, of which three are reached."""
    table = pd.DataFrame({"origin": ["ant"] * 4, "target": ["bee"] * 4, "success": [True, True, True, False]})
    return table.assign(**{f"{who}{when}": "" for who in OTHERS for when in ("", "_before")}).assign(**columns)


def test_others_are_counted_over_all_searches() -> None:
    table = witnessed(said(witness=["bee", "ant", "cat", "bee"], witness_before=["ant", "ant", "bee", "cat"]))
    (row,) = table.to_dict("records")
    assert (row["who"], row["n"], row["target"], row["share"]) == ("witness", 4, 1, 0.25)  # the last is not reached
    assert (row["origin"], row["target_before"], row["origin_before"]) == (0.25, 0.25, 0.5)
    assert 0 < row["low"] < 0.25 < row["high"] < 1
    assert witnessed(said()).empty and witnessed(said().iloc[:0]).empty
    assert set(witnessed(said())) == set(table)


def test_bayes_rule_and_a_witness_answer_by_names(tmp_path: Path) -> None:
    world = PartWorld(["pug", "chihuahua"])
    ctx = make_context(tmp_path, FakeGenerator(), class_names=("pug", "chihuahua"))
    w = world.sample(world.class_names.index("pug"), torch.arange(40), Stream("test pairs"))
    told = others(replace(ctx, generator=world), w)
    expected = [world.class_names[k] for k in world.log_posterior(w).argmax(1).tolist()]
    assert told == {"bayes": expected, "witness": [""] * 40} and expected.count("pug") > 30


class Other(FakeClassifier):
    """Calls everything by the classes of another order."""

    def __init__(self, generator: FakeGenerator) -> None:
        super().__init__(generator, class_names=("cat", "ant", "bee"))
        self.fingerprint += "-other"


def test_a_witness_is_asked_for_its_own_classes(tmp_path: Path) -> None:
    generator = FakeGenerator()
    ctx = replace(make_context(tmp_path, generator), witness=Other(generator))
    w = generator.mean_w
    table = others_table(ctx, w, w.flip(0))
    assert table["witness"].tolist() == ["cat", "ant", "bee"] and table["bayes"].tolist() == [""] * 3
    assert table["witness_before"].tolist() == ["bee", "ant", "cat"]
    assert others(ctx, w[:0]) == {"bayes": [], "witness": []}


def asked(ctx: Context, **models: Any) -> Context:
    """A run with a witness."""
    return replace(ctx, witness=Other(FakeGenerator()), **models)


def test_a_witness_costs_no_search_and_is_in_the_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ctx = context(tmp_path, generator=Known(), samples=2, l1_samples=2)
    alone, sweep = counterfactuals(ctx), sparse_counterfactuals(ctx)
    monkeypatch.setattr(searches, "search", None)
    both = counterfactuals(asked(ctx))
    assert both.key != alone.key and frame(alone, "witnessed")["who"].tolist() == ["bayes"]
    table, rows = frame(both, "counterfactuals"), frame(both, "witnessed").set_index("who")
    assert list(rows.index) == ["bayes", "witness"]
    renamed = dict(zip(NAMES, ("cat", "ant", "bee"), strict=True))
    assert table["witness"].tolist() == [renamed[name] for name in table["after"]]
    share = float(((table["witness"] == table["target"]) & table["success"]).mean())
    assert rows["share"]["witness"] == pytest.approx(share)
    other = sparse_counterfactuals(asked(ctx))
    assert other.key != sweep.key and frame(sweep, "summary")["witness"].isna().all()
    for _, row in frame(other, "summary").iterrows():
        own: Any = frame(other, "sweep")
        own = own[own["l1"] == row["l1"]]
        for who in OTHERS:
            assert row[who] == pytest.approx(((own[who] == own["target"]) & own["success"]).mean())


def test_the_same_z_is_judged_in_the_same_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    use_fake_segmenter(monkeypatch)
    config = GanCounterfactualsConfig(samples=3, steps=3, examples=1, units=1)
    ctx = asked(tuning_context(tmp_path, view__steps=2, gan_counterfactuals=config))
    artifact = gan_counterfactuals(ctx)
    table, train = frame(artifact, "samples"), pairs(ctx, "train").tensors("pairs")
    assert (table["success"] == (table["arrived"] & ~table["beyond"])).all()
    generator, stream, region = ctx.generator, Stream("test pairs"), Region.around(train["w"], train["class_index"])
    for row in table.to_dict("records"):
        origin, target = (NAMES.index(row[name]) for name in ("origin", "target"))
        first = generator.sample(origin, torch.tensor([row["sample_index"]]), stream)
        last = first + generator.mean_w[target] - generator.mean_w[origin]
        assert row["beyond"] == bool(region.distance(last)[0] > region.bound)
        image = generator.synthesize(torch.cat([first, last]))
        witness: Any = ctx.witness
        names = [witness.class_names[k] for k in witness.head(witness.features(image)).argmax(1).tolist()]
        assert [row["witness_before"], row["witness"]] == names
    (told,) = frame(artifact, "witnessed").to_dict("records")
    assert told["who"] == "witness" and told["n"] == len(table) == 18


def test_a_run_on_the_command_line_asks_both_also_without_parts(tmp_path: Path) -> None:
    few = ("classes.names=[pug,chihuahua]", "classes.labels=[]", "link=ridge", "pairs.train=30", "pairs.test=10")
    stages = ("analysis.stages=[counterfactuals,trajectories]", "counterfactuals.witness=partnet_attributes")
    code, output = lis(*SMALL, *few, *stages, "counterfactuals.samples=1", "hydra.run.dir=run", cwd=tmp_path)
    assert code == 0, output
    rows = records(pd.read_parquet(tmp_path / "run" / "tables" / "counterfactuals" / "witnessed.parquet"))
    assert [(row["who"], row["n"]) for row in rows] == [(who, 2) for who in OTHERS]
    shares = {f"counterfactuals/{row['who']}_agrees": row["share"] for row in rows}
    assert shares.items() <= metrics(tmp_path / "run").items()
    page = (tmp_path / "run" / "report.html").read_text()
    assert "Bayes&#39; rule calls" in page and "another network calls" in page
    assert "classes.labels is empty" in page and "Across the decision boundary" in page
