"""Ctrl-C and SIGTERM end a run after the shard in hand, with one line and the code that a shell expects."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from helpers.commandline import ROOT, SMALL, STORE, drafts, lis, start
from helpers.pickled import packed
from helpers.stored import manifests
from torch import Tensor

from lis import stopping
from lis.convert import main as convert_main
from lis.engine import InProcess
from lis.images import to_uint8
from lis.labels.__main__ import main as labels_main
from lis.stopping import Stop

SIGNALS = pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)], ids=lambda value: getattr(value, "name", "")
)


@pytest.fixture
def stop(monkeypatch: pytest.MonkeyPatch) -> Stop:
    """A request of this test alone."""
    fresh = Stop()
    monkeypatch.setattr("lis.engine.inprocess.stop", fresh)
    return fresh


class Making:
    """What makes shards with a function."""

    def __init__(self, make: Callable[[int], object]) -> None:
        self.make = make

    def find(self, item: int) -> int | None:
        """None is there."""

    def attempt(self, item: int) -> int:
        """The shard of an item."""
        self.make(item)
        return item


@SIGNALS
def test_the_shard_in_hand_is_finished_and_one_line_says_what_is_kept(
    stop: Stop, number: signal.Signals, code: int, capfd: pytest.CaptureFixture[str]
) -> None:
    before, done = signal.getsignal(number), []

    def shard(item: int) -> None:
        os.kill(os.getpid(), number)
        done.append(item)

    stop.store = "outputs/store"
    with pytest.raises(SystemExit) as error, stop.listen():
        list(InProcess().map(Making(shard), range(3)))
    assert (error.value.code, done) == (code, [0])
    (line,) = filter(None, capfd.readouterr().err.splitlines())
    assert line.startswith(number.name) and "kept in outputs/store" in line and "the same command" in line
    assert signal.getsignal(number) == before and signal.getitimer(signal.ITIMER_REAL)[0] == 0


def test_a_shard_that_takes_too_long_is_stopped(stop: Stop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stopping, "GRACE", 0.1)

    def shard(item: int) -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(60)

    begun = time.monotonic()
    with pytest.raises(SystemExit), stop.listen():
        list(InProcess().map(Making(shard), range(3)))
    assert time.monotonic() - begun < 30


def test_what_cleans_up_is_not_interrupted_by_the_clock(stop: Stop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stopping, "GRACE", 0.1)
    done = []

    def shard(item: int) -> None:
        try:
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(60)
        finally:
            time.sleep(0.5)
            done.append(item)

    with pytest.raises(SystemExit), stop.listen():
        list(InProcess().map(Making(shard), range(3)))
    assert done == [0]


@SIGNALS
def test_an_ignored_signal_stays_ignored(stop: Stop, number: signal.Signals, code: int) -> None:
    """As behind `nohup`, or in a script's background."""
    (other,) = {signal.SIGINT, signal.SIGTERM} - {number}

    def both() -> None:
        os.kill(os.getpid(), other)
        os.kill(os.getpid(), number)  # after the other one as well
        stop.check()

    before = signal.signal(number, signal.SIG_IGN)
    try:
        with stop.listen():
            os.kill(os.getpid(), number)
            stop.check()
            assert signal.getsignal(number) == signal.SIG_IGN
        with pytest.raises(SystemExit) as error, stop.listen():
            both()
        assert signal.getsignal(number) == signal.SIG_IGN
    finally:
        signal.signal(number, before)
    assert error.value.code == 128 + other != code


def test_the_command_line_leaves_ctrl_c_ignored_in_the_background() -> None:
    program = """
import runpy, signal, sys
signal.signal(signal.SIGINT, signal.SIG_IGN)
sys.modules["hydra"] = None  # the first import that takes long ends it
try:
    runpy.run_module("lis.run", run_name="__main__")
except ModuleNotFoundError:
    print(signal.getsignal(signal.SIGINT) == signal.SIG_IGN)
"""
    ended = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True)
    assert ended.stdout == "True\n", ended.stderr


def test_an_exit_without_a_signal_keeps_its_code(stop: Stop) -> None:
    with pytest.raises(SystemExit) as error, stop.listen():
        sys.exit(7)
    assert error.value.code == 7


def told(number: signal.Signals, output: str) -> str:
    """The one line about a signal, in an output without a traceback."""
    (line,) = (line for line in output.splitlines() if number.name in line)
    assert "Traceback" not in output and "stops behind the step in hand" in line
    return line


