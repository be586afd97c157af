"""The lease lock: one owner at a time, taken over from the dead, the silent and the finished."""

from __future__ import annotations

import errno
import logging
import os
import re
import subprocess
import sys
import threading
import time
from functools import partial
from pathlib import Path

import pytest

from lis.lock import RELEASED, Lease, _Watch, abandoned, dead, owner, sweep
from lis.store import Recipe, Store


def another(**changes: object) -> str:
    """What this living process writes into its lock, or one that differs from it."""
    pid, start, machine = owner().split(".", 2)
    fields = {"pid": pid, "start": start, "machine": machine} | changes
    return ".".join(str(field) for field in fields.values())


def foreign(folder: Path, text: str) -> Path:
    """A lock that somebody else has made and does not touch."""
    folder.mkdir(parents=True)
    file = folder / "0"
    file.write_text(text)
    return file


def seconds_to_enter(lease: Lease) -> float:
    start = time.monotonic()
    with lease:
        return time.monotonic() - start


def test_a_free_lock_is_taken_at_once(tmp_path: Path) -> None:
    assert seconds_to_enter(Lease(tmp_path / "lock", 30)) < 0.5
    assert seconds_to_enter(Lease(tmp_path / "lock", 30)) < 0.5  # released by the first


def test_clear_removes_every_trace(tmp_path: Path) -> None:
    with Lease(tmp_path / "lock") as lease:
        assert lease.owned
        lease.clear()
    assert not lease.owned and not (tmp_path / "lock").exists()


def test_only_one_is_inside(tmp_path: Path) -> None:
    inside, most = 0, []

    def enter() -> None:
        nonlocal inside
        with Lease(tmp_path / "lock", 0.5):
            inside += 1
            most.append(inside)
            time.sleep(0.02)
            inside -= 1

    threads = [threading.Thread(target=enter) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1] * 6


