"""StyleGAN-XL with `torch.compile`: the reference's arrays within 2e-5, and what happens without a compiler."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from collections.abc import Collection, Iterable, Iterator
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.pickled import NAMES
from helpers.stylegan_xl_fixtures import TOLERANCE, UNTRANSFORMED, generator, recorded

from lis.generators.stylegan_xl import resampling
from lis.generators.stylegan_xl.resampling import Resampling, _sums, resample

LARGE = ("mixed_super64_c10", "t_super32_c10")
"""Take longest to compile, the first one above all; without the compiler test_stylegan_xl_parity.py compares them."""
IMAGES = {"img_psi1": "w_psi1", "img_psi07": "w_psi07", "img_wplus": "wplus"}
WITHOUT = """
import sys
sys.path.insert(0, "tests")
from helpers.stylegan_xl_fixtures import generator, recorded
io = recorded("t_stem16_c10")
image = generator("t_stem16_c10", compile="auto").synthesis(io["w_psi1"])
print(float((image - io["img_psi1"]).abs().max()))
generator("t_stem16_c10", compile="on").synthesis(io["w_psi1"])
"""


def marked(names: Iterable[str], full: Collection[str]) -> list[Any]:
    """Networks, of which `make full` has some."""
    return [pytest.param(name, marks=[pytest.mark.full] if name in full else []) for name in names]


@pytest.fixture(scope="module")
def works() -> None:
    """Skips where nothing can be compiled, and says why."""
    if problem := resampling._problem("cpu"):
        pytest.skip(problem)


@pytest.fixture
def forgotten() -> Iterator[None]:
    """What is known of the compiler is found out anew, and again after the test."""
    resampling.usable.cache_clear()
    yield
    resampling.usable.cache_clear()


@pytest.fixture
def broken(monkeypatch: pytest.MonkeyPatch, forgotten: None) -> None:
    """A machine on which compiling fails."""

    def fail(*_: Any, **__: Any) -> None:
        raise RuntimeError("InvalidCxxCompiler: No working C++ compiler found\nmore of it")

    monkeypatch.setattr(resampling, "resample", fail)


@pytest.fixture
def eager(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Programs are traced and run as they are; those of other tests are forgotten, and so are these afterwards."""
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="eager"))
    for forget in (_sums.cache_clear, torch._dynamo.reset):
        forget()
    yield
    for forget in (_sums.cache_clear, torch._dynamo.reset):
        forget()


def off(found: torch.Tensor, expected: torch.Tensor) -> float:
    """Largest difference."""
    assert found.shape == expected.shape
    return float((found - expected).abs().max())


@pytest.mark.slow
@pytest.mark.usefixtures("works")
@pytest.mark.parametrize("name", marked(NAMES, LARGE))
@torch.no_grad()
def test_images(name: str) -> None:
    """Those of the reference, and those without the compiler."""
    io, compiled, plain = recorded(name), generator(name, compile="on"), generator(name)
    for image, ws in IMAGES.items():
        if image in io:
            found = compiled.synthesis(io[ws])
            assert off(found, io[image]) <= TOLERANCE
            assert off(found, plain.synthesis(io[ws])) <= TOLERANCE


@pytest.mark.slow
@pytest.mark.usefixtures("works")
@pytest.mark.parametrize("name", marked(UNTRANSFORMED, LARGE[:1]))
@torch.no_grad()
def test_the_output_of_every_layer(name: str) -> None:
    """The maps with `features`, which are those between the layers without."""
    io = recorded(name)
    _, maps = generator(name, compile="on").synthesis(io["w_psi1"], features=True)
    wanted = {key.removeprefix("layer:"): value for key, value in io.items() if key.startswith("layer:")}
    assert len(wanted) > 4
    for layer, expected in wanted.items():
        assert (
            off(maps[layer][:1].reshape(expected.shape) if expected.ndim == 4 else maps[layer][0], expected) < TOLERANCE
        )


