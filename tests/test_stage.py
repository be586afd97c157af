"""A stage is declared once, and all else follows: a worked example, and what the declarations of all stages give."""

from __future__ import annotations

import dataclasses
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from helpers.commandline import ROOT, lis
from helpers.fakes import make_context, stand_in
from hydra import compose, initialize_config_dir
from hydra.core.config_store import ConfigStore
from hydra.errors import ConfigCompositionException
from omegaconf import OmegaConf

from lis import config, memory, peaks, stages
from lis.config import RunConfig, conf_folder
from lis.config.fields import choice, keyed, number
from lis.config.root import GROUPS, root_schema
from lis.context import Context
from lis.linking.pairs import test_pairs as pairs_of_the_test  # by another name, since pytest calls what begins so
from lis.stage import REGISTRY, Stage, closure, stage
from lis.store import Artifact, Draft
from lis.validation import check_config, check_folders, typed

BUILT: list[str] = []


@dataclasses.dataclass
class NormsConfig:
    """Settings of the worked example; each has a default, so that no size needs to know them."""

    power: float = number(2.0, low=1, high=9)
    average: str = choice("mean", ("mean", "median"))
    batch_size: int = number(8, low=1, silent=True)


def refuse_one_class(ctx: Context) -> None:
    if len(ctx.class_names) < 2:
        raise ValueError("norms of one class: expected two or more")


@pytest.fixture(autouse=True)
def registry() -> Iterator[None]:
    """What a test declares is forgotten after it."""
    known = cast("tuple[dict[str, Any], ...]", (REGISTRY, GROUPS))
    before = [dict(each) for each in known]
    yield
    for each, values in zip(known, before, strict=True):
        each.clear()
        each.update(values)
    stages.register()
    ConfigStore.instance().repo["analysis"].pop("norms.yaml", None)


@pytest.fixture
def norms() -> Stage:
    """The whole of a new analysis, its report apart."""
    BUILT.clear()

    @stage("norms", version=1, inputs=(pairs_of_the_test,), config=NormsConfig, check=refuse_one_class, seed=True)
    def norms(ctx: Context, config: NormsConfig, test: Artifact, draft: Draft) -> None:
        """Norms of r.

        Tensors "norms": `norm [n]`.
        """
        BUILT.append(test.key)
        draft.tensors("norms", {"norm": test.tensors("pairs")["r"].norm(config.power, dim=1)})

    stages.register()
    return norms


def composed(*overrides: str) -> RunConfig:
    with initialize_config_dir(version_base="1.3", config_dir=str(conf_folder())):
        return typed(compose("config", list(overrides)))


def context(root: Path, *, norms: NormsConfig | None = None, **overrides: Any) -> Context:
    """A run on the fakes that knows the settings of the example."""
    ctx = make_context(root, **{"analysis__stages": ["norms"]} | overrides)
    values = {entry.name: getattr(ctx.config, entry.name) for entry in dataclasses.fields(ctx.config)}
    return dataclasses.replace(ctx, config=root_schema()(**values, norms=norms or NormsConfig()))  # type: ignore[call-arg]


def test_a_declared_stage_is_one_that_can_be_named_in_its_order(norms: Stage) -> None:
    assert "norms" in stages.names() and stages.names().index("pairs/test") < stages.names().index("norms")
    assert "| `norms` |" in stages.table() and "| `pairs/test` | Norms of r. |" in stages.table()
    check_config(composed("analysis.stages=[norms]"), stages.names())


