"""Logging in to a real OpenBao, and staying logged in."""

import asyncio
import logging
import os
import secrets
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, MutableMapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import hvac
import jwt
import pytest
import structlog
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from hvac.exceptions import Forbidden, InvalidRequest
from pydantic import SecretStr
from token_review import token_reviews

from auth.transit_signer import TransitSigner
from auth.vault_door import AppRoleDoor, VaultRefusedError
from auth.vault_login import AppRole, Kubernetes, VaultLogin, vault_client
from auth.vault_session import FIRST_PAUSE
from grpc_common.errors import ExternalServiceError
from localmesh.certificates import Identity
from localmesh.parts.openbao import OpenBao
from localmesh.ports import free_port
from localmesh.testing import install_self_signed
from localmesh.transit import SigningRole

type Lines = list[MutableMapping[str, Any]]


class Account:
    """The role of a service with a name of its own, what it logs in with, and all its secrets."""

    def __init__(self, root: hvac.Client, file: Path) -> None:
        self.name = f"auth-{secrets.token_hex(4)}"
        self.root = root
        self.file = file
        self.role = SigningRole(root, self.name, self.name)
        self.role.set_up()
        self.secrets: set[str] = set()

    @property
    def login(self) -> AppRole:
        return AppRole(self.root.url, SecretStr(self.role.role_id()), self.file)

    def change(self, **fields: Any) -> None:
        """Change the role, of which the rest stays as it is."""
        self.root.auth.approle.create_or_update_approle(self.name, **fields)

    def hand_over(self, wrap_ttl: str = "60s") -> str:
        wrapped = self.root.auth.approle.generate_secret_id(self.name, wrap_ttl=wrap_ttl)["wrap_info"]["token"]
        self.file.write_text(f"{wrapped}\n")
        self.secrets.add(wrapped)
        return str(wrapped)

    def unwrapped(self) -> str:
        """The secret id in the file, which is used up by that."""
        secret_id = hvac.Client(url=self.root.url, token=self.file.read_text().strip()).sys.unwrap()["data"][
            "secret_id"
        ]
        self.secrets.add(secret_id)
        return str(secret_id)


@pytest.fixture
def account(vault: hvac.Client, tmp_path: Path) -> Account:
    return Account(vault, tmp_path / "wrapped")


@pytest.fixture
async def own_account(own_openbao: OpenBao, tmp_path: Path) -> Account:
    """One on an OpenBao that the test may stop."""
    root = await asyncio.to_thread(own_openbao.client)
    return await asyncio.to_thread(Account, root, tmp_path / "wrapped")


@pytest.fixture(autouse=True)
def lines(caplog: pytest.LogCaptureFixture) -> Iterator[Lines]:
    caplog.set_level(logging.DEBUG)
    with structlog.testing.capture_logs() as lines:
        yield lines


@asynccontextmanager
async def signing(account: Account, login: VaultLogin | None = None) -> AsyncIterator[TransitSigner]:
    async with vault_client(login or account.login, timeout=20) as client:
        account.secrets.add(client.token)
        async with TransitSigner(client, account.name, timeout=20) as signer:
            yield signer


async def soon(act: Callable[[], Awaitable[object]]) -> None:
    """Try until it works."""
    async with asyncio.timeout(60):
        while True:
            try:
                await act()
            except ExternalServiceError:
                await asyncio.sleep(0.02)
            else:
                return


def told(lines: Lines) -> list[str]:
    return [line["event"] for line in lines]


async def until_told(lines: Lines, event: str) -> None:
    async with asyncio.timeout(60):
        while event not in told(lines):  # noqa: ASYNC110  # the log tells nobody
            await asyncio.sleep(0.02)


# AppRole


async def test_with_a_wrapped_secret_id_the_signer_does_all_it_needs(account: Account) -> None:
    account.hand_over()
    async with signing(account) as signer:
        await signer.rotate()
        assert [key.version for key in await signer.versions()] == [1, 2]
        assert len(await signer.sign(2, b"data")) == 64
        await signer.retire(2)
        assert [key.version for key in await signer.versions()] == [2]
        assert not account.file.exists()


