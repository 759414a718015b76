"""Processes end when they should, whatever happens to us."""

import asyncio
import os
import shutil
import signal
import subprocess
import sys
import time

import psutil
import pytest

from localmesh.birth import birth_of
from localmesh.failure import MeshError
from localmesh.ledger import Ledger
from localmesh.process import Command, Process, run_to_end


def _python(script: str, **fields) -> Command:
    return Command(name="python", argv=(sys.executable, "-c", script), env=dict(os.environ), **fields)


async def _until(condition, within=10.0):
    give_up = time.monotonic() + within
    while not condition():
        assert time.monotonic() < give_up, "it did not happen in time"
        await asyncio.sleep(0.02)


async def test_output_goes_to_the_log(tmp_path):
    log = tmp_path / "log"
    await run_to_end(_python("print('hello')"), log)
    assert log.read_text() == "hello\n"


async def test_a_failing_command_says_its_last_words(tmp_path):
    with pytest.raises(MeshError, match="python failed with exit status 3") as raised:
        await run_to_end(_python("import sys; print('no disk'); sys.exit(3)"), tmp_path / "log")
    assert raised.value.detail == "no disk"


async def test_a_command_that_never_ends_is_ended(tmp_path):
    with pytest.raises(MeshError, match="did not end within"):
        await run_to_end(_python("import time; time.sleep(60)"), tmp_path / "log", within=0.5)


async def test_a_program_that_is_not_there_is_named(tmp_path):
    command = Command(name="ghost", argv=("/nothing/here",), env={})
    with pytest.raises(MeshError) as raised:
        await run_to_end(command, tmp_path / "log")
    assert "cannot run /nothing/here" in raised.value.detail


async def test_one_that_ignores_sigterm_is_killed_with_its_group(tmp_path):
    script = (
        "import signal, subprocess, sys, time; signal.signal(signal.SIGTERM, signal.SIG_IGN);"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)']);"
        "print(child.pid, flush=True); time.sleep(60)"
    )
    log = tmp_path / "log"
    process = await Process.spawn(_python(script, stop_within=0.3), log)
    await _until(lambda: log.read_text().endswith("\n"))
    child = int(log.read_text())
    await process.stop()
    assert process.returncode == -signal.SIGKILL
    await _until(lambda: _is_gone(child))


async def test_the_ledger_knows_those_that_run(tmp_path):
    path = tmp_path / "processes.json"
    process = await Process.spawn(_python("import time; time.sleep(60)"), tmp_path / "log", Ledger(path))
    assert f'"pid": {process.pid}' in path.read_text()
    await process.stop()
    assert str(process.pid) not in path.read_text()


async def test_one_that_cannot_be_noted_does_not_run(tmp_path):
    ledger = Ledger(tmp_path / "not there" / "processes.json")
    others = psutil.Process().children()  # of fixtures
    with pytest.raises(FileNotFoundError):
        await Process.spawn(_python("import time; time.sleep(60)"), tmp_path / "log", ledger)
    assert set(psutil.Process().children()) <= set(others)


async def test_the_end_of_one_is_told_while_it_cannot_be_written_down(tmp_path):
    path = tmp_path / "ledger" / "processes.json"
    path.parent.mkdir()
    ledger = Ledger(path)
    process = await Process.spawn(_python("raise SystemExit(3)"), tmp_path / "log", ledger)
    path.parent.rename(tmp_path / "away")
    assert await process.wait() == 3
    (tmp_path / "away").rename(path.parent)
    assert ledger.end_leftovers() == []


def test_leftovers_are_ended(tmp_path):
    argv = [sys.executable, "-c", "import time; time.sleep(60)"]
    with subprocess.Popen(argv, process_group=0) as left:  # noqa: S603
        while not psutil.Process(left.pid).cmdline():  # for a moment a new program has none
            time.sleep(0.001)
        path = tmp_path / "processes.json"
        Ledger(path).note("sleeper", left.pid, argv)
        assert Ledger(path).end_leftovers() == ["sleeper"]
    assert not psutil.pid_exists(left.pid)
    assert not path.exists()


async def test_a_process_that_got_the_number_of_one_of_ours_is_left_alone(tmp_path):
    path = tmp_path / "processes.json"
    process = await Process.spawn(_python("import time; time.sleep(60)"), tmp_path / "log", Ledger(path))
    try:
        started = birth_of(process.pid)
        assert started in path.read_text()
        path.write_text(path.read_text().replace(started, f"{started}1"))
        assert Ledger(path).end_leftovers() == []
        assert process.returncode is None
    finally:
        await process.stop()


async def test_a_copied_folder_has_no_processes_and_a_moved_one_has_its_own(tmp_path):
    folder, copy, moved, link = (tmp_path / name for name in ("folder", "copy", "moved", "link"))
    folder.mkdir()
    process = await Process.spawn(
        _python("import time; time.sleep(60)"), tmp_path / "log", Ledger(folder / "processes.json")
    )
    try:
        shutil.copytree(folder, copy)
        assert Ledger(copy / "processes.json").end_leftovers() == []
        assert process.returncode is None

        folder.rename(moved)
        shutil.copytree(moved, folder)  # in its place
        assert Ledger(folder / "processes.json").end_leftovers() == []
        assert process.returncode is None

        link.symlink_to(moved)
        assert Ledger(link / "processes.json").end_leftovers() == ["python"]
    finally:
        await process.stop()


def test_a_birth_is_told_apart_from_a_later_one_and_is_always_the_same():
    assert birth_of(os.getpid()) == birth_of(os.getpid())
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as later:
        assert birth_of(later.pid) == birth_of(later.pid) != birth_of(os.getpid())
        later.communicate(b"\n")
        with pytest.raises(psutil.NoSuchProcess):
            birth_of(later.pid)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux tells a process of its parent's death")
async def test_a_process_does_not_outlive_a_parent_that_is_killed(tmp_path):
    script = (
        "import asyncio, os, sys; from pathlib import Path; from localmesh.process import Command, Process\n"
        "async def main():\n"
        "    command = Command(name='sleep', argv=(sys.executable, '-c', 'import time; time.sleep(60)'), env={})\n"
        f"    process = await Process.spawn(command, Path({str(tmp_path / 'log')!r}))\n"
        "    print(process.pid, flush=True); await process.wait()\n"
        "asyncio.run(main())"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, env=environment) as parent:  # noqa: ASYNC220, S603
        assert parent.stdout is not None
        child = int(await asyncio.to_thread(parent.stdout.readline))
        assert psutil.pid_exists(child)
        parent.kill()
    await _until(lambda: _is_gone(child))


def _is_gone(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True
