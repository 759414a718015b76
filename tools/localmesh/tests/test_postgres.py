"""PostgreSQL out of the wheel."""

import os
import shutil
import tempfile
from pathlib import Path

import asyncpg
import psutil
import pytest

from localmesh import places
from localmesh.parts.postgres import Postgres, scram_verifier


async def _value(url: str, query: str):
    connection = await asyncpg.connect(url.replace("+asyncpg", ""))
    try:
        return await connection.fetchval(query)
    finally:
        await connection.close()


async def test_each_database_is_for_its_own_role(tmp_path):
    async with Postgres(tmp_path / "postgres") as postgres:
        mine, other = [await postgres.create_database(name) for name in ("mine", "other")]
        assert await _value(mine, "SELECT current_user") == "mine"
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await _value(f"{other.rpartition('/')[0]}/mine", "SELECT 1")


async def test_a_wrong_password_is_refused(tmp_path):
    async with Postgres(tmp_path / "postgres") as postgres:
        url = await postgres.create_database("mine")
        password = url.split(":")[2].partition("@")[0]
        with pytest.raises(asyncpg.InvalidPasswordError):
            await _value(url.replace(password, "guess"), "SELECT 1")
        assert password not in (tmp_path / "postgres" / "postgres.log").read_text()


async def test_nothing_is_left_but_what_is_to_be_kept(tmp_path):
    keeping = Postgres(tmp_path / "postgres", keep=True)
    assert not keeping.has_data
    async with keeping as postgres:
        url = await postgres.create_database("mine")
        await _value(url, "CREATE TABLE kept AS SELECT 42 AS answer")
        pid = postgres.unit.pid
    assert not psutil.pid_exists(pid)
    assert keeping.has_data
    async with Postgres(tmp_path / "postgres") as again:
        assert await _value(await again.create_database("mine"), "SELECT answer FROM kept") == 42
    assert not keeping.has_data
    async with Postgres(tmp_path / "postgres") as empty:
        url = await empty.create_database("mine")
        assert await _value(url, "SELECT to_regclass('kept')") is None


async def test_a_copy_of_the_data_is_no_running_server(tmp_path):
    async with Postgres(tmp_path / "postgres") as original:
        copy = Postgres(tmp_path / "copy")
        await _value(await original.create_database("mine"), "SELECT 1")
        shutil.copytree(original._data, copy._data)
        owner = original._data.stat()
        for path in (copy._data, *copy._data.rglob("*")):
            os.chown(path, owner.st_uid, owner.st_gid)
        shutil.copy(tmp_path / "postgres" / "superuser-password", tmp_path / "copy")
        assert copy.has_data
        async with copy:
            assert await _value(await copy.create_database("mine"), "SELECT 2") == 2
        assert await _value(await original.create_database("mine"), "SELECT 1") == 1


@pytest.fixture
def cache(monkeypatch):
    """A folder of its own for what stands outside of root's home; gone at the end."""
    folder = Path(tempfile.mkdtemp(dir="/tmp"))
    folder.chmod(0o711)
    monkeypatch.setattr(places, "ROOT_CACHE", folder / "meshwork")
    yield folder
    shutil.rmtree(folder)


@pytest.mark.parametrize("umask", [0o077, 0o027, 0o000])
async def test_it_starts_with_any_umask(tmp_path, cache, umask):
    before = os.umask(umask)
    try:
        async with Postgres(tmp_path / "postgres") as postgres:
            assert await _value(await postgres.create_database("mine"), "SELECT 1") == 1
    finally:
        os.umask(before)


async def test_no_password_is_on_a_command_line(tmp_path):
    async with Postgres(tmp_path / "postgres") as postgres:
        password = (tmp_path / "postgres" / "superuser-password").read_text()
        assert not any(password in argument for argument in psutil.Process(postgres.unit.pid).cmdline())


async def test_a_name_that_is_no_name_is_refused(tmp_path):
    with pytest.raises(ValueError, match="is no name for a database"):
        await Postgres(tmp_path / "postgres").create_database('x"; DROP ROLE meshwork; --')


def test_a_verifier_does_not_hold_the_password():
    assert "opensesame" not in scram_verifier("opensesame")
    assert scram_verifier("opensesame") != scram_verifier("opensesame")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root's data stand elsewhere")
def test_data_of_a_folder_that_was_removed_are_removed(tmp_path):
    gone, there = tmp_path / "gone", tmp_path / "there"
    homes = []
    for folder in (gone, there):
        folder.mkdir()
        homes.append(places.reachable_home(folder))
    gone.rmdir()
    Postgres(there).discard()
    assert not homes[0].exists()
