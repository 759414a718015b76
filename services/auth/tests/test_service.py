"""The AuthService as its callers see it."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc
import jwt
import pytest
import pytest_asyncio
from served import BOOTSTRAP, serving

from grpc_common.testing import bearer
from meshwork.auth.v1 import auth_service_pb2 as pb
from meshwork.common.v1.errors_pb2 import ErrorDetail

if TYPE_CHECKING:  # there is no such class at run time
    from meshwork.auth.v1.auth_service_pb2_grpc import AuthServiceAsyncStub as Stub

PASSWORD = "seven ducks in a quiet row"
OTHER = "eleven geese on a windy hill"


@pytest_asyncio.fixture
async def auth(tmp_path: Path) -> AsyncIterator["Stub"]:
    async with serving(tmp_path, registration=True) as stub:
        yield stub


@pytest_asyncio.fixture
async def admin(auth: "Stub") -> pb.TokenPair:
    """The tokens of the first administrator."""
    await auth.BootstrapAdmin(pb.BootstrapAdminRequest(secret=BOOTSTRAP, username="root", password=PASSWORD))
    return await log_in(auth, "root")


async def log_in(auth: "Stub", username: str, password: str = PASSWORD) -> pb.TokenPair:
    return await auth.Login(pb.LoginRequest(username=username, password=password))


async def registered(auth: "Stub", username: str) -> pb.User:
    return await auth.Register(pb.RegisterRequest(username=username, password=PASSWORD))


def of(tokens: pb.TokenPair) -> Any:
    return bearer(tokens.access_token)


async def refusal(call: Any) -> tuple[grpc.StatusCode, str]:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return caught.value.code(), caught.value.details() or ""


def field_of(error: grpc.aio.AioRpcError) -> str:
    return ErrorDetail.FromString(dict(error.trailing_metadata() or ())["error-detail-bin"]).field


class TestBootstrap:
    async def test_the_first_administrator_comes_by_the_one_time_secret(self, auth: "Stub") -> None:
        request = pb.BootstrapAdminRequest(secret=BOOTSTRAP, username="Root", password=PASSWORD)
        user = await auth.BootstrapAdmin(request)

        assert (user.username, list(user.roles), user.disabled) == ("root", ["admin"], False)
        tokens = await log_in(auth, "ROOT")
        assert [each.username for each in (await auth.ListUsers(pb.ListUsersRequest(), metadata=of(tokens))).users] == [
            "root"
        ]

    async def test_it_works_once(self, auth: "Stub", admin: pb.TokenPair) -> None:
        again = pb.BootstrapAdminRequest(secret=BOOTSTRAP, username="second", password=PASSWORD)
        assert (await refusal(auth.BootstrapAdmin(again)))[0] is grpc.StatusCode.PERMISSION_DENIED

    async def test_of_many_at_once_one_is_the_first(self, auth: "Stub") -> None:
        calls = [
            auth.BootstrapAdmin(pb.BootstrapAdminRequest(secret=BOOTSTRAP, username=f"root{n}", password=PASSWORD))
            for n in range(4)
        ]
        answers = await asyncio.gather(*calls, return_exceptions=True)
        assert len([answer for answer in answers if isinstance(answer, pb.User)]) == 1

    async def test_a_wrong_secret_is_refused_in_the_same_words(self, auth: "Stub") -> None:
        wrong = pb.BootstrapAdminRequest(secret="guessed", username="root", password=PASSWORD)
        code, words = await refusal(auth.BootstrapAdmin(wrong))
        assert code is grpc.StatusCode.PERMISSION_DENIED
        await auth.BootstrapAdmin(pb.BootstrapAdminRequest(secret=BOOTSTRAP, username="root", password=PASSWORD))
        assert await refusal(auth.BootstrapAdmin(wrong)) == (code, words)


async def test_a_session_goes_on_and_ends(auth: "Stub") -> None:
    user = await registered(auth, "alice")
    first = await log_in(auth, "alice")
    said = jwt.decode(first.access_token, options={"verify_signature": False})
    assert (said["sub"], said["sid"], said["roles"]) == (user.id, first.family_id, [])

    second = await auth.Refresh(pb.RefreshRequest(refresh_token=first.refresh_token))
    assert second.family_id == first.family_id
    assert (await auth.GetUser(pb.GetUserRequest(id="me"), metadata=of(second))) == user

    await auth.Logout(pb.LogoutRequest(refresh_token=second.refresh_token))
    assert (await refusal(auth.Refresh(pb.RefreshRequest(refresh_token=second.refresh_token))))[
        0
    ] is grpc.StatusCode.UNAUTHENTICATED


async def test_a_narrower_scope_is_for_one_access_token(tmp_path: Path) -> None:
    async with serving(tmp_path, registration=True, user_scopes=("items:read", "items:write")) as auth:
        await registered(auth, "alice")
        first = await log_in(auth, "alice")
        wider = pb.RefreshRequest(refresh_token=first.refresh_token, scopes=["items:read", "items:delete"])
        assert (await refusal(auth.Refresh(wider)))[0] is grpc.StatusCode.PERMISSION_DENIED

        narrow = await auth.Refresh(pb.RefreshRequest(refresh_token=first.refresh_token, scopes=["items:read"]))
        said = jwt.decode(narrow.access_token, options={"verify_signature": False})
        assert (list(narrow.scopes), said["scope"]) == (["items:read"], "items:read")

        wide = await auth.Refresh(pb.RefreshRequest(refresh_token=narrow.refresh_token))
        assert list(wide.scopes) == ["items:read", "items:write"]


async def test_a_scope_that_users_lost_is_in_no_token_of_older_sessions(tmp_path: Path) -> None:
    async with serving(tmp_path, registration=True, user_scopes=("items:read", "items:write")) as auth:
        await registered(auth, "alice")
        first = await log_in(auth, "alice")
    async with serving(tmp_path, user_scopes=("items:read",)) as auth:
        lost = pb.RefreshRequest(refresh_token=first.refresh_token, scopes=["items:write"])
        assert (await refusal(auth.Refresh(lost)))[0] is grpc.StatusCode.PERMISSION_DENIED
        second = await auth.Refresh(pb.RefreshRequest(refresh_token=first.refresh_token))
    said = jwt.decode(second.access_token, options={"verify_signature": False})
    assert (list(second.scopes), said["scope"]) == (["items:read"], "items:read")
    async with serving(tmp_path, user_scopes=()) as auth:
        third = await auth.Refresh(pb.RefreshRequest(refresh_token=second.refresh_token))
    assert "scope" not in jwt.decode(third.access_token, options={"verify_signature": False})


class TestLogin:
    async def test_nobody_learns_why(self, auth: "Stub", admin: pb.TokenPair) -> None:
        """R5: a wrong password, an unknown, a disabled and a locked user have one answer."""
        await registered(auth, "alice")
        bob = await registered(auth, "bob")
        await registered(auth, "carol")
        await auth.SetDisabled(pb.SetDisabledRequest(id=bob.id, disabled=True), metadata=of(admin))
        for _ in range(10):
            await refusal(log_in(auth, "carol", "not the password"))

        answers = {
            await refusal(log_in(auth, "alice", "not the password")),
            await refusal(log_in(auth, "nobody", PASSWORD)),
            await refusal(log_in(auth, "bob", PASSWORD)),
            await refusal(log_in(auth, "carol", PASSWORD)),
        }
        assert answers == {(grpc.StatusCode.UNAUTHENTICATED, "the user name or the password is wrong")}

    async def test_names_may_be_typed_in_capitals(self, auth: "Stub") -> None:
        await registered(auth, "Alice@Example.com")
        assert (await log_in(auth, "alice@EXAMPLE.com")).access_token

    @pytest.mark.parametrize("username", ["no spaces", "ünicode", "\x00", "'; DROP TABLE users; --", "a" * 64])
    async def test_whatever_is_typed_is_no_user(self, auth: "Stub", username: str) -> None:
        assert (await refusal(log_in(auth, username)))[0] is grpc.StatusCode.UNAUTHENTICATED

    async def test_a_scope_that_no_user_may_have_is_refused(self, auth: "Stub") -> None:
        await registered(auth, "alice")
        request = pb.LoginRequest(username="alice", password=PASSWORD, scopes=["everything"])
        assert (await refusal(auth.Login(request)))[0] is grpc.StatusCode.PERMISSION_DENIED

    async def test_tokens_are_for_the_scopes_asked_for(self, tmp_path: Path) -> None:
        async with serving(tmp_path, registration=True, user_scopes=("items:read", "items:write")) as auth:
            await registered(auth, "alice")
            all_ = await log_in(auth, "alice")
            some = await auth.Login(pb.LoginRequest(username="alice", password=PASSWORD, scopes=["items:read"]))
            next_ = await auth.Refresh(pb.RefreshRequest(refresh_token=some.refresh_token))

        assert list(all_.scopes) == ["items:read", "items:write"]
        assert list(some.scopes) == list(next_.scopes) == ["items:read"]
        assert jwt.decode(next_.access_token, options={"verify_signature": False})["scope"] == "items:read"


class TestRegistration:
    async def test_it_may_be_closed(self, tmp_path: Path) -> None:
        async with serving(tmp_path) as auth:
            assert (await refusal(registered(auth, "alice")))[0] is grpc.StatusCode.PERMISSION_DENIED

    async def test_a_name_is_taken_once_however_it_is_typed(self, auth: "Stub") -> None:
        await registered(auth, "alice")
        assert (await refusal(registered(auth, "ALICE")))[0] is grpc.StatusCode.ALREADY_EXISTS

    @pytest.mark.parametrize(
        ("username", "password"),
        [("alice", "short"), ("alice", "password1234"), ("alice", "alicealicealice"), ("no spaces", PASSWORD)],
    )
    async def test_bad_fields_are_named_and_not_quoted(self, auth: "Stub", username: str, password: str) -> None:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await auth.Register(pb.RegisterRequest(username=username, password=password))
        assert field_of(caught.value) == ("username" if " " in username else "password")
        assert password not in (caught.value.details() or "")


class TestAdministration:
    async def test_only_administrators_do_it(self, auth: "Stub") -> None:
        alice = await registered(auth, "alice")
        tokens = await log_in(auth, "alice")
        calls = [
            auth.ListUsers(pb.ListUsersRequest(), metadata=of(tokens)),
            auth.CreateUser(pb.CreateUserRequest(username="x", password=PASSWORD), metadata=of(tokens)),
            auth.SetRoles(pb.SetRolesRequest(id=alice.id, roles=["admin"]), metadata=of(tokens)),
            auth.SetDisabled(pb.SetDisabledRequest(id=alice.id, disabled=True), metadata=of(tokens)),
            auth.CreateClient(pb.CreateClientRequest(client_id="x"), metadata=of(tokens)),
            auth.DeleteClient(pb.DeleteClientRequest(client_id="x"), metadata=of(tokens)),
            auth.Introspect(pb.IntrospectRequest(token="x"), metadata=of(tokens)),
        ]
        assert {(await refusal(call))[0] for call in calls} == {grpc.StatusCode.PERMISSION_DENIED}

    async def test_users_see_themselves_and_administrators_everybody(self, auth: "Stub", admin: pb.TokenPair) -> None:
        alice, bob = await registered(auth, "alice"), await registered(auth, "bob")
        tokens = await log_in(auth, "alice")

        assert await auth.GetUser(pb.GetUserRequest(id=alice.id), metadata=of(tokens)) == alice
        assert await auth.GetUser(pb.GetUserRequest(id=bob.id), metadata=of(admin)) == bob
        hidden = await refusal(auth.GetUser(pb.GetUserRequest(id=bob.id), metadata=of(tokens)))
        missing = await refusal(auth.GetUser(pb.GetUserRequest(id="nobody"), metadata=of(tokens)))
        assert hidden == missing
        assert hidden[0] is grpc.StatusCode.NOT_FOUND

    async def test_roles_are_in_the_next_token(self, auth: "Stub", admin: pb.TokenPair) -> None:
        alice = await registered(auth, "alice")
        tokens = await log_in(auth, "alice")
        request = pb.SetRolesRequest(id=alice.id, roles=["editor", "auditor"], etag=alice.etag)
        changed = await auth.SetRoles(request, metadata=of(admin))

        assert list(changed.roles) == ["auditor", "editor"]
        assert changed.etag != alice.etag
        assert await auth.SetRoles(request, metadata=of(admin)) == changed
        stale = pb.SetRolesRequest(id=alice.id, roles=[], etag=alice.etag)
        assert (await refusal(auth.SetRoles(stale, metadata=of(admin))))[0] is grpc.StatusCode.ABORTED
        after = await auth.Refresh(pb.RefreshRequest(refresh_token=tokens.refresh_token))
        said = jwt.decode(after.access_token, options={"verify_signature": False})
        assert said["roles"] == ["auditor", "editor"]

    async def test_somebody_is_always_an_administrator(self, auth: "Stub", admin: pb.TokenPair) -> None:
        root = await auth.GetUser(pb.GetUserRequest(id="me"), metadata=of(admin))
        demoting = auth.SetRoles(pb.SetRolesRequest(id=root.id), metadata=of(admin))
        disabling = auth.SetDisabled(pb.SetDisabledRequest(id=root.id, disabled=True), metadata=of(admin))
        assert (await refusal(demoting))[0] is grpc.StatusCode.FAILED_PRECONDITION
        assert (await refusal(disabling))[0] is grpc.StatusCode.FAILED_PRECONDITION

    async def test_who_is_disabled_has_no_session_any_more(self, auth: "Stub", admin: pb.TokenPair) -> None:
        alice = await registered(auth, "alice")
        tokens = await log_in(auth, "alice")
        disabled = await auth.SetDisabled(pb.SetDisabledRequest(id=alice.id, disabled=True), metadata=of(admin))
        assert disabled.disabled

        refreshing = auth.Refresh(pb.RefreshRequest(refresh_token=tokens.refresh_token))
        assert (await refusal(refreshing))[0] is grpc.StatusCode.UNAUTHENTICATED
        found = await auth.Introspect(pb.IntrospectRequest(token=tokens.access_token), metadata=of(admin))
        assert found == pb.IntrospectResponse(active=False)
        await auth.SetDisabled(pb.SetDisabledRequest(id=alice.id, disabled=False), metadata=of(admin))
        assert await log_in(auth, "alice")

    async def test_users_are_listed_by_name_and_page(self, auth: "Stub", admin: pb.TokenPair) -> None:
        for name in ("dora", "alice", "carl", "bob"):
            await auth.CreateUser(
                pb.CreateUserRequest(username=name, password=PASSWORD, roles=["editor"]), metadata=of(admin)
            )
        names: list[str] = []
        token = ""
        while True:
            page = await auth.ListUsers(pb.ListUsersRequest(page_size=2, page_token=token), metadata=of(admin))
            names += [user.username for user in page.users]
            if not (token := page.next_page_token):
                break
        assert names == ["alice", "bob", "carl", "dora", "root"]
        wrong = auth.ListUsers(pb.ListUsersRequest(page_token="x"), metadata=of(admin))
        assert (await refusal(wrong))[0] is grpc.StatusCode.INVALID_ARGUMENT


class TestSessions:
    async def test_a_family_is_revoked_by_its_user_or_an_administrator(self, auth: "Stub", admin: pb.TokenPair) -> None:
        for name in ("alice", "bob"):
            await registered(auth, name)
        alice, again, bob = [await log_in(auth, name) for name in ("alice", "alice", "bob")]

        hers = pb.RevokeFamilyRequest(family_id=alice.family_id)
        assert (await refusal(auth.RevokeFamily(hers, metadata=of(bob))))[0] is grpc.StatusCode.NOT_FOUND
        await auth.RevokeFamily(hers, metadata=of(again))
        await auth.RevokeFamily(hers, metadata=of(again))
        await auth.RevokeFamily(pb.RevokeFamilyRequest(family_id=bob.family_id), metadata=of(admin))

        assert await auth.Refresh(pb.RefreshRequest(refresh_token=again.refresh_token))
        for ended in (alice, bob):
            refreshing = auth.Refresh(pb.RefreshRequest(refresh_token=ended.refresh_token))
            assert (await refusal(refreshing))[0] is grpc.StatusCode.UNAUTHENTICATED

    async def test_twenty_refreshes_at_once_have_one_successor(self, auth: "Stub") -> None:
        await registered(auth, "alice")
        tokens = await log_in(auth, "alice")
        request = pb.RefreshRequest(refresh_token=tokens.refresh_token)
        answers = await asyncio.gather(*(auth.Refresh(request) for _ in range(20)))

        assert len({answer.refresh_token for answer in answers}) == 1
        assert await auth.Refresh(pb.RefreshRequest(refresh_token=answers[0].refresh_token))

    async def test_a_replay_after_the_grace_ends_the_family(self, tmp_path: Path) -> None:
        async with serving(tmp_path, registration=True, refresh_grace=0.0) as auth:
            await registered(auth, "alice")
            first = await log_in(auth, "alice")
            second = await auth.Refresh(pb.RefreshRequest(refresh_token=first.refresh_token))

            for token in (first.refresh_token, second.refresh_token):
                refreshing = auth.Refresh(pb.RefreshRequest(refresh_token=token))
                assert (await refusal(refreshing))[0] is grpc.StatusCode.UNAUTHENTICATED

    async def test_another_password_ends_all_sessions_but_the_one_named(self, auth: "Stub") -> None:
        await registered(auth, "alice")
        here, there = await log_in(auth, "alice"), await log_in(auth, "alice")
        change = pb.ChangePasswordRequest(current_password=PASSWORD, new_password=OTHER, family_id=here.family_id)
        await auth.ChangePassword(change, metadata=of(here))

        assert await auth.Refresh(pb.RefreshRequest(refresh_token=here.refresh_token))
        refreshing = auth.Refresh(pb.RefreshRequest(refresh_token=there.refresh_token))
        assert (await refusal(refreshing))[0] is grpc.StatusCode.UNAUTHENTICATED
        assert (await refusal(log_in(auth, "alice")))[0] is grpc.StatusCode.UNAUTHENTICATED
        assert await log_in(auth, "alice", OTHER)

    async def test_the_password_must_be_known_and_the_next_one_good(self, auth: "Stub") -> None:
        await registered(auth, "alice")
        tokens = await log_in(auth, "alice")
        wrong = pb.ChangePasswordRequest(current_password=OTHER, new_password=OTHER)
        weak = pb.ChangePasswordRequest(current_password=PASSWORD, new_password="password")
        assert (await refusal(auth.ChangePassword(wrong, metadata=of(tokens))))[0] is grpc.StatusCode.UNAUTHENTICATED
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await auth.ChangePassword(weak, metadata=of(tokens))
        assert field_of(caught.value) == "new_password"


class TestClients:
    @pytest.mark.parametrize("client_id", [".", "..", "...", "MeshWork"])
    async def test_an_id_that_no_path_can_name_or_that_is_taken_for_the_first_party_is_refused(
        self, auth: "Stub", admin: pb.TokenPair, client_id: str
    ) -> None:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await auth.CreateClient(pb.CreateClientRequest(client_id=client_id), metadata=of(admin))
        assert (caught.value.code(), field_of(caught.value)) == (grpc.StatusCode.INVALID_ARGUMENT, "client_id")

    @pytest.mark.parametrize("client_id", ["a.", ".a", "..a", "-", "_", "a..b"])
    async def test_an_id_with_dots_is_taken(self, auth: "Stub", admin: pb.TokenPair, client_id: str) -> None:
        await auth.CreateClient(pb.CreateClientRequest(client_id=client_id), metadata=of(admin))

    async def test_a_client_gets_tokens_by_its_secret(self, auth: "Stub", admin: pb.TokenPair) -> None:
        request = pb.CreateClientRequest(client_id="importer", roles=["editor"], scopes=["items:write", "items:read"])
        made = await auth.CreateClient(request, metadata=of(admin))
        token = await auth.IssueServiceToken(
            pb.IssueServiceTokenRequest(client_id="importer", client_secret=made.client_secret, scopes=["items:write"])
        )
        said = jwt.decode(token.access_token, options={"verify_signature": False})

        assert (said["sub"], said["client_id"], said["roles"]) == ("importer", "importer", ["editor"])
        assert said["scope"] == "items:write"

        await auth.DeleteClient(pb.DeleteClientRequest(client_id="importer"), metadata=of(admin))
        gone = pb.IssueServiceTokenRequest(client_id="importer", client_secret=made.client_secret)
        never = pb.IssueServiceTokenRequest(client_id="nobody", client_secret="guess")
        assert await refusal(auth.IssueServiceToken(gone)) == await refusal(auth.IssueServiceToken(never))
        again = auth.DeleteClient(pb.DeleteClientRequest(client_id="importer"), metadata=of(admin))
        assert (await refusal(again))[0] is grpc.StatusCode.NOT_FOUND

    async def test_its_tokens_end_with_it(self, auth: "Stub", admin: pb.TokenPair) -> None:
        request = pb.CreateClientRequest(client_id="importer", roles=["admin"])
        made = await auth.CreateClient(request, metadata=of(admin))
        token = await auth.IssueServiceToken(
            pb.IssueServiceTokenRequest(client_id="importer", client_secret=made.client_secret)
        )
        itself = pb.GetUserRequest(id="importer")
        assert (await refusal(auth.GetUser(itself, metadata=of(token))))[0] is grpc.StatusCode.NOT_FOUND

        await auth.DeleteClient(pb.DeleteClientRequest(client_id="importer"), metadata=of(admin))
        async with asyncio.timeout(5):
            while (await refusal(auth.GetUser(itself, metadata=of(token))))[0] is not grpc.StatusCode.UNAUTHENTICATED:  # noqa: ASYNC110
                await asyncio.sleep(0.01)

    async def test_a_token_taken_back_reads_and_ends_nothing_where_nobody_has_heard_of_it(self, tmp_path: Path) -> None:
        async with serving(tmp_path, relay=False) as auth:
            await auth.BootstrapAdmin(pb.BootstrapAdminRequest(secret=BOOTSTRAP, username="root", password=PASSWORD))
            admin = await log_in(auth, "root")
            request = pb.CreateClientRequest(client_id="importer", roles=["admin"])
            made = await auth.CreateClient(request, metadata=of(admin))
            proof = pb.IssueServiceTokenRequest(client_id="importer", client_secret=made.client_secret)
            token = await auth.IssueServiceToken(proof)
            me = await auth.GetUser(pb.GetUserRequest(id="me"), metadata=of(admin))
            anybody, anything = pb.GetUserRequest(id=me.id), pb.ListUsersRequest()
            assert await auth.GetUser(anybody, metadata=of(token))
            assert await auth.ListUsers(anything, metadata=of(token))

            await auth.DeleteClient(pb.DeleteClientRequest(client_id="importer"), metadata=of(admin))
            for call in (
                auth.GetUser(anybody, metadata=of(token)),
                auth.ListUsers(anything, metadata=of(token)),
                auth.RevokeFamily(pb.RevokeFamilyRequest(family_id="0" * 32), metadata=of(token)),
            ):
                assert (await refusal(call))[0] is grpc.StatusCode.UNAUTHENTICATED

    async def test_it_gets_no_scope_that_it_was_not_given(self, auth: "Stub", admin: pb.TokenPair) -> None:
        made = await auth.CreateClient(pb.CreateClientRequest(client_id="importer"), metadata=of(admin))
        wanting = pb.IssueServiceTokenRequest(
            client_id="importer", client_secret=made.client_secret, scopes=["items:read"]
        )
        assert (await refusal(auth.IssueServiceToken(wanting)))[0] is grpc.StatusCode.PERMISSION_DENIED
        taken = auth.CreateClient(pb.CreateClientRequest(client_id="importer"), metadata=of(admin))
        assert (await refusal(taken))[0] is grpc.StatusCode.ALREADY_EXISTS


class TestIntrospection:
    async def test_it_says_what_a_token_proves(self, auth: "Stub", admin: pb.TokenPair) -> None:
        access = await auth.Introspect(pb.IntrospectRequest(token=admin.access_token), metadata=of(admin))
        refresh = await auth.Introspect(pb.IntrospectRequest(token=admin.refresh_token), metadata=of(admin))
        said = jwt.decode(admin.access_token, options={"verify_signature": False})

        assert (access.active, access.kind, access.id) == (True, pb.TOKEN_KIND_ACCESS, said["jti"])
        assert (access.subject, list(access.roles), access.client_id) == (said["sub"], ["admin"], said["client_id"])
        assert (access.issued_at.seconds, access.expires_at.seconds) == (said["iat"], said["exp"])
        assert (refresh.active, refresh.kind, refresh.id) == (True, pb.TOKEN_KIND_REFRESH, admin.family_id)

    @pytest.mark.parametrize("token", ["x", "mrt_" + "0" * 32 + ".0." + "A" * 43, "a.b.c", "ü", "\x00", "x" * 8192])
    async def test_what_proves_nothing_is_not_active(self, auth: "Stub", admin: pb.TokenPair, token: str) -> None:
        found = await auth.Introspect(pb.IntrospectRequest(token=token), metadata=of(admin))
        assert found == pb.IntrospectResponse(active=False)