def test_its_settings_are_keys_of_a_run_and_misspelt_ones_are_refused(norms: Stage) -> None:
    settings: Any = composed("norms.power=3")
    assert settings.norms == NormsConfig(power=3.0)
    with pytest.raises(ConfigCompositionException) as error:
        composed("norms.pwoer=3")
    assert "Key 'pwoer' not in 'NormsConfig'" in str(error.value.__cause__)
    with pytest.raises(ValueError, match=r"stage 'other' in .*: the settings 'norms' are there already"):
        stage("other", version=1, config=RunConfig, group="norms")(lambda ctx, draft: None)
    with pytest.raises(ValueError, match=r"stage 'other' in .*: the settings 'pairs' are there already"):
        stage("other", version=1, config=RunConfig, group="pairs")(lambda ctx, draft: None)
    assert "other" not in REGISTRY


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("norms.power=0", r"norms\.power=0\.0: expected a value from 1 to 9"),
        ("norms.average=nonsense", r"norms\.average=nonsense: expected one of mean, median"),
        ("norms.batch_size=0", r"norms\.batch_size=0: expected at least 1"),
    ],
)
def test_what_is_out_of_its_range_is_refused_before_any_work(norms: Stage, override: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        check_config(composed("analysis.stages=[norms]", override), stages.names())


def test_an_analysis_of_its_name_needs_no_file(norms: Stage) -> None:
    chosen = composed("analysis=norms").analysis
    assert chosen.name == "norms" and chosen.stages == ["pairs/test", "norms"]


def test_its_check_comes_before_any_work_in_a_run_and_alone(norms: Stage, tmp_path: Path) -> None:
    ctx = context(tmp_path, class_names=("ant",))
    for refused in (lambda: norms(ctx), lambda: [asked.require(ctx) for asked in closure(["norms"], ctx)]):
        with pytest.raises(ValueError, match="norms of one class"):
            refused()
    assert not (tmp_path / "store" / "pairs-test").exists() and not BUILT


def test_its_input_is_made_and_handed_over_and_its_result_is_read_again(norms: Stage, tmp_path: Path) -> None:
    ctx = context(tmp_path)
    artifact, test = norms(ctx), pairs_of_the_test(ctx)
    assert [test.key] == BUILT and artifact.manifest["recipe"]["inputs"] == [test.key]
    torch.testing.assert_close(artifact.tensors("norms")["norm"], test.tensors("pairs")["r"].norm(2.0, dim=1))
    assert norms(ctx).key == artifact.key and len(BUILT) == 1


def test_its_key_follows_from_its_settings_but_silent_ones_its_seed_and_its_inputs(
    norms: Stage, tmp_path: Path
) -> None:
    def key(**changes: Any) -> str:
        settings = NormsConfig(**{k: changes.pop(k) for k in ("power", "average", "batch_size") if k in changes})
        return norms(context(tmp_path, norms=settings, **changes)).key

    first = key()
    assert key(batch_size=3) == first == key(shard_size=9)
    others = [key(power=3.0), key(average="median"), key(seed=1), key(pairs__test=19)]
    assert len({first, *others}) == 5


def test_an_input_under_a_condition_is_left_out_where_that_does_not_hold(
    norms: Stage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, given = [], []

    @stage("optional", version=1, inputs=(norms.when(lambda ctx: ctx.config.seed == 1), pairs_of_the_test))
    def optional(ctx: Context, found: Artifact | None, test: Artifact, draft: Draft) -> None:
        given.append(found)

    assert "(`norms`), `pairs/test`" in stages.table()
    stand_in(monkeypatch, "norms", lambda ctx: asked.append("norms") or pairs_of_the_test(ctx))
    for seed, taken in ((0, ["pairs/test", "optional"]), (1, ["norms", "pairs/test", "optional"])):
        ctx = context(tmp_path / str(seed), seed=seed)
        assert [each.name for each in closure(["optional"], ctx)] == taken
        artifact = optional(ctx)
        assert len(artifact.manifest["recipe"]["inputs"]) == 1 + seed
    assert given[0] is None and given[1] is not None and asked == ["norms"]


def test_its_memory_is_that_of_pairs_unless_it_says_so(norms: Stage, tmp_path: Path) -> None:
    ctx, machine = context(tmp_path), memory.Machine(torch.device("cpu"), 2**30)
    usual = peaks.peaks(ctx, ["norms"], machine)
    assert list(usual) == ["pairs/test", "norms"] and usual["norms"] == usual["pairs/test"]

    @stage("norms", version=1, inputs=(pairs_of_the_test,), images=peaks.no_images, arrays=lambda ctx: 7)
    def large(ctx: Context, test: Artifact, draft: Draft) -> None:
        """Norms of r."""

    assert dataclasses.replace(usual["norms"], images=0, arrays=7) == peaks.peaks(ctx, ["norms"], machine)["norms"]


def test_two_files_cannot_declare_one_name() -> None:
    with pytest.raises(ValueError, match=r"stage 'link' is declared in linking/link\.py and in .*: expected one name"):
        stage("link", version=1)(lambda ctx, draft: None)


@pytest.mark.parametrize(
    ("stages", "given", "unread"),
    [
        (["pairs/test", "importance"], {"images": "own"}, "images=own: no stage of this run reads it (pairs/test, "),
        (["tuning"], {"labels__folder": "own"}, "labels.folder=own: no stage of this run reads it (pairs/train, "),
        (["dissect"], {"labels__folder": "own"}, "labels.folder=own: no stage of this run reads it (pairs/train, "),
        (["images"], {"images": "own"}, ""),
        (["dissect"], {"images": "own", "labels__folder": "masks"}, ""),
        (["texture"], {"images": "own"}, ""),
        (["dissect"], {"labels__folder": "own", "classes__labels": ["eye"]}, ""),
        (["tuning"], {"labels__folder": "own", "classes__labels": ["eye"]}, ""),
        (["pairs/test"], {}, ""),
    ],
)
def test_a_folder_that_no_stage_reads_is_refused(
    stages: list[str], given: dict[str, Any], unread: str, tmp_path: Path
) -> None:
    """A run would silently be one on the generator's images."""
    ctx = make_context(tmp_path, analysis__stages=stages, **given)
    if not unread:
        return check_folders(ctx)
    key = unread.partition("=")[0]
    with pytest.raises(ValueError, match=re.escape(unread)) as refused:
        check_folders(ctx)
    readers = "images, dissect, texture" if key == "images" else "segmenter, dissect, texture"
    assert f"expected one of {readers}; leave {key} out" in str(refused.value)
    assert "\n" not in str(refused.value)


def test_the_architecture_holds_the_table_of_all_stages() -> None:
    """What `python -m lis.run --stages` prints; new stages are copied from there."""
    assert stages.table() in (ROOT / "ARCHITECTURE.md").read_text()


def test_the_command_line_prints_the_table(tmp_path: Path) -> None:
    code, printed = lis("--stages", cwd=tmp_path)
    assert code == 0 and printed.strip() == stages.table() and not [*tmp_path.iterdir()]


def test_every_stage_stands_behind_its_inputs_has_a_file_and_says_what_it_holds() -> None:
    order = [each.name for each in stages.stages()]
    assert sorted(order) == sorted(REGISTRY) and len(set(order)) == len(order)
    for each in stages.stages():
        assert all(order.index(asked.name) < order.index(each.name) for asked in each.inputs)
        assert (ROOT / "lis" / each.file).is_file() and re.fullmatch(r"\S.*\.", each.holds)


def test_the_order_does_not_depend_on_that_of_the_imports(monkeypatch: pytest.MonkeyPatch) -> None:
    order = stages.names()
    monkeypatch.setattr(stages, "REGISTRY", dict(sorted(REGISTRY.items(), reverse=True)))
    assert stages.names() == order


def test_every_stage_is_an_analysis() -> None:
    stages.register()
    for name in stages.names():
        if "/" not in name and name not in ("unit", "direction", "images"):
            assert name in composed(f"analysis={name}").analysis.stages


def test_the_configuration_alone_is_light() -> None:
    """Schemas are read by programs that need no models."""
    program = "import sys, lis.config; sys.exit(any(name in sys.modules for name in ('torch', 'hydra', 'pandas')))"
    subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=True, timeout=60)


def test_every_silent_field_is_left_out_of_the_keys() -> None:
    tuning = config.TuningConfig(units=1, seeds=2, control_directions=3)
    keys = {"units": 1, "seeds": 2, "steps": 2, "along": "pattern", "penalty": None}
    keys |= {"control_directions": 3, "control_lengths": 4}
    assert keyed(tuning) == keys
    assert keyed(OmegaConf.to_object(OmegaConf.structured(tuning))) == keyed(tuning)
