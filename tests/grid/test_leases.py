"""Leases: one holder at a time, whoever is killed or paused."""

import json
import multiprocessing
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import pytest

from scaling.grid.leases import (
    HELD_ELSEWHERE,
    Heartbeat,
    Holder,
    Lease,
    LeaseLostError,
    file_system_time,
    find_holder,
    take_lease,
)

CELLS, PROCESSES = 25, 8


def holder(dead_after_seconds: float = 60.0) -> Holder:
    return Holder.here("cpu", 1, dead_after_seconds)


def stranger(dead_after_seconds: float = 60.0) -> Holder:
    """Someone on another machine, whose processes cannot be seen from here."""
    return replace(holder(dead_after_seconds), host="elsewhere", machine="another boot:1")


def age(path: Path, seconds: float) -> None:
    then = path.stat().st_mtime - seconds
    os.utime(path, (then, then))


def test_a_living_holder_keeps_its_cell_and_a_silent_one_is_followed(tmp_path: Path) -> None:
    now = file_system_time(tmp_path)
    first = take_lease(tmp_path, stranger(), now)
    assert first is not None
    assert first.is_held
    assert take_lease(tmp_path, holder(), now) is None
    age(first.path, 59)
    assert take_lease(tmp_path, holder(), now) is None
    first.renew()
    assert take_lease(tmp_path, holder(), now) is None
    age(first.path, 61)
    second = take_lease(tmp_path, holder(), now)
    assert second is not None
    assert second.is_held
    assert not first.is_held
    with pytest.raises(LeaseLostError):
        first.renew()
    first.release()  # of one that was lost changes nothing
    assert second.is_held
    assert find_holder(tmp_path, now).lives
    assert [file.name for file in tmp_path.iterdir()] == [second.path.name]


def test_a_released_lease_is_free_at_once_and_says_who_had_it(tmp_path: Path) -> None:
    now = file_system_time(tmp_path)
    first = take_lease(tmp_path, stranger(), now)
    assert first is not None
    first.release()
    found = find_holder(tmp_path, now)
    assert (found.lives, found.silent_seconds) == (False, None)
    assert found.holder is not None
    assert found.holder.host == "elsewhere"
    second = take_lease(tmp_path, holder(), now)
    assert second is not None
    second.remove()
    assert list(tmp_path.iterdir()) == []


def between_looking_and_making(monkeypatch: pytest.MonkeyPatch, what: Callable[[], None]) -> None:
    """Let something happen just before the next lease file is made."""
    make = os.open

    def later(*arguments: Any) -> int:
        monkeypatch.undo()
        what()
        return make(*arguments)

    monkeypatch.setattr("scaling.grid.leases.os.open", later)


def test_of_two_that_find_a_cell_free_one_gets_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now, taken = file_system_time(tmp_path), list[Lease | None]()
    for _ in range(2):  # free since no one had it, and since its holder is silent
        between_looking_and_making(monkeypatch, lambda: taken.append(take_lease(tmp_path, stranger(), now)))
        assert take_lease(tmp_path, holder(), now) is None
        lease = taken[-1]
        assert lease is not None
        assert lease.is_held
        age(lease.path, 100)