@pytest.mark.slow
@pytest.mark.usefixtures("works")
def test_gradients_are_those_without_the_compiler() -> None:
    """They never pass through what is compiled."""
    gradients = []
    for mode in ("on", "off"):
        ws = recorded("t_super32_c10")["w_psi1"].clone().requires_grad_()
        generator("t_super32_c10", compile=mode).synthesis(ws).square().sum().backward()
        gradients.append(ws.grad)
    assert torch.equal(*gradients)


@pytest.mark.full
@pytest.mark.usefixtures("forgotten")
def test_on_a_machine_without_a_compiler(tmp_path: Path) -> None:
    """A process that finds none: `auto` gives the images, `on` says what is missing."""
    environment = os.environ | {"CXX": "/nowhere/g++", "TORCHINDUCTOR_CACHE_DIR": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", WITHOUT], env=environment, capture_output=True, text=True, check=False)
    assert done.stdout and float(done.stdout) <= TOLERANCE, done.stderr
    assert "ValueError: gan.compile=on: nothing can be compiled here, " in done.stderr


@pytest.mark.usefixtures("broken")
def test_on_is_an_error_without_a_compiler() -> None:
    """It says why, and what to do."""
    network, ws = generator("t_stem16_c10", compile="on"), recorded("t_stem16_c10")["w_psi1"]
    message = r"gan.compile=on: nothing can be compiled here, InvalidCxxCompiler: .* found\. Install a C\+\+ compiler"
    with pytest.raises(ValueError, match=message) as caught:
        network.synthesis(ws)
    assert "gan.compile=auto or off" in str(caught.value) and "more of it" not in str(caught.value)


@pytest.mark.usefixtures("broken")
def test_auto_does_without_a_compiler_and_says_so_once(caplog: pytest.LogCaptureFixture) -> None:
    """The images are the same."""
    network, io = generator("t_stem16_c10", compile="auto"), recorded("t_stem16_c10")
    with caplog.at_level(logging.INFO, logger=resampling.__name__):
        images = [network.synthesis(io["w_psi1"]) for _ in range(2)]
    assert max(off(image, io["img_psi1"]) for image in images) <= TOLERANCE
    (said,) = [record.getMessage() for record in caplog.records if record.name == resampling.__name__]
    assert said.startswith("StyleGAN-XL resamples with banded matrices (nothing can be compiled here, InvalidCxx")


@pytest.mark.usefixtures("forgotten")
def test_off_asks_for_no_compiler(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """And says that it was told so."""
    monkeypatch.setattr(resampling, "_problem", lambda device: pytest.fail("compiled"))
    with caplog.at_level(logging.INFO, logger=resampling.__name__):
        assert not resampling.usable("off", "cpu")
    assert "banded matrices (gan.compile=off)" in caplog.text


@pytest.mark.usefixtures("forgotten")
@pytest.mark.parametrize("mode", ["auto", "on"])
def test_what_is_compiled_is_said(mode: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """Where compiling works."""
    monkeypatch.setattr(resampling, "_problem", lambda device: "")
    with caplog.at_level(logging.INFO, logger=resampling.__name__):
        assert resampling.usable(mode, "cpu")
    assert "compiled polyphase sums" in caplog.text


@pytest.mark.slow
@pytest.mark.usefixtures("eager")
@torch.no_grad()
def test_a_process_may_meet_many_kinds_of_layers() -> None:
    """More than the 8 programs that PyTorch by itself keeps of one function."""
    x, one, fir = torch.ones(1, 2, 6, 6), torch.ones(1, 2), torch.full((2,), 0.5)
    for up, clamp in product(range(2, 7), (None, 1.0)):
        how = Resampling(up, 2, (1, 1), 0.2, 1.0, clamp)
        found, expected = (resample(x, one, one[0], fir, fir, how, compiled) for compiled in (True, False))
        assert off(found, expected) < TOLERANCE
