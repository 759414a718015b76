"""What is kept of users, on PostgreSQL and on SQLite, and what is told of it."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from people import NOW, a_user, an_admin, happened
from pydantic import SecretStr
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine
from told import told

from auth.audit import Kind
from auth.family import Family
from auth.repository import Users
from auth.sql_families import SqlFamilies
from auth.sql_users import SqlUsers
from auth.user import ADMIN, User
from grpc_common.database.engine import Limits, open_engine
from grpc_common.errors import (
    AbortedError,
    ConflictError,
    DatabaseError,
    ExternalServiceError,
    NotFoundError,
    PreconditionError,
)
from grpc_common.etag import etag_of

SECOND = timedelta(seconds=1)
ROLES = happened(Kind.ROLES_CHANGED)
DISABLED = happened(Kind.USER_DISABLED)
OTHER = SecretStr("$argon2id$other")


@pytest.fixture
def users(engine: AsyncEngine) -> Users:
    return SqlUsers(engine)


async def added(users: Users, *several: User) -> Sequence[User]:
    for user in several:
        await users.add(user, happened(Kind.USER_CREATED, user.id))
    return several


class TestAdding:
    @pytest.mark.parametrize(
        "changes",
        [
            {},
            {"roles": frozenset({"admin", "auditor", "zz-9_"}), "disabled": True},
            {"roles": frozenset({"a", "ab", "administrator"})},
            {"username": "0" * 64, "id": "é" * 64, "version": 2**63 - 1},
            {"username": "a+b@example.com"},
            {"password_hash": SecretStr("'; DROP TABLE users; -- %s :x $1")},
            {
                "created_at": datetime(1, 1, 1, tzinfo=UTC),
                "updated_at": datetime(9999, 12, 31, 23, 59, 59, 999999, UTC),
            },
        ],
    )
    async def test_who_is_added_is_found_as_he_was(self, users: Users, changes: dict[str, Any]) -> None:
        (user,) = await added(users, a_user(**changes))

        assert await users.get(user.id) == user
        assert await users.find(user.username) == user

    async def test_it_is_told(self, users: Users, engine: AsyncEngine) -> None:
        (user,) = await added(users, a_user())

        assert await told(engine) == [happened(Kind.USER_CREATED, user.id)]

    @pytest.mark.parametrize("nobody", ["", "bob", "ALICE", "alice ", "a\0lice", "\ud800", "x" * 10_000, "%", "é"])
    async def test_who_was_not_is_not_found(self, users: Users, nobody: str) -> None:
        await added(users, a_user())

        assert await users.get(nobody) is None
        assert await users.find(nobody) is None

    async def test_a_name_is_given_once_and_only_that_is_told(self, users: Users, engine: AsyncEngine) -> None:
        several = [a_user() for _ in range(20)]

        outcomes = await asyncio.gather(*(added(users, user) for user in several), return_exceptions=True)

        refused = [outcome for outcome in outcomes if isinstance(outcome, ConflictError)]
        assert len(refused) == 19
        assert {(error.field, error.message) for error in refused} == {("username", "another user has this username")}
        first = await users.find("alice")
        assert first in several
        assert await told(engine) == [happened(Kind.USER_CREATED, first.id)]

    async def test_a_time_without_a_zone_is_refused(self, users: Users) -> None:
        with pytest.raises(DatabaseError):
            await added(users, a_user(created_at=datetime(2026, 1, 1)))  # noqa: DTZ001

        assert await users.find("alice") is None

    @pytest.mark.parametrize("role", ["", "two words"])
    async def test_a_role_that_would_be_read_as_others_is_refused(self, users: Users, role: str) -> None:
        with pytest.raises(DatabaseError):
            await added(users, a_user(roles=["fine", role]))

        assert await users.find("alice") is None


class TestFirstAdmin:
    async def test_of_many_at_once_one_is_the_first(self, users: Users, engine: AsyncEngine) -> None:
        several = [an_admin(f"root{number}") for number in range(20)]

        first = await asyncio.gather(
            *(users.add_first_admin(user, happened(Kind.BOOTSTRAPPED, user.id)) for user in several)
        )

        assert sum(first) == 1
        winner = several[first.index(True)]
        assert await users.page("", 100) == [winner]
        assert await told(engine) == [happened(Kind.BOOTSTRAPPED, winner.id)]
        assert not await users.add_first_admin(an_admin("late"), happened(Kind.BOOTSTRAPPED))

    async def test_a_taken_name_leaves_it_open_to_another_one(self, users: Users) -> None:
        await added(users, a_user("root"))

        with pytest.raises(ConflictError, match="another user has this username"):
            await users.add_first_admin(an_admin("root"), happened(Kind.BOOTSTRAPPED))

        assert await users.add_first_admin(an_admin("other"), happened(Kind.BOOTSTRAPPED))

    async def test_many_with_a_taken_name_do_not_spoil_it_for_the_one_without(self, users: Users) -> None:
        await added(users, a_user("root"))
        names = ["root"] * 9 + ["other"] + ["root"] * 9

        outcomes = await asyncio.gather(
            *(users.add_first_admin(an_admin(name), happened(Kind.BOOTSTRAPPED)) for name in names),
            return_exceptions=True,
        )

        assert outcomes[9] is True
        assert all(outcome is False or isinstance(outcome, ConflictError) for outcome in outcomes[:9] + outcomes[10:])

    @pytest.mark.parametrize("disabled", [False, True])
    async def test_nobody_is_the_first_after_any_other(self, users: Users, engine: AsyncEngine, disabled: bool) -> None:
        (root,) = await added(users, an_admin(disabled=disabled))

        assert not await users.add_first_admin(an_admin("late"), happened(Kind.BOOTSTRAPPED))
        assert await users.page("", 100) == [root]
        assert len(await told(engine)) == 1

    async def test_it_works_once_even_where_the_first_one_was_deleted_by_hand(
        self, users: Users, engine: AsyncEngine
    ) -> None:
        assert await users.add_first_admin(an_admin(), happened(Kind.BOOTSTRAPPED))
        async with engine.begin() as connection:
            await connection.execute(text("DELETE FROM users"))

        assert not await users.add_first_admin(an_admin(), happened(Kind.BOOTSTRAPPED))


class TestPages:
    async def test_users_come_by_name_byte_by_byte(self, users: Users) -> None:
        names = ["b", "a-b", "a_b", "a.b", "ab", "a+b", "a@b", "0", "a"]
        await added(users, *map(a_user, names))

        assert [user.username for user in await users.page("", 100)] == sorted(names)

    async def test_pages_follow_each_other(self, users: Users) -> None:
        names = [f"user{number:02}" for number in range(7)]
        await added(users, *map(a_user, reversed(names)))

        seen: list[str] = []
        while page := await users.page(seen[-1] if seen else "", 3):
            assert len(page) <= 3
            seen += [user.username for user in page]

        assert seen == names


class TestPasswords:
    async def test_the_present_hash_is_exchanged(self, users: Users, engine: AsyncEngine) -> None:
        (user,) = await added(users, a_user())

        assert await users.set_password(user.id, user.password_hash, OTHER, happened(Kind.PASSWORD_CHANGED, user.id))
        assert await users.get(user.id) == replace(user, password_hash=OTHER)
        assert (await told(engine))[1:] == [happened(Kind.PASSWORD_CHANGED, user.id)]

    async def test_another_hash_is_not(self, users: Users, engine: AsyncEngine) -> None:
        (user,) = await added(users, a_user())

        assert not await users.set_password(user.id, OTHER, OTHER, happened(Kind.PASSWORD_CHANGED))
        assert not await users.set_password("nobody", user.password_hash, OTHER, happened(Kind.PASSWORD_CHANGED))
        await users.rehash(user.id, OTHER, SecretStr("third"))
        assert await users.get(user.id) == user
        assert len(await told(engine)) == 1

    async def test_of_many_at_once_one_is_kept(self, users: Users, engine: AsyncEngine) -> None:
        (user,) = await added(users, a_user())
        hashes = [SecretStr(f"hash {number}") for number in range(20)]

        kept = await asyncio.gather(
            *(users.set_password(user.id, user.password_hash, each, happened(Kind.PASSWORD_CHANGED)) for each in hashes)
        )

        assert sum(kept) == 1
        assert await users.get(user.id) == replace(user, password_hash=hashes[kept.index(True)])
        assert len(await told(engine)) == 2

    async def test_a_hash_of_the_same_password_is_nobodys_news(self, users: Users, engine: AsyncEngine) -> None:
        (user,) = await added(users, a_user())

        await users.rehash(user.id, user.password_hash, OTHER)

        assert await users.get(user.id) == replace(user, password_hash=OTHER)
        assert len(await told(engine)) == 1


class TestChanges:
    async def test_roles_are_exchanged(self, users: Users, engine: AsyncEngine) -> None:
        (user,) = await added(users, a_user(roles=["reader"]))

        changed = await users.set_roles(
            user.id, frozenset({"writer", ADMIN}), etag_of(user.version), replace(ROLES, at=NOW + SECOND)
        )

        assert changed == replace(
            user, roles=frozenset({"writer", ADMIN}), version=user.version + 1, updated_at=NOW + SECOND
        )
        assert await users.get(user.id) == changed
        assert (await told(engine))[1:] == [replace(ROLES, at=NOW + SECOND)]

    async def test_a_user_is_disabled_and_enabled(self, users: Users, engine: AsyncEngine) -> None:
        (user,) = await added(users, a_user())

        disabled = await users.set_disabled(user.id, True, "", DISABLED)
        enabled = await users.set_disabled(user.id, False, etag_of(disabled.version), happened(Kind.USER_ENABLED))

        assert (disabled.disabled, enabled.disabled) == (True, False)
        assert enabled == replace(user, version=user.version + 2)
        assert (await told(engine))[1:] == [DISABLED, happened(Kind.USER_ENABLED)]

    async def test_what_is_so_already_is_left_alone_whatever_the_etag(self, users: Users, engine: AsyncEngine) -> None:
        (user,) = await added(users, a_user(roles=["reader"]))

        for etag in ("", etag_of(user.version), '"7777"', "wild"):
            assert await users.set_roles(user.id, user.roles, etag, ROLES) == user
            assert await users.set_disabled(user.id, False, etag, DISABLED) == user
        assert len(await told(engine)) == 1

    @pytest.mark.parametrize("etag", ['"7777"', "wild", '""'])
    async def test_another_etag_changes_nothing(self, users: Users, engine: AsyncEngine, etag: str) -> None:
        (user,) = await added(users, a_user())

        with pytest.raises(AbortedError) as roles:
            await users.set_roles(user.id, frozenset({"writer"}), etag, ROLES)
        with pytest.raises(AbortedError):
            await users.set_disabled(user.id, True, etag, DISABLED)

        assert roles.value.field == "etag"
        assert await users.get(user.id) == user
        assert len(await told(engine)) == 1

    @pytest.mark.parametrize("nobody", ["nobody", "a\0b"])
    async def test_who_is_not_there_is_not_changed(self, users: Users, engine: AsyncEngine, nobody: str) -> None:
        for change in (
            users.set_roles(nobody, frozenset(), "", ROLES),
            users.set_disabled(nobody, True, '"1"', DISABLED),
        ):
            with pytest.raises(NotFoundError) as missing:
                await change
            assert missing.value.field == "id"
        assert await told(engine) == []

    async def test_of_many_with_one_etag_one_changes(self, users: Users, engine: AsyncEngine) -> None:
        (user,) = await added(users, a_user())

        outcomes = await asyncio.gather(
            *(
                users.set_roles(user.id, frozenset({f"role{number}"}), etag_of(user.version), ROLES)
                for number in range(20)
            ),
            return_exceptions=True,
        )

        assert sum(isinstance(outcome, User) for outcome in outcomes) == 1
        assert sum(isinstance(outcome, AbortedError) for outcome in outcomes) == 19
        assert len(await told(engine)) == 2

    async def test_every_change_has_a_version_of_its_own(self, users: Users) -> None:
        (user,) = await added(users, a_user())

        changed = await asyncio.gather(
            *(users.set_roles(user.id, frozenset({f"role{number}"}), "", ROLES) for number in range(20))
        )

        assert sorted(each.version for each in changed) == list(range(user.version + 1, user.version + 21))

    async def test_a_change_of_roles_and_one_of_the_password_are_both_kept(self, users: Users) -> None:
        (user,) = await added(users, a_user())

        await asyncio.gather(
            users.set_roles(user.id, frozenset({"writer"}), "", ROLES),
            users.set_password(user.id, user.password_hash, OTHER, happened(Kind.PASSWORD_CHANGED)),
            users.set_disabled(user.id, True, "", DISABLED),
        )

        kept = await users.get(user.id)
        assert kept is not None
        assert (kept.roles, kept.password_hash, kept.disabled) == (frozenset({"writer"}), OTHER, True)

    async def test_the_time_of_change_never_goes_back(self, users: Users) -> None:
        (user,) = await added(users, a_user())

        changed = await users.set_roles(user.id, frozenset({"writer"}), "", replace(ROLES, at=NOW - SECOND))

        assert changed.updated_at == NOW
        assert await users.get(user.id) == changed


class TestSessions:
    """Those of a user end in the transaction of what ends them."""

    @pytest.fixture
    async def families(self, engine: AsyncEngine) -> SqlFamilies:
        """Two of alice's and one of bob's."""
        families = SqlFamilies(engine)
        for number, subject in enumerate(["alice", "alice", "bob"]):
            await families.add(Family(f"{number}" * 32, subject, "web", frozenset(), b"", b"", 0, 0.0, 0.0))
        return families

    async def test_another_password_ends_them_but_the_one_to_keep(
        self, users: Users, families: SqlFamilies, engine: AsyncEngine
    ) -> None:
        (alice,) = await added(users, a_user(id="alice"))
        changed = happened(Kind.PASSWORD_CHANGED, "alice")

        assert not await users.set_password("alice", OTHER, OTHER, changed)
        assert await endings(families) == [None, None, None]
        assert await users.set_password("alice", alice.password_hash, OTHER, changed, keep="0" * 32)
        assert await endings(families) == [None, "password_changed", None]
        assert [(event.kind, event.session_id) for event in (await told(engine))[1:]] == [
            (Kind.PASSWORD_CHANGED, ""),
            (Kind.SESSION_REVOKED, "1" * 32),
        ]

    async def test_who_is_disabled_has_none(self, users: Users, families: SqlFamilies, engine: AsyncEngine) -> None:
        await added(users, a_user(id="alice"))

        await users.set_roles("alice", frozenset({"reader"}), "", ROLES)
        await users.rehash("alice", OTHER, OTHER)
        assert await endings(families) == [None, None, None]
        await users.set_disabled("alice", True, "", DISABLED)
        assert await endings(families) == ["disabled", "disabled", None]
        assert [event.kind for event in (await told(engine))[2:]] == [Kind.USER_DISABLED, *[Kind.SESSION_REVOKED] * 2]

    async def test_what_is_refused_ends_none(self, users: Users, families: SqlFamilies) -> None:
        await added(users, an_admin(id="alice"))

        with pytest.raises(PreconditionError):
            await users.set_disabled("alice", True, "", DISABLED)
        with pytest.raises(AbortedError):
            await users.set_disabled("alice", True, '"7777"', DISABLED)

        assert await endings(families) == [None, None, None]


async def endings(families: SqlFamilies) -> Sequence[str | None]:
    found = [await families.find(f"{number}" * 32) for number in range(3)]
    return [family and family.revoked for family in found]


type Removal = Callable[[Users, User], Awaitable[User]]


def demotion(users: Users, user: User) -> Awaitable[User]:
    return users.set_roles(user.id, frozenset({"reader"}), "", ROLES)


def disabling(users: Users, user: User) -> Awaitable[User]:
    return users.set_disabled(user.id, True, "", DISABLED)


@pytest.mark.parametrize("remove", [demotion, disabling])
class TestLastAdministrator:
    async def test_the_last_one_stays(self, users: Users, engine: AsyncEngine, remove: Removal) -> None:
        (root, *_) = await added(users, an_admin(), an_admin("off", disabled=True), a_user("administrators"))

        with pytest.raises(PreconditionError, match="is the last administrator who may log in: make another one first"):
            await remove(users, root)

        assert await users.get(root.id) == root
        assert len(await told(engine)) == 3

    async def test_one_of_two_may_go(self, users: Users, remove: Removal) -> None:
        root, other = await added(users, an_admin(), an_admin("other"))

        await remove(users, root)

        with pytest.raises(PreconditionError):
            await remove(users, other)

    async def test_of_two_who_remove_each_other_at_once_one_succeeds(
        self, users: Users, engine: AsyncEngine, remove: Removal
    ) -> None:
        for number in range(20):
            both = await added(users, an_admin(f"a{number}"), an_admin(f"b{number}"))
            before = len(await told(engine))

            outcomes = await asyncio.gather(*(remove(users, each) for each in both), return_exceptions=True)

            assert sorted(type(outcome).__name__ for outcome in outcomes) == ["PreconditionError", "User"]
            assert len(await told(engine)) == before + 1
            async with engine.begin() as connection:
                await connection.execute(text("DELETE FROM users"))

    async def test_of_ten_who_go_in_two_ways_at_once_one_stays(self, users: Users, remove: Removal) -> None:
        ten = await added(users, *(an_admin(f"root{number}") for number in range(10)))
        ways = [remove, demotion, disabling]

        outcomes = await asyncio.gather(
            *(ways[number % 3](users, each) for number, each in enumerate(ten)), return_exceptions=True
        )

        assert sum(isinstance(outcome, User) for outcome in outcomes) == 9
        assert sum(isinstance(outcome, PreconditionError) for outcome in outcomes) == 1
        left = [user for user in await users.page("", 100) if ADMIN in user.roles and not user.disabled]
        assert len(left) == 1

    async def test_who_may_not_log_in_is_no_administrator_to_keep(self, users: Users, remove: Removal) -> None:
        _, off, nobody = await added(users, an_admin(), an_admin("off", disabled=True), a_user("nobody"))

        await remove(users, off)
        await remove(users, nobody)


class TestFaults:
    async def test_no_free_connection_in_time_is_unavailable(self, migrated_url: str, limits: Limits) -> None:
        tight = replace(limits, connections=1, pool_timeout=0.05)
        async with open_engine(migrated_url, tight) as engine, engine.connect():
            users = SqlUsers(engine)
            for verb in (
                users.get("x"),
                users.find("x"),
                users.page("", 1),
                users.set_roles("x", frozenset(), "", ROLES),
            ):
                with pytest.raises(ExternalServiceError, match="cannot be reached or does not answer in time"):
                    await verb

    async def test_a_change_that_waits_too_long_is_unavailable_and_undone(
        self, migrated_url: str, users: Users, engine: AsyncEngine, limits: Limits
    ) -> None:
        (user,) = await added(users, a_user())
        async with engine.begin() as holder, open_engine(migrated_url, replace(limits, statement_timeout=3)) as other:
            await holder.execute(text("UPDATE users SET version = version + 1"))
            with pytest.raises(ExternalServiceError):
                await SqlUsers(other).set_roles(user.id, frozenset({"writer"}), "", ROLES)

        kept = await users.get(user.id)
        assert kept is not None
        assert kept.roles == frozenset()
        assert len(await told(engine)) == 1

    async def test_who_is_told_of_commits_hears_of_each_and_of_no_refusal(self, engine: AsyncEngine) -> None:
        heard: list[int] = []
        users = SqlUsers(engine, lambda: heard.append(1))

        await added(users, a_user())
        with pytest.raises(ConflictError):
            await added(users, a_user())

        assert heard == [1]

    async def test_an_error_shows_no_hash(self, users: Users) -> None:
        with pytest.raises(DatabaseError) as refused:
            await added(users, a_user(password_hash=SecretStr("a secret"), roles=["two words"]))

        assert "a secret" not in f"{refused.value} {refused.value.__cause__}"