def test_a_living_owner_is_waited_for_longer_than_a_lease(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    entered = threading.Event()
    with caplog.at_level(logging.INFO), Lease(tmp_path / "lock", 0.3):
        thread = threading.Thread(target=lambda: Lease(tmp_path / "lock", 0.3, "pairs").__enter__() and entered.set())
        thread.start()
        assert not entered.wait(1.0)
    assert entered.wait(2.0)
    assert caplog.text.count("waiting for pairs, which another job is making") == 1


SILENT = {
    "on another machine": lambda: another(machine="elsewhere", pid=1),
    "alive and standing still": owner,
    "killed before it wrote": lambda: "",
    "killed while it wrote": lambda: another()[:-1],
}


@pytest.mark.parametrize("kind", SILENT)
def test_a_silent_owner_is_taken_over_after_a_lease(tmp_path: Path, kind: str) -> None:
    foreign(tmp_path / "lock", SILENT[kind]())
    assert 0.3 <= seconds_to_enter(Lease(tmp_path / "lock", 0.3)) < 3


@pytest.mark.parametrize("changes", [{"start": "1"}, {"pid": 2**22 + 1}])
def test_a_dead_owner_on_this_machine_is_taken_over_at_once(tmp_path: Path, changes: dict) -> None:
    """Also where its number now belongs to another process."""
    foreign(tmp_path / "lock", another(**changes))
    assert seconds_to_enter(Lease(tmp_path / "lock", 30)) < 1


def test_a_killed_owner_that_nobody_has_waited_for_is_dead(tmp_path: Path) -> None:
    code = """
import os, sys
from pathlib import Path
from lis.lock import Lease

Lease(Path(sys.argv[1])).__enter__()
os.kill(os.getpid(), 9)
"""
    process = subprocess.Popen([sys.executable, "-c", code, str(tmp_path / "lock")])
    while not (tmp_path / "lock" / "0").exists() or Path(f"/proc/{process.pid}/stat").read_text().split()[2] != "Z":
        time.sleep(0.02)
    assert seconds_to_enter(Lease(tmp_path / "lock", 30)) < 1
    process.wait()


def test_who_was_taken_over_notices_and_leaves_the_new_owner_alone(tmp_path: Path) -> None:
    with Lease(tmp_path / "lock") as old:
        (tmp_path / "lock" / "1").write_text(owner())
        assert not old.owned
    assert (tmp_path / "lock" / "1").read_text() == owner()


def test_of_many_that_find_a_dead_owner_one_takes_over(tmp_path: Path) -> None:
    foreign(tmp_path / "lock", another(start="1"))
    test_only_one_is_inside(tmp_path)


def test_other_files_in_the_folder_do_not_matter(tmp_path: Path) -> None:
    foreign(tmp_path / "lock", "released").with_name(".nfs0001").touch()
    assert seconds_to_enter(Lease(tmp_path / "lock")) < 1


def test_a_file_of_the_name_of_a_small_two_is_no_lock(tmp_path: Path) -> None:
    foreign(tmp_path / "lock", "released").with_name("²").touch()
    assert seconds_to_enter(Lease(tmp_path / "lock")) < 1


def test_a_lock_that_was_taken_over_is_not_cleared_by_who_lost_it(tmp_path: Path) -> None:
    with Lease(tmp_path / "lock") as old:
        (tmp_path / "lock" / "1").write_text(owner())
        old.clear()
        assert (tmp_path / "lock" / "1").read_text() == owner()


def test_a_lock_of_the_same_number_made_later_is_nobody_elses(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Whoever took it over has cleared it, and yet another job has made it again."""
    with caplog.at_level(logging.INFO), Lease(tmp_path / "lock", 0.3, "pairs") as old:
        (tmp_path / "lock" / "0").unlink()
        file = tmp_path / "lock" / "0"
        file.write_text(owner())
        touched = file.stat().st_mtime_ns
        time.sleep(0.2)  # heartbeats
        assert not old.owned and file.stat().st_mtime_ns == touched
        old.clear()
    assert file.read_text() == owner()
    assert caplog.text.count("pairs: stood still, and another job has taken it over") == 1


def test_a_pause_of_the_waiting_job_is_no_silence_of_the_owner(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Simulated: the clock jumps behind a look at a lock that is touched all the time."""
    file, clock, look = foreign(tmp_path / "lock", another()), [0.0], Path.open
    watch = _Watch(30.0)
    monkeypatch.setattr("lis.lock.time.monotonic", lambda: clock[0])
    assert not watch.free(file)

    def paused(path: Path, *arguments, **options):
        stream = look(path, *arguments, **options)
        clock[0] += 3600
        return stream

    monkeypatch.setattr(Path, "open", paused)
    assert not watch.free(file)
    os.utime(file)
    assert not watch.free(file)


def test_a_lock_cleared_while_another_job_makes_its_folder_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Simulated: `mkdir` finds the folder there, and then it is gone."""
    make, calls = Path.mkdir, []

    def late(folder: Path, *arguments, **options) -> None:
        calls.append(folder)
        if len(calls) == 1:
            raise FileExistsError(folder)
        make(folder, *arguments, **options)

    monkeypatch.setattr(Path, "mkdir", late)
    assert seconds_to_enter(Lease(tmp_path / "lock", 1)) < 1 and len(calls) == 2


@pytest.mark.parametrize("content", [b"\xff\xfe\0", f"{10**30}.1.{owner().split('.', 2)[2]}".encode()])
def test_a_damaged_lock_made_every_run_on_its_store_fail(tmp_path: Path, content: bytes) -> None:
    """Text that is no UTF-8, and the number of no process: a lock of nobody known, swept after a day."""
    file = foreign(tmp_path / "lock", "")
    file.write_bytes(content)
    sweep(tmp_path / "lock")
    assert file.exists() and seconds_to_enter(Lease(tmp_path / "lock", 0.3)) >= 0.3


def test_a_lock_that_may_not_be_read_is_not_swept_simulated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Simulated: another user's; the superuser, who may run this test, reads every file."""
    file = foreign(tmp_path / "lock", RELEASED)

    def refuse(path: Path, *arguments, **options) -> str:
        raise PermissionError(path)

    monkeypatch.setattr(Path, "read_text", refuse)
    sweep(tmp_path / "lock")
    assert file.exists()


def test_a_job_waited_for_its_own_lock_where_files_are_numbered_anew_simulated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Simulated: as on some FUSE and CIFS mounts, an open file is never the same as the one of its name."""
    monkeypatch.setattr("lis.lock._is_same", lambda file, handle: False)
    with Lease(tmp_path / "lock") as lease:
        assert lease.owned
        (tmp_path / "lock" / "1").write_text(owner())
        assert not lease.owned
    assert (tmp_path / "lock" / "1").read_text() == owner()
    builds = []
    make = partial(Store(tmp_path / "store", lease=0.5).make, Recipe("stage", 1, {}), builds.append)
    thread = threading.Thread(target=make, daemon=True)
    thread.start()
    thread.join(5)
    assert not thread.is_alive() and len(builds) == 1
    assert not [path for path in (tmp_path / "store" / "locks").rglob("*") if path.is_file()]


def ended() -> str:
    """The owner that a process of this machine was."""
    code = "from lis.lock import owner; print(owner())"
    return subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.strip()


@pytest.fixture(scope="module")
def gone() -> str:
    """An owner that is gone."""
    return ended()


def test_only_a_process_that_would_be_seen_is_dead(gone: str) -> None:
    assert dead(gone) and dead(another(start="1"))
    assert dead(owner()) is False
    assert dead("") is dead("released") is dead(gone[:-1]) is dead(another(start="")) is None


def read(monkeypatch: pytest.MonkeyPatch, **answers: str | type[OSError]) -> None:
    """Simulate what files of /proc that end so say."""
    read_text, readlink = Path.read_text, Path.readlink

    def answer(path: Path):
        for end, text in answers.items():
            if path.is_relative_to("/proc") and path.name == end:
                if isinstance(text, str):
                    return text
                raise text(path)
        return None

    monkeypatch.setattr(Path, "read_text", lambda path, *a, **o: answer(path) or read_text(path, *a, **o))
    monkeypatch.setattr(Path, "readlink", lambda path: Path(answer(path) or readlink(path)))


@pytest.mark.parametrize(("known", "is_dead"), [(PermissionError, None), (None, None), (ProcessLookupError, True)])
def test_a_process_that_proc_hides_is_dead_only_if_the_system_does_not_know_it(
    known: type[OSError] | None, is_dead: bool | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Simulated: another user's, where /proc is mounted with `hidepid=2`."""
    living = owner()

    def kill(pid: int, number: int) -> None:
        if known is not None:
            raise known(pid)

    read(monkeypatch, stat=FileNotFoundError)
    monkeypatch.setattr("os.kill", kill)
    assert dead(living) is is_dead


@pytest.mark.parametrize(
    "difference",
    [
        {"boot_id": "00000000-0000-4000-8000-000000000000"},
        {"boot_id": FileNotFoundError},
        {"pid": "pid:[1]"},
        {"time": "time:[1]"},
        {"self": "1"},
    ],
    ids=["of the same name", "without /proc", "container", "time namespace", "/proc of another container"],
)
def test_a_process_on_another_machine_is_not_dead(
    difference: dict, gone: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Simulated: the same host name and number, and no process that has it here."""
    read(monkeypatch, **difference)
    assert dead(gone) is None
    foreign(tmp_path / "lock", gone)
    assert seconds_to_enter(Lease(tmp_path / "lock", 0.3)) >= 0.3


def test_an_owner_can_be_part_of_a_files_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("socket.gethostname", lambda: "a/b @ü." * 30)
    assert len(owner()) < 120 and re.fullmatch(r"[\w.-]+", owner(), re.ASCII) and dead(owner()) is False


DAYS = {"gone": (0, True), "here": (9, False), "elsewhere": (0, False), "elsewhere, for days": (2, True)}


@pytest.mark.parametrize("kind", DAYS)
def test_what_is_left_over_is_swept(kind: str, gone: str, tmp_path: Path) -> None:
    days, is_abandoned = DAYS[kind]
    text = gone if kind == "gone" else owner() if kind == "here" else another(machine="elsewhere")
    file = foreign(tmp_path / "lock", text)
    then = time.time() - days * 86400
    os.utime(file, (then, then))
    assert abandoned(text, file) == is_abandoned
    sweep(tmp_path / "lock")
    assert (tmp_path / "lock").exists() != is_abandoned


def test_a_released_lock_and_an_empty_one_are_swept(tmp_path: Path) -> None:
    foreign(tmp_path / "lock", RELEASED)
    (tmp_path / "empty").mkdir()
    for folder in (tmp_path / "lock", tmp_path / "empty", tmp_path / "none"):
        sweep(folder)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("apart", [-3600.0, 3600.0], ids=["behind", "ahead"])
def test_the_clock_of_another_machine_matters_to_no_lock_simulated(
    apart: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Simulated: its touches are an hour off. While it lives it is waited for; once it is silent, for a lease."""
    touch = os.utime

    def off(target: int | Path) -> None:
        touch(target, (time.time() + apart, time.time() + apart))

    monkeypatch.setattr("lis.lock.os.utime", off)
    monkeypatch.setattr("lis.lock.owner", lambda: another(machine="elsewhere"))
    owner_there, waiting = Lease(tmp_path / "lock", 0.6), Lease(tmp_path / "lock", 0.6)
    assert owner_there.attempt()
    end = time.monotonic() + 1.5
    while time.monotonic() < end:
        assert not waiting.attempt(), "a living owner was taken over"
        time.sleep(0.05)
    owner_there._end_heartbeat()
    assert not waiting.attempt()
    with waiting:
        assert waiting.owned and not owner_there.owned
    os.close(owner_there._handle)


@pytest.mark.parametrize("apart", [-3600.0, 3600.0], ids=["behind", "ahead"])
def test_the_clock_of_another_machine_makes_nothing_abandoned(apart: float, tmp_path: Path) -> None:
    text = another(machine="elsewhere")
    file = foreign(tmp_path / "lock", text)
    os.utime(file, (time.time() + apart, time.time() + apart))
    assert not abandoned(text, file)
    sweep(tmp_path / "lock")
    assert file.exists()


def test_an_owner_with_another_version_is_refused_by_name_where_one_is_asked_for(tmp_path: Path) -> None:
    foreign(tmp_path / "lock", f"{another(machine='elsewhere')}\n0.0.1")
    assert not Lease(tmp_path / "lock").attempt()
    for version in ("0.0.1", None):
        assert not Lease(tmp_path / "lock", version=version).attempt()
    with pytest.raises(
        ValueError, match=r"pairs is being made by lis 0\.0\.1 \(.*elsewhere\), and this is lis 1\.0: expected"
    ):
        Lease(tmp_path / "lock", label="pairs", version="1.0").attempt()


@pytest.mark.parametrize("step", ["listing", "taking", "reading"])
def test_a_lock_that_another_machine_has_just_cleared_ended_a_run_simulated(
    step: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Simulated: NFS says once that the handle of a file or folder is stale."""
    foreign(tmp_path / "lock", RELEASED)
    name, of = {"listing": ("iterdir", Path), "taking": ("open", os), "reading": ("open", Path)}[step]
    whole, refused = getattr(of, name), []

    def stale(path: Path, *arguments: object, **options: object) -> object:
        if not refused and Path(path).is_relative_to(tmp_path):
            refused.append(path)
            raise OSError(errno.ESTALE, os.strerror(errno.ESTALE), str(path))
        return whole(path, *arguments, **options)

    monkeypatch.setattr(of, name, stale)
    assert seconds_to_enter(Lease(tmp_path / "lock", 30)) < 5 and refused
