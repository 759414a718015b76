"""The service as a process of its own: how it starts, what it says when it cannot, how it stops."""

import json
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import grpc
import pytest

from grpc_common.token_maker import TokenMaker
from items import main, migrate
from localmesh import child, ports
from localmesh.parts.postgres import Postgres
from meshwork.items.v1 import items_service_pb2 as pb
from meshwork.items.v1.items_service_pb2_grpc import ItemServiceStub

if TYPE_CHECKING:  # there is no such class at run time
    from meshwork.items.v1.items_service_pb2_grpc import ItemServiceAsyncStub as Stub

SERVICE = "meshwork.items.v1.ItemService"


@asynccontextmanager
async def serving(target: str, folder: Path, **environment: str) -> AsyncIterator["Stub"]:
    """Runs the service at `target`."""
    async with child.serving(main.__name__, target, folder, **environment) as channel:
        yield ItemServiceStub(channel)


@pytest.fixture
def port() -> int:
    return ports.free_port()


@pytest.fixture
def short_folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as short:  # a socket's path has at most 107 bytes
        yield Path(short)


async def test_alone_it_makes_its_database_and_finds_it_again(tmp_path: Path, port: int) -> None:
    alone = partial(serving, f"127.0.0.1:{port}", tmp_path, ITEMS_GRPC__PORT=str(port))
    async with alone() as items:
        item = await items.CreateItem(pb.CreateItemRequest(name="Lamp", sku="L-1"))

    assert (tmp_path / "items.db").is_file()
    async with alone() as items:
        assert await items.GetItem(pb.GetItemRequest(id=item.id)) == item


async def test_on_postgresql_with_its_url_in_a_file_and_the_migrations_done_before(
    tmp_path: Path, short_folder: Path, postgres: Postgres
) -> None:
    issuer = TokenMaker()
    jwks = tmp_path / "jwks.json"
    jwks.write_text(json.dumps(issuer.jwks()))
    secrets = tmp_path / "secrets"
    secrets.mkdir()
    (secrets / "items_database_url").write_text(await postgres.create_database("alone"))
    environment = {
        "ITEMS_SECRETS_DIR": str(secrets),
        "ITEMS_MIGRATE_ON_START": "false",
        "ITEMS_GRPC__UNIX_SOCKET": str(short_folder / "items.sock"),
        "ITEMS_AUTH__JWKS": str(jwks),
        "ITEMS_AUTH__ISSUER": issuer.issuer,
        "ITEMS_AUTH__AUDIENCE": issuer.audience,
    }

    status, lines = await child.end_of(await child.start(main.__name__, tmp_path, **environment))
    assert status == 1
    assert child.reason(lines) == "DatabaseError: the database lacks migrations: run python -m items.migrate first"

    assert await child.end_of(await child.start(migrate.__name__, tmp_path, **environment)) == (0, [])
    editor = (("authorization", f"Bearer {issuer.token(roles=['editor'])}"),)
    async with serving(f"unix:{short_folder}/items.sock", tmp_path, **environment) as items:
        item = await items.CreateItem(pb.CreateItemRequest(name="Lamp", sku="L-1"), metadata=editor)
        assert await items.GetItem(pb.GetItemRequest(id=item.id), metadata=editor) == item
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await items.GetItem(pb.GetItemRequest(id=item.id))
        assert refused.value.code() is grpc.StatusCode.UNAUTHENTICATED
    assert not (tmp_path / "items.db").exists()


async def test_a_watch_does_not_hold_up_the_stop(tmp_path: Path, port: int) -> None:
    """It ends at once, with the reason and after a token to go on from, and not when the time to drain is over."""
    environment = {"ITEMS_GRPC__PORT": str(port), "ITEMS_GRPC__DRAIN_SECONDS": "30"}
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        async with serving(f"127.0.0.1:{port}", tmp_path, **environment):
            watch = ItemServiceStub(channel).WatchItems(pb.WatchItemsRequest())
            assert (await watch.read()).resume_token
            began = time.monotonic()
        assert time.monotonic() - began < 10
        assert await watch.code() is grpc.StatusCode.UNAVAILABLE
        assert "watch on from the last resume token" in str(await watch.details())


async def test_its_health_follows_the_database_without_a_restart(
    tmp_path: Path, port: int, own_postgres: Postgres
) -> None:
    target = f"127.0.0.1:{port}"
    async with own_postgres:
        url = await own_postgres.create_database("items")
        async with (
            serving(target, tmp_path, ITEMS_GRPC__PORT=str(port), ITEMS_DATABASE_URL=url) as items,
            grpc.aio.insecure_channel(target) as channel,
        ):
            item = await items.CreateItem(pb.CreateItemRequest(name="Lamp", sku="L-1"))
            await own_postgres.stop()
            await child.health_is(child.NOT_SERVING, channel, SERVICE)
            with pytest.raises(grpc.aio.AioRpcError) as failed:
                await items.GetItem(pb.GetItemRequest(id=item.id))
            assert failed.value.code() is grpc.StatusCode.UNAVAILABLE

            await own_postgres.start()
            await child.health_is(child.SERVING, channel, SERVICE)
            assert await items.GetItem(pb.GetItemRequest(id=item.id)) == item


@pytest.mark.parametrize("migrate_on_start", ["true", "false"])
@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("postgresql+asyncpg://items:hunter2@127.0.0.1:1/items", "postgresql+asyncpg://items@127.0.0.1:1/items"),
        ("postgresql+asyncpg://127.0.0.1:1/items?password=hunter2", "postgresql+asyncpg://127.0.0.1:1/items"),
        ("sqlite+aiosqlite:////nowhere/items.db", "sqlite+aiosqlite:////nowhere/items.db"),
    ],
)
async def test_an_unreachable_database_is_told_in_one_line_without_its_password(
    tmp_path: Path, url: str, shown: str, migrate_on_start: str
) -> None:
    process = await child.start(
        main.__name__, tmp_path, ITEMS_DATABASE_URL=url, ITEMS_MIGRATE_ON_START=migrate_on_start
    )

    status, lines = await child.end_of(process)

    assert status == 1
    assert len(lines) == 1
    assert f"cannot connect to the database {shown}: " in child.reason(lines)
    assert "hunter2" not in lines[0]


async def test_a_wrong_password_is_told_without_it(tmp_path: Path, postgres: Postgres) -> None:
    url = await postgres.create_database("locked")
    name, rest = url.split("locked:")
    wrong = f"{name}locked:hunter2@{rest.split('@')[1]}"

    status, lines = await child.end_of(await child.start(main.__name__, tmp_path, ITEMS_DATABASE_URL=wrong))

    assert status == 1
    assert "password authentication failed" in child.reason(lines)
    assert "hunter2" not in "".join(lines)


async def test_out_of_loopback_an_issuer_of_tokens_is_demanded(tmp_path: Path, short_folder: Path) -> None:
    status, lines = await child.end_of(
        await child.start(main.__name__, tmp_path, ITEMS_GRPC__UNIX_SOCKET=str(short_folder / "s"))
    )

    assert status == 2
    assert len(lines) == 1
    assert "anybody could call: set AUTH__JWKS" in lines[0]


async def test_a_misspelt_setting_is_told_with_the_one_that_was_meant(tmp_path: Path) -> None:
    status, lines = await child.end_of(await child.start(main.__name__, tmp_path, ITEMS_MIGRATE_AT_START="false"))

    assert status == 2
    assert lines == ["ITEMS_MIGRATE_AT_START is not a setting of this service; did you mean ITEMS_MIGRATE_ON_START?"]
