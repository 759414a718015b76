"""Random sequences of calls, against a model that keeps users in a dictionary; on both databases."""

import asyncio
from collections.abc import Awaitable, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any

from emptying import empty
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    MultipleResults,
    RuleBasedStateMachine,
    initialize,
    invariant,
    multiple,
    rule,
    run_state_machine_as_test,
)
from people import NOW, a_user, happened
from pydantic import SecretStr
from told import told

from auth.audit import Kind, SecurityEvent
from auth.sql_users import SqlUsers
from auth.user import ADMIN, User
from grpc_common.database.engine import Limits, open_engine
from grpc_common.errors import AbortedError, AppException, ConflictError, NotFoundError, PreconditionError
from grpc_common.etag import etag_of

names = st.sampled_from(["a", "b", "c", "d@e", "f-g"])
roles = st.sampled_from(
    [frozenset({ADMIN}), frozenset({"reader", ADMIN}), frozenset({"administrator"}), frozenset[str]()]
)
moments = st.integers(-3, 3).map(lambda seconds: NOW + timedelta(seconds=seconds))
etags = st.sampled_from(["none", "none", "current", "stale", "wild"])


class UsersMachine(RuleBasedStateMachine):
    """Does each step with the database and with the model, and compares."""

    ids = Bundle("ids")

    def __init__(self, url: str, limits: Limits) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.opened = open_engine(url, limits)
        self.engine = self.run(self.opened.__aenter__())
        self.run(empty(self.engine))
        self.users = SqlUsers(self.engine)
        self.kept: dict[str, User] = {}
        self.events: list[SecurityEvent] = []
        self.had_first = False

    def run[T](self, work: Awaitable[T]) -> T:
        async def awaited() -> T:
            return await work

        return self.runner.run(awaited())

    def teardown(self) -> None:
        self.run(self.opened.__aexit__(None, None, None))
        self.runner.close()

    @initialize(target=ids)
    def nobody(self) -> str:
        return "nobody"

    @rule(target=ids, name=names, given=roles, disabled=st.booleans())
    def add(self, name: str, given: frozenset[str], disabled: bool) -> MultipleResults[str]:
        user = a_user(name, given, disabled=disabled)
        event = happened(Kind.USER_CREATED, user.id)
        refused = ConflictError if self._named(name) else None
        self._compare(refused, None, self.users.add(user, event))
        return self._keep(user, event) if refused is None else multiple()

    @rule(target=ids, name=names)
    def add_first_admin(self, name: str) -> MultipleResults[str]:
        user = a_user(name, [ADMIN])
        event = happened(Kind.BOOTSTRAPPED, user.id)
        is_first = not self.had_first and not any(ADMIN in each.roles for each in self.kept.values())
        refused = ConflictError if is_first and self._named(name) else None
        self._compare(refused, is_first, self.users.add_first_admin(user, event))
        if not is_first or refused is not None:
            return multiple()
        self.had_first = True
        return self._keep(user, event)

    @rule(user_id=ids, given=roles, etag=etags, at=moments)
    def set_roles(self, user_id: str, given: frozenset[str], etag: str, at: Any) -> None:
        event = happened(Kind.ROLES_CHANGED, user_id, at)
        change = self.users.set_roles(user_id, given, self._etag(user_id, etag), event)
        self._change(user_id, etag, event, change, roles=given)

    @rule(user_id=ids, disabled=st.booleans(), etag=etags, at=moments)
    def set_disabled(self, user_id: str, disabled: bool, etag: str, at: Any) -> None:
        event = happened(Kind.USER_DISABLED, user_id, at)
        change = self.users.set_disabled(user_id, disabled, self._etag(user_id, etag), event)
        self._change(user_id, etag, event, change, disabled=disabled)

    @rule(user_id=ids, right=st.booleans(), new=st.sampled_from(["x", "y"]), tells=st.booleans())
    def exchange_the_hash(self, user_id: str, right: bool, new: str, tells: bool) -> None:
        user = self.kept.get(user_id)
        present = user.password_hash if right and user is not None else SecretStr("another")
        event = happened(Kind.PASSWORD_CHANGED, user_id)
        exchanged = right and user is not None
        if tells:
            self._compare(None, exchanged, self.users.set_password(user_id, present, SecretStr(new), event))
            self.events += [event] * exchanged
        else:
            self.run(self.users.rehash(user_id, present, SecretStr(new)))
        if exchanged and user is not None:
            self.kept[user_id] = replace(user, password_hash=SecretStr(new))

    @rule(user_id=ids)
    def get(self, user_id: str) -> None:
        assert self.run(self.users.get(user_id)) == self.kept.get(user_id)

    @rule(name=names)
    def find(self, name: str) -> None:
        assert self.run(self.users.find(name)) == self._named(name)

    @rule(after=names, limit=st.integers(1, 3))
    def page(self, after: str, limit: int) -> None:
        expected = [user for user in self._listed() if user.username > after][:limit]
        assert self.run(self.users.page(after, limit)) == expected

    @invariant()
    def all_is_kept_and_told(self) -> None:
        assert self.run(self.users.page("", 100)) == self._listed()
        assert self.run(told(self.engine)) == self.events

    def _change(self, user_id: str, etag: str, event: SecurityEvent, change: Awaitable[User], **values: Any) -> None:
        user = self.kept.get(user_id)
        if user is None:
            self._compare(NotFoundError, None, change)
            return
        changed = replace(user, **values)
        others = [each for each in self.kept.values() if each.id != user_id]
        if changed == user:
            self._compare(None, user, change)
        elif etag in {"stale", "wild"}:
            self._compare(AbortedError, None, change)
        elif is_active_admin(user) and not is_active_admin(changed) and not any(map(is_active_admin, others)):
            self._compare(PreconditionError, None, change)
        else:
            expected = replace(changed, version=user.version + 1, updated_at=max(user.updated_at, event.at))
            self._compare(None, expected, change)
            self.kept[user_id] = expected
            self.events.append(event)

    def _compare(self, refused: type[AppException] | None, expected: Any, work: Awaitable[Any]) -> None:
        try:
            outcome = self.run(work)
        except AppException as error:
            assert type(error) is refused
        else:
            assert refused is None
            assert outcome == expected

    def _keep(self, user: User, event: SecurityEvent) -> MultipleResults[str]:
        self.kept[user.id] = user
        self.events.append(event)
        return multiple(user.id)

    def _named(self, name: str) -> User | None:
        return next((user for user in self.kept.values() if user.username == name), None)

    def _listed(self) -> Sequence[User]:
        return sorted(self.kept.values(), key=lambda user: user.username)

    def _etag(self, user_id: str, kind: str) -> str:
        version = self.kept[user_id].version if user_id in self.kept else 1
        return {"none": "", "current": etag_of(version), "stale": etag_of(version - 1), "wild": "W/x"}[kind]


def is_active_admin(user: User) -> bool:
    return ADMIN in user.roles and not user.disabled


def test_users_are_what_the_model_says(migrated_url: str, limits: Limits) -> None:
    """Names are given once, etags tell changes apart, the last administrator stays, and all of it is told."""
    run_state_machine_as_test(  # type: ignore[no-untyped-call]
        lambda: UsersMachine(migrated_url, limits),
        settings=settings(
            max_examples=100, stateful_step_count=25, deadline=None, suppress_health_check=list(HealthCheck)
        ),
    )
