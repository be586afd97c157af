"""The lease lock: one owner at a time, taken over from the dead, the silent and the finished."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from lis.lock import Lease, machine


def owner(**changes: object) -> str:
    """What this living process writes into its lock."""
    fields = Path(f"/proc/{os.getpid()}/stat").read_text().rpartition(")")[2].split()
    return json.dumps({"machine": machine(), "pid": os.getpid(), "start": fields[19]} | changes)


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
    "on another machine": lambda: owner(machine="elsewhere", pid=1),
    "alive and standing still": owner,
    "killed before it wrote": lambda: "",
    "killed while it wrote": lambda: '{"mach',
}


@pytest.mark.parametrize("kind", SILENT)
def test_a_silent_owner_is_taken_over_after_a_lease(tmp_path: Path, kind: str) -> None:
    foreign(tmp_path / "lock", SILENT[kind]())
    assert 0.3 <= seconds_to_enter(Lease(tmp_path / "lock", 0.3)) < 3


@pytest.mark.parametrize("changes", [{"start": "1"}, {"pid": 2**22 + 1}])
def test_a_dead_owner_on_this_machine_is_taken_over_at_once(tmp_path: Path, changes: dict) -> None:
    """Also where its number now belongs to another process."""
    foreign(tmp_path / "lock", owner(**changes))
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
    foreign(tmp_path / "lock", owner(start="1"))
    test_only_one_is_inside(tmp_path)


def test_other_files_in_the_folder_do_not_matter(tmp_path: Path) -> None:
    foreign(tmp_path / "lock", "released").with_name(".nfs0001").touch()
    assert seconds_to_enter(Lease(tmp_path / "lock")) < 1