def test_who_is_late_does_not_take_a_cell_from_a_later_holder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process sleeps between finding holder 1 dead and making number 2; meanwhile 2, 3 and 4 came."""
    now, taken = file_system_time(tmp_path), list[Lease]()

    def follow(times: int) -> None:
        for _ in range(times):
            lease = take_lease(tmp_path, stranger(), now)
            assert lease is not None
            age(lease.path, 100)
            taken.append(lease)

    follow(1)
    between_looking_and_making(monkeypatch, lambda: follow(3))
    assert take_lease(tmp_path, holder(), now) is None
    assert [lease.number for lease in taken] == [1, 2, 3, 4]
    assert taken[-1].is_held
    assert [file.name for file in tmp_path.iterdir()] == ["lease-4.json"]


def test_a_process_that_is_gone_is_followed_at_once_on_its_machine(tmp_path: Path) -> None:
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    now = file_system_time(tmp_path)
    gone = replace(holder(), runner=child.pid)
    assert take_lease(tmp_path, gone, now) is not None
    second = take_lease(tmp_path, replace(gone, machine="another boot:1"), now)
    assert second is not None  # taken over, since number 1 was of this machine
    assert take_lease(tmp_path, holder(), now) is None  # number 2 is of another, and only silence would tell
    handed = replace(second, holder=gone).hand_to(os.getpid())
    assert find_holder(tmp_path, now).holder == handed.holder
    assert take_lease(tmp_path, holder(), now) is None  # its worker lives, the runner does not


@pytest.mark.parametrize("content", ["", "{", "[]", '{"host": "a", "shoe_size": 42}'])
def test_an_unreadable_lease_counts_by_its_time(tmp_path: Path, content: str) -> None:
    path = tmp_path / "lease-7.json"
    path.write_text(content)
    now = file_system_time(tmp_path)
    assert take_lease(tmp_path, holder(), now) is None
    age(path, 61)
    lease = take_lease(tmp_path, holder(), now)
    assert lease is not None
    assert lease.number == 8
    assert json.loads(lease.path.read_text())["runner"] == os.getpid()


def compete(folder: Path, seed: int, dead_after_seconds: float) -> None:
    """Do every cell that is free: note that we are inside, work, and leave a record."""
    dice = random.Random(seed)
    while not all((folder / str(cell) / "record").exists() for cell in range(CELLS)):
        for cell in dice.sample(range(CELLS), CELLS):
            place = folder / str(cell)
            if (place / "record").exists():
                continue
            now = file_system_time(folder)
            time.sleep(dice.choice([0, 0, 0.002]))
            lease = take_lease(place, stranger(dead_after_seconds), now)
            if lease is None:
                continue
            if (place / "record").exists():
                lease.remove()
                continue
            with (folder / "log").open("a") as log:
                log.write(f"{cell} {os.getpid()} begins\n")
                log.flush()
                for _ in range(3):
                    time.sleep(dice.uniform(0, 0.01))
                    lease.renew()
                log.write(f"{cell} {os.getpid()} ends\n")
            (place / "record").write_text(str(os.getpid()))
            lease.remove()


def competitors(folder: Path, seeds: range, dead_after_seconds: float) -> list[BaseProcess]:
    context = multiprocessing.get_context("fork")
    processes: list[BaseProcess] = [
        context.Process(target=compete, args=(folder, seed, dead_after_seconds)) for seed in seeds
    ]
    for process in processes:
        process.start()
    return processes


def begun(folder: Path) -> list[list[str]]:
    return [line.split() for line in (folder / "log").read_text().splitlines()]


def test_of_many_that_compete_each_cell_is_done_once(tmp_path: Path) -> None:
    for cell in range(CELLS):
        (tmp_path / str(cell)).mkdir()
    for process in competitors(tmp_path, range(PROCESSES), dead_after_seconds=60):
        process.join(120)
        assert process.exitcode == 0
    lines = begun(tmp_path)
    assert Counter(line[0] for line in lines if line[2] == "begins") == {str(cell): 1 for cell in range(CELLS)}
    assert Counter(line[0] for line in lines if line[2] == "ends") == {str(cell): 1 for cell in range(CELLS)}
    assert not list(tmp_path.glob("*/lease-*"))


def test_killed_holders_are_replaced_and_no_two_work_at_a_time(tmp_path: Path) -> None:
    for cell in range(CELLS):
        (tmp_path / str(cell)).mkdir()
    dice, killed = random.Random(0), set[str]()
    processes = competitors(tmp_path, range(PROCESSES), dead_after_seconds=3.0)
    for seed in range(PROCESSES, PROCESSES + 12):
        time.sleep(dice.uniform(0, 0.1))
        victim = dice.choice([process for process in processes if process.is_alive()] or processes)
        victim.kill()
        killed.add(str(victim.pid))
        processes += competitors(tmp_path, range(seed, seed + 1), dead_after_seconds=3.0)
    for process in processes:
        process.join(120)
    holders: dict[str, str] = {}
    for cell, process, what in begun(tmp_path):
        inside = holders.get(cell)
        if what == "begins":
            assert inside is None or inside in killed, f"{process} began {cell} while {inside} was at work"
            holders[cell] = process
        else:
            assert inside == process
            del holders[cell]
    assert all((tmp_path / str(cell) / "record").exists() for cell in range(CELLS))
    ended = Counter(line[0] for line in begun(tmp_path) if line[2] == "ends")
    assert set(ended) == {str(cell) for cell in range(CELLS)}


def work_and_write(folder: Path) -> None:
    lease = take_lease(folder, stranger(0.6), file_system_time(folder))
    assert lease is not None
    heartbeat = Heartbeat(lease)
    heartbeat.start()
    (folder / "begun").touch()
    for _ in range(10_000):
        time.sleep(0.01)
        heartbeat.check()
        (folder / "progress").write_text(str(time.time()))
    (folder / "record").touch()


def test_a_paused_holder_keeps_its_cell_until_it_is_silent_and_then_writes_nothing(tmp_path: Path) -> None:
    process = multiprocessing.get_context("fork").Process(target=work_and_write, args=(tmp_path,))
    process.start()
    while not (tmp_path / "progress").exists():
        time.sleep(0.01)
    for _ in range(20):  # two lives: it renews
        time.sleep(0.06)
        assert take_lease(tmp_path, holder(), file_system_time(tmp_path)) is None
    assert process.pid is not None
    os.kill(process.pid, signal.SIGSTOP)
    lease = None
    while lease is None:
        time.sleep(0.05)
        lease = take_lease(tmp_path, holder(), file_system_time(tmp_path))
    (tmp_path / "progress").write_text("of the new holder")
    os.kill(process.pid, signal.SIGCONT)
    process.join(30)
    assert process.exitcode == HELD_ELSEWHERE
    assert lease.is_held
    assert not (tmp_path / "record").exists()
