"""Valkey out of the wheel."""

import psutil
import pytest
from redis.asyncio import Redis
from redis.exceptions import AuthenticationError, NoPermissionError

from localmesh.parts.valkey import SUPERUSER, Valkey


async def test_each_user_has_keys_of_its_own(tmp_path):
    async with (
        Valkey(tmp_path / "valkey", users=["items", "auth"]) as valkey,
        Redis.from_url(valkey.url("items")) as items,
        Redis.from_url(valkey.url("auth")) as auth,
    ):
        await items.set("items:1", "lamp")
        assert await items.get("items:1") == b"lamp"
        assert await items.eval("return redis.call('GET', KEYS[1])", 1, "items:1") == b"lamp"
        with pytest.raises(NoPermissionError):
            await auth.get("items:1")
        for forbidden in (items.flushall, items.config_get, items.keys, items.acl_list):
            with pytest.raises(NoPermissionError):
                await forbidden()


async def test_a_key_can_be_read_by_many_and_written_by_one(tmp_path):
    shared = "meshwork:revocations"
    valkey = Valkey(tmp_path / "v", users=["items", "auth"], readers={shared: ["items"]}, writers={shared: ["auth"]})
    async with valkey, Redis.from_url(valkey.url("items")) as items, Redis.from_url(valkey.url("auth")) as auth:
        entry = await auth.xadd(shared, {"id": "1"})
        assert await items.xrange(shared) == [(entry, {b"id": b"1"})]
        assert await items.xread({shared: "0"}, block=10)
        for forbidden in (
            lambda: items.xadd(shared, {"id": "2"}),
            lambda: items.xtrim(shared, maxlen=0),
            lambda: items.delete(shared),
            lambda: items.rename(shared, "items:mine"),
            lambda: items.eval("return redis.call('DEL', KEYS[1])", 1, shared),
            lambda: items.xread({"meshwork:other": "0"}),
        ):
            with pytest.raises(NoPermissionError):
                await forbidden()
        assert await auth.xtrim(shared, minid="9999999999999", approximate=False) == 1


@pytest.mark.parametrize("user", ["items", "default", SUPERUSER])
async def test_without_the_password_nobody_gets_in(tmp_path, user):
    async with Valkey(tmp_path / "valkey", users=["items"]) as valkey:
        for url in (f"redis://{user}:guess@{valkey.address}/0", f"redis://{valkey.address}/0"):
            async with Redis.from_url(url) as client:
                with pytest.raises(AuthenticationError):
                    await client.ping()


async def test_no_password_is_in_the_process_list_the_files_or_the_log(tmp_path):
    async with Valkey(tmp_path / "valkey", users=["items"]) as valkey:
        passwords = [valkey.url(user).split(":")[2].partition("@")[0] for user in ("items", SUPERUSER)]
        process = psutil.Process(valkey.unit.pid)
        seen = [*process.cmdline(), *process.environ().values()]
        seen += [path.read_text() for path in (tmp_path / "valkey").iterdir()]
        assert not any(password in text for password in passwords for text in seen)
    assert (tmp_path / "valkey" / "valkey.conf").stat().st_mode & 0o077 == 0


async def test_it_listens_on_loopback_only_and_is_gone_at_the_end(tmp_path):
    async with Valkey(tmp_path / "valkey") as valkey:
        process = psutil.Process(valkey.unit.pid)
        assert [tuple(each.laddr) for each in process.net_connections("inet") if each.status == "LISTEN"] == [
            ("127.0.0.1", valkey.port)
        ]
    assert not process.is_running()


async def test_after_a_restart_the_same_urls_serve_and_nothing_is_kept(tmp_path):
    valkey = Valkey(tmp_path / 'a "folder"', users=["items"])
    async with valkey, Redis.from_url(valkey.url("items")) as items:
        await items.set("items:1", "lamp")
    async with valkey, Redis.from_url(valkey.url("items")) as items:
        assert await items.get("items:1") is None


def test_a_name_that_is_no_name_is_refused(tmp_path):
    with pytest.raises(ValueError, match="is no name for a user"):
        Valkey(tmp_path / "valkey", users=["items on nopass"])