async def test_what_runs_here_is_reached_past_every_proxy(account: Account, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        for variable in (name, name.upper()):
            monkeypatch.setenv(variable, f"http://127.0.0.1:{free_port()}")
    account.hand_over()
    async with signing(account) as signer:
        assert [key.version for key in await signer.versions()] == [1]


async def test_the_client_may_do_nothing_else(account: Account) -> None:
    account.hand_over()
    async with vault_client(account.login) as client:
        for forbidden in (
            lambda: client.secrets.transit.export_key(account.name, "signing-key"),
            lambda: client.secrets.transit.create_key("another"),
            lambda: client.auth.token.create(),
            lambda: client.sys.list_auth_methods(),
        ):
            with pytest.raises(Forbidden):
                await asyncio.to_thread(forbidden)


async def test_the_token_is_given_back_at_the_end(account: Account) -> None:
    account.hand_over()
    async with vault_client(account.login) as client:
        token = client.token
        account.root.auth.token.lookup(token)
    with pytest.raises(Forbidden):
        account.root.auth.token.lookup(token)
    assert client.token == ""


async def test_a_secret_id_that_somebody_else_has_taken_is_an_alarm(account: Account, lines: Lines) -> None:
    account.hand_over()
    account.unwrapped()
    with pytest.raises(VaultRefusedError, match=r"was used before, or it waited there.*put a fresh one"):
        async with signing(account):
            pass
    (line,) = lines
    assert (line["log_level"], line["event"]) == ("error", "the wrapped secret id may have been stolen")
    assert str(account.file) in line["reason"]
    assert line["waited_seconds"] < 60


async def test_one_that_waited_for_too_long_is_refused(account: Account) -> None:
    wrapped = account.hand_over(wrap_ttl="1s")
    desk = hvac.Client(url=account.root.url, token="")

    async def gone() -> None:
        try:
            await asyncio.to_thread(desk.adapter.post, "/v1/sys/wrapping/lookup", json={"token": wrapped})
        except InvalidRequest:
            return
        raise ExternalServiceError("not yet")

    await soon(gone)
    with pytest.raises(VaultRefusedError, match="was used before, or it waited there for too long"):
        async with signing(account):
            pass


async def test_one_that_was_taken_out_and_wrapped_again_is_an_alarm_and_not_used(
    account: Account, lines: Lines
) -> None:
    account.hand_over()
    secret_id = account.unwrapped()
    fields = {"secret_id": secret_id, "secret_id_num_uses": 1}
    again = account.root.adapter.post("/v1/sys/wrapping/wrap", json=fields, wrap_ttl="60s")["wrap_info"]["token"]
    account.file.write_text(again)
    with pytest.raises(VaultRefusedError, match="wrapped by somebody else, at sys/wrapping/wrap"):
        async with signing(account):
            pass
    assert told(lines) == ["the wrapped secret id may have been stolen"]
    hvac.Client(url=account.root.url, token="").auth.approle.login(account.role.role_id(), secret_id)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "No such file"),
        (b"", "it is empty"),
        (b" \n", "it is empty"),
        (b"\xff\xfe", "it is no text"),
        (b"s.abc\r\nX-Vault-Token: root", "holds no wrapping token"),
        (b"x" * 100_000, "holds no wrapping token"),
        (b"s.aaaaaaaaaaaaaaaaaaaaaaaa", "was used before"),
    ],
)
async def test_what_is_no_wrapping_token_is_refused(account: Account, content: bytes | None, said: str) -> None:
    if content is not None:
        account.file.write_bytes(content)
    with pytest.raises(VaultRefusedError, match=said) as caught:
        async with signing(account):
            pass
    assert str(account.file) in caught.value.message


async def test_a_role_that_is_not_there_is_refused(account: Account) -> None:
    account.hand_over()
    login = AppRole(account.root.url, SecretStr("0" * 36), account.file)
    with pytest.raises(VaultRefusedError, match="refuses the login by AppRole: invalid role"):
        async with signing(account, login):
            pass


def test_the_next_wrapping_token_is_not_removed_with_the_used_one(account: Account) -> None:
    desk = hvac.Client(url=account.root.url, token="").adapter
    account.hand_over()
    handed_over = []

    def ask(path: str, body: Mapping[str, Any], token: str = "") -> Mapping[str, Any]:
        if path == "sys/wrapping/unwrap":
            handed_over.append(account.hand_over())
        headers = {"X-Vault-Token": token} if token else None
        answer: Mapping[str, Any] = desk.post(f"/v1/{path}", json=body, headers=headers)
        return answer

    AppRoleDoor(account.login.role_id, account.file, "approle").enter(ask)
    assert account.file.read_text().strip() == handed_over[0]