@SIGNALS
def test_an_export_that_was_stopped_left_a_traceback_and_a_folder_that_the_next_one_refused(
    number: signal.Signals,
    code: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    fresh, batches = Stop(), []
    monkeypatch.setattr("lis.labels.__main__.stop", fresh)
    monkeypatch.setattr("lis.labels.export.stop", fresh)

    def signalled(images: Tensor) -> Tensor:
        os.kill(os.getpid(), number)
        batches.append(len(images))
        return to_uint8(images)

    folder = tmp_path / "labels"
    command = ["export", str(folder), "batch_size=2", "labels.train=1", "labels.test=1", "device=cpu", "--masks"]
    with monkeypatch.context() as patch:
        patch.setattr("lis.labels.export.to_uint8", signalled)
        with pytest.raises(SystemExit) as error:
            labels_main(command)
    assert (error.value.code, batches) == (code, [2]) and not list(folder.iterdir())
    line = told(number, capfd.readouterr().err)
    assert f"nothing is kept in {folder}; the same command begins anew" in line
    fresh.signal = None
    labels_main(command)
    assert (folder / "manifest.json").is_file()


@SIGNALS
@pytest.mark.parametrize("step", ["read_checkpoint", "sha256", "save_file"])
def test_a_conversion_that_was_stopped_left_a_traceback(
    number: signal.Signals,
    code: int,
    step: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """Nor is there anything by half, which the same command would refuse to write over."""
    fresh, (source, folder) = Stop(), (tmp_path / "network.pkl", tmp_path / "out")
    source.write_bytes(packed("t_stem16_c10"))
    for module in ("lis.convert", "lis.generators.stylegan_xl.checkpoint"):
        monkeypatch.setattr(f"{module}.stop", fresh)
    home = "lis.generators.stylegan_xl.checkpoint" if step == "save_file" else "lis.convert"
    function = getattr(sys.modules[home], step)

    def signalled(*arguments: object) -> object:
        os.kill(os.getpid(), number)
        return function(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(f"{home}.{step}", signalled)
        with pytest.raises(SystemExit) as error:
            convert_main([str(source), str(folder)])
    assert error.value.code == code and not list(folder.glob("*"))
    assert f"nothing is kept in {folder}; the same command begins anew" in told(number, capfd.readouterr().err)
    fresh.signal = None
    convert_main([str(source), str(folder)])
    assert (folder / "generator.json").is_file()


@SIGNALS
def test_a_second_signal_ends_the_process_at_once(number: signal.Signals, code: int) -> None:
    program = "import time; from lis.stopping import stop\nwith stop.listen():\n print(flush=True); time.sleep(60)"
    process = subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT
    )
    assert process.stdout is not None and process.stderr is not None
    process.stdout.readline()
    process.send_signal(number)
    assert process.stderr.readline() == "\n" and process.stderr.readline().startswith(number.name)
    process.send_signal(number)
    process.communicate(timeout=30)
    assert process.returncode == -number  # which a shell gives as `code`
    assert code == 128 + number


def signalled(number: signal.Signals, process: subprocess.Popen[str], ready: Callable[[], bool]) -> tuple[int, str]:
    """Send the signal as soon as `ready()`; exit code and output."""
    while not ready():
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.002)
    process.send_signal(number)
    output = process.communicate(timeout=120)[0]
    return process.returncode, output


@pytest.mark.slow
def test_ctrl_c_stops_a_run_with_one_line_and_the_same_command_goes_on(tmp_path: Path) -> None:
    run = (*SMALL, "shard_size=20", "threads=1", "analysis.stages=[pairs/train,pairs/test]", "hydra.run.dir=run")
    code, output = signalled(signal.SIGINT, start(*run, cwd=tmp_path), lambda: any(drafts(tmp_path / STORE)))
    assert code == 130, output
    assert "Traceback" not in output and sum("SIGINT" in line for line in output.splitlines()) == 1
    kept = manifests(tmp_path / "outputs" / "store")
    assert not any(drafts(tmp_path / STORE)) and not (tmp_path / "run" / "metrics.json").exists()
    code, output = lis(*run, cwd=tmp_path)
    assert code == 0, output
    assert kept.items() <= manifests(tmp_path / "outputs" / "store").items()


@pytest.mark.slow
def test_sigterm_stops_a_whole_sweep(tmp_path: Path) -> None:
    sweep = ("-m", *SMALL, "seed=0,1", "analysis.stages=[pairs/test]", "hydra.sweep.dir=sweep")
    code, output = signalled(signal.SIGTERM, start(*sweep, cwd=tmp_path), lambda: any(drafts(tmp_path / STORE)))
    assert code == 143 and "Traceback" not in output, output
    assert (tmp_path / "sweep" / "0").is_dir() and not (tmp_path / "sweep" / "1").exists()