async def test_a_token_of_the_surroundings_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    heads = []

    async def note(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heads.append((await reader.readuntil(b"\r\n\r\n")).decode())
        writer.close()

    monkeypatch.setenv("VAULT_TOKEN", "s.of-the-surroundings")
    (tmp_path / "wrapped").write_text("s.aaaaaaaaaaaaaaaaaaaaaaaa")
    server = await asyncio.start_server(note, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    async with server:
        with pytest.raises(ExternalServiceError):
            async with vault_client(AppRole(url, SecretStr("role"), tmp_path / "wrapped"), timeout=20):
                pass
    assert heads
    assert "of-the-surroundings" not in "".join(heads)


# Staying logged in


async def test_a_short_token_is_renewed_again_and_again(account: Account) -> None:
    account.change(token_period="4s")
    account.hand_over()
    assert await signing_for(9, account, account.login) == 1


async def test_before_the_longest_life_of_a_token_is_over_there_is_another(account: Account) -> None:
    account.change(token_period="0", token_ttl="6s", token_max_ttl="9s", secret_id_num_uses=0)
    account.hand_over()
    assert await signing_for(11, account, account.login) > 1


async def test_a_token_that_cannot_be_renewed_is_followed_by_another(account: Account) -> None:
    account.change(token_period="0", token_ttl="5s", token_type="batch", secret_id_num_uses=0)
    account.hand_over()
    assert await signing_for(7, account, account.login) > 1


async def signing_for(seconds: float, account: Account, login: VaultLogin) -> int:
    """Sign all the time, and return how many tokens that took."""
    async with vault_client(login, timeout=20) as client, TransitSigner(client, account.name, timeout=20) as signer:
        tokens = set()
        began = time.monotonic()
        while time.monotonic() - began < seconds:
            await signer.sign(1, b"data")
            tokens.add(client.token)
            await asyncio.sleep(0.05)
    return len(tokens)


async def test_a_token_that_was_revoked_is_replaced_at_once(account: Account, lines: Lines) -> None:
    account.change(secret_id_num_uses=0)
    account.hand_over()
    async with signing(account) as signer:
        await asyncio.to_thread(_revoke_tokens_of, account)
        with pytest.raises(ExternalServiceError):
            await signer.sign(1, b"data")
        await soon(lambda: signer.sign(1, b"data"))  # its lease is an hour
    assert told(lines).count("logged in to OpenBao") == 2


async def test_after_a_secret_id_that_works_once_the_next_is_awaited_in_the_file(
    account: Account, lines: Lines
) -> None:
    account.hand_over()
    async with signing(account) as signer:
        await asyncio.to_thread(_revoke_tokens_of, account)
        with pytest.raises(ExternalServiceError):
            await signer.sign(1, b"data")
        await until_told(lines, "not logged in to OpenBao")
        account.hand_over()
        await soon(lambda: signer.sign(1, b"data"))
    (line,) = [line for line in lines if line["event"] == "not logged in to OpenBao"]
    assert line["log_level"] == "error"
    assert "put one there" in line["reason"]


async def test_many_refusals_are_no_storm_of_renewals(
    account: Account, lines: Lines, caplog: pytest.LogCaptureFixture
) -> None:
    account.change(secret_id_num_uses=0)
    account.hand_over()
    async with vault_client(account.login, timeout=20) as client:
        began = time.monotonic()
        while (lasted := time.monotonic() - began) < 3:  # a token that may not, though it is good
            with pytest.raises(Forbidden):
                await asyncio.to_thread(client.secrets.transit.list_keys)
    assert 1 <= caplog.text.count("/v1/auth/token/renew-self") <= 2 + lasted / FIRST_PAUSE
    assert told(lines).count("logged in to OpenBao") == 1


def _revoke_tokens_of(account: Account) -> None:
    for accessor in account.root.list("auth/token/accessors")["data"]["keys"]:
        try:
            found = account.root.auth.token.lookup_accessor(accessor)["data"]
        except Forbidden:
            continue  # it has ended meanwhile
        if found["meta"] and found["meta"].get("role_name") == account.name:
            account.root.auth.token.revoke_accessor(accessor)


# OpenBao away


async def test_a_process_that_is_killed_and_comes_back_is_used_again(
    own_account: Account, own_openbao: OpenBao
) -> None:
    own_account.hand_over()
    async with signing(own_account) as signer:
        token = signer._client.token
        os.kill(own_openbao.unit.pid, signal.SIGKILL)
        await own_openbao.unit.stop()
        began = time.monotonic()
        with pytest.raises(ExternalServiceError):
            await signer.sign(1, b"data")
        assert time.monotonic() - began < 5
        await own_openbao.unit.start()
        await soon(lambda: signer.sign(1, b"data"))
        assert signer._client.token == token


async def test_after_an_outage_that_the_token_did_not_survive_it_logs_in_again(
    own_account: Account, own_openbao: OpenBao, lines: Lines
) -> None:
    own_account.change(token_period="1s", secret_id_num_uses=0)
    own_account.hand_over()
    async with signing(own_account) as signer:
        await own_openbao.unit.stop()
        await until_told(lines, "not logged in to OpenBao")
        await asyncio.sleep(1.5)  # longer than the token lives
        await own_openbao.unit.start()
        await soon(lambda: signer.sign(1, b"data"))
    assert told(lines).count("logged in to OpenBao") == 2
    assert told(lines).count("not logged in to OpenBao") == 1  # however often it was tried


async def test_a_sealed_one_is_an_error_for_later_and_used_again_when_it_is_open(
    own_account: Account, own_openbao: OpenBao
) -> None:
    own_account.change(token_period="2s")
    own_account.hand_over()
    async with signing(own_account) as signer:
        await asyncio.to_thread(own_account.root.sys.seal)
        began = time.monotonic()
        with pytest.raises(ExternalServiceError):
            await signer.sign(1, b"data")
        assert time.monotonic() - began < 5
        await own_openbao.unit.stop()
        own_account.file.unlink(missing_ok=True)
        await own_openbao.unit.start()  # it unseals itself
        await asyncio.to_thread(own_openbao.client)
        own_account.hand_over()  # should it have taken longer than the token lived
        await soon(lambda: signer.sign(1, b"data"))


async def test_one_that_is_away_at_the_start_is_an_error_and_costs_no_secret_id(
    own_account: Account, own_openbao: OpenBao
) -> None:
    own_account.hand_over()
    login = own_account.login
    await own_openbao.unit.stop()
    began = time.monotonic()
    with pytest.raises(ExternalServiceError, match=r"OpenBao is away \(ConnectionError\)") as caught:
        async with vault_client(login):
            pass
    assert not isinstance(caught.value, VaultRefusedError)
    assert time.monotonic() - began < 5
    await own_openbao.unit.start()
    await asyncio.to_thread(own_openbao.client)
    async with signing(own_account) as signer:
        await signer.sign(1, b"data")


async def test_one_that_does_not_answer_is_given_up_in_time_and_blocks_nobody(tmp_path: Path) -> None:
    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    (tmp_path / "wrapped").write_text("s.aaaaaaaaaaaaaaaaaaaaaaaa")
    server = await asyncio.start_server(silent, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    async with server, asyncio.timeout(10):  # this would not come if the loop were blocked
        with pytest.raises(ExternalServiceError, match="OpenBao is away"):
            async with vault_client(AppRole(url, SecretStr("role"), tmp_path / "wrapped"), timeout=0.3):
                pass


@pytest.mark.parametrize("body", [b"<html>", b"[]", b"{}", b'{"data": null}', b'{"data": {"creation_path": 7}}'])
async def test_something_else_in_its_place_is_an_error(tmp_path: Path, body: bytes) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))
        await writer.drain()
        writer.close()

    (tmp_path / "wrapped").write_text("s.aaaaaaaaaaaaaaaaaaaaaaaa")
    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    async with server:
        with pytest.raises(ExternalServiceError):
            async with vault_client(AppRole(url, SecretStr("role"), tmp_path / "wrapped"), timeout=20):
                pass


# Kubernetes


def _token(name: str) -> str:
    """What Kubernetes puts into a pod; whether it is genuine is for Kubernetes to say."""
    now = int(time.time())
    claims = {
        "iss": "https://kubernetes.default.svc.cluster.local",
        "sub": f"system:serviceaccount:meshwork:{name}",
        "aud": ["https://kubernetes.default.svc.cluster.local"],
        "iat": now,
        "nbf": now,
        "exp": now + 3600,
        "jti": secrets.token_hex(16),
        "kubernetes.io": {"namespace": "meshwork", "serviceaccount": {"name": name, "uid": f"uid-of-{name}"}},
    }
    return jwt.encode(claims, generate_private_key(SECP256R1()), "ES256")


@pytest.fixture
async def pod(account: Account, tmp_path: Path) -> AsyncIterator[tuple[Kubernetes, dict[str, tuple[str, str]]]]:
    """How a pod logs in, and the tokens that its Kubernetes knows."""
    root, mount = account.root, f"kubernetes-{account.name}"
    accounts: dict[str, tuple[str, str]] = {}
    file = tmp_path / "token"
    async with token_reviews(accounts) as url:

        def set_up() -> None:
            root.sys.enable_auth_method("kubernetes", path=mount)
            certificate = Identity("kubernetes", tmp_path / "kubernetes")
            install_self_signed(certificate)  # not asked for over plain HTTP, and wanted all the same
            config = {
                "kubernetes_host": url,
                "disable_local_ca_jwt": True,
                "kubernetes_ca_cert": certificate.ca.read_text(),
            }
            root.write_data(f"auth/{mount}/config", data=config)
            role = {
                "bound_service_account_names": ["auth"],
                "bound_service_account_namespaces": ["meshwork"],
                "token_policies": [f"{account.name}-signs"],
                "token_no_default_policy": True,
                "token_period": "4s",
            }
            root.write_data(f"auth/{mount}/role/auth", data=role)

        await asyncio.to_thread(set_up)
        yield Kubernetes(root.url, "auth", file, mount), accounts
        account.secrets |= set(accounts)


async def test_a_pod_logs_in_and_stays_so(
    account: Account, pod: tuple[Kubernetes, dict[str, tuple[str, str]]], lines: Lines
) -> None:
    login, accounts = pod
    first, second = _token("auth"), _token("auth")
    accounts[first] = "meshwork", "auth"
    login.token.write_text(first)
    async with signing(account, login) as signer:
        began = time.monotonic()
        while time.monotonic() - began < 6:
            await signer.sign(1, b"data")
            await asyncio.sleep(0.05)
        # Kubernetes has replaced the token; the old one is worth nothing any more.
        del accounts[first]
        accounts[second] = "meshwork", "auth"
        login.token.write_text(second)
        await asyncio.to_thread(_revoke_tokens_of_pod, account, login)
        await soon(lambda: signer.sign(1, b"data"))
    assert told(lines).count("logged in to OpenBao") == 2


def _revoke_tokens_of_pod(account: Account, login: Kubernetes) -> None:
    account.root.adapter.post(f"/v1/sys/leases/revoke-prefix/auth/{login.mount}/login")


async def test_a_pod_of_another_account_is_refused(
    account: Account, pod: tuple[Kubernetes, dict[str, tuple[str, str]]]
) -> None:
    login, accounts = pod
    accounts[stranger := _token("items")] = "meshwork", "items"
    unknown = _token("auth")
    account.secrets |= {stranger, unknown}
    for token in (stranger, unknown, "no token"):
        login.token.write_text(token)
        with pytest.raises(VaultRefusedError, match="refuses the login of this pod in the role auth"):
            async with signing(account, login):
                pass
    login.token.unlink()
    with pytest.raises(VaultRefusedError, match="there is no service account's token"):
        async with signing(account, login):
            pass


# Nothing is told


async def test_no_secret_is_in_a_log_line_or_an_error(
    account: Account, lines: Lines, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    account.hand_over()
    errors = []
    async with signing(account) as signer:
        await asyncio.to_thread(_revoke_tokens_of, account)
        for _ in range(3):
            with pytest.raises(ExternalServiceError) as caught:
                await signer.sign(1, b"data")
            errors.append(caught.value)
        await until_told(lines, "not logged in to OpenBao")
    for taken in (True, False):
        account.hand_over()
        if taken:
            account.unwrapped()
        login = AppRole(account.root.url, SecretStr("no-such-role"), account.file)
        with pytest.raises(VaultRefusedError) as refused:
            async with signing(account, login):
                pass
        errors.append(refused.value)
    assert len(account.secrets) >= 5
    printed = capsys.readouterr()
    shown = f"{lines} {caplog.text} {printed} {account.login!r} " + "".join(
        f"{error!r} {error.__cause__!r} {error.__suppress_context__}" for error in errors
    )
    assert "False" not in shown.split("VaultRefusedError")[-1]
    for secret in account.secrets:
        assert secret not in shown


async def test_nobody_there_is_an_error_for_later(tmp_path: Path) -> None:
    (tmp_path / "wrapped").write_text("s.aaaaaaaaaaaaaaaaaaaaaaaa")
    login = AppRole(f"http://127.0.0.1:{free_port()}", SecretStr("role"), tmp_path / "wrapped")
    with pytest.raises(ExternalServiceError, match="OpenBao is away"):
        async with vault_client(login):
            pass
