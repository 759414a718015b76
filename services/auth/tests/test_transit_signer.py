"""The signer in OpenBao: what it leaves there, and what happens when OpenBao is not there."""

import asyncio
import json

import hvac
import pytest

from auth.signer import SignerError
from auth.transit_signer import TransitSigner, _signature
from grpc_common.errors import ExternalServiceError
from localmesh.parts.openbao import OpenBao
from localmesh.ports import free_port
from signers import verifies


async def test_the_private_key_cannot_be_taken_out(vault: hvac.Client) -> None:
    async with TransitSigner(vault, "kept"):
        assert vault.secrets.transit.read_key("kept")["data"]["exportable"] is False
        assert vault.secrets.transit.read_key("kept")["data"]["allow_plaintext_backup"] is False
        with pytest.raises(hvac.exceptions.InvalidRequest):
            vault.secrets.transit.export_key("kept", "signing-key")


async def test_a_key_that_is_there_is_used(vault: hvac.Client) -> None:
    async with TransitSigner(vault, "again") as signer:
        first = await signer.versions()
    async with TransitSigner(vault, "again") as signer:
        assert await signer.versions() == first


async def test_a_key_for_another_algorithm_is_refused(vault: hvac.Client) -> None:
    async with TransitSigner(vault, "curve", "ES256"):
        pass
    async with TransitSigner(vault, "curve", "RS256") as signer:
        with pytest.raises(SignerError, match="the transit key curve is ecdsa-p256 and must be rsa-2048"):
            await signer.versions()


async def test_a_retired_key_is_destroyed_where_it_was(vault: hvac.Client) -> None:
    async with TransitSigner(vault, "trimmed") as signer:
        await signer.rotate()
        await signer.retire(2)

    assert vault.secrets.transit.read_key("trimmed")["data"]["min_available_version"] == 2


async def test_a_token_that_may_sign_and_no_more_signs(vault: hvac.Client) -> None:
    async with TransitSigner(vault, "narrow"):
        pass
    vault.sys.create_or_update_policy("narrow", 'path "transit/sign/narrow" {capabilities = ["update"]}')
    token = vault.auth.token.create(policies=["narrow"], no_default_policy=True)["auth"]["client_token"]
    signer = TransitSigner(hvac.Client(url=vault.url, token=token), "narrow")

    assert len(await signer.sign(1, b"data")) == 64
    with pytest.raises(ExternalServiceError):
        await signer.rotate()


async def test_a_refused_token_is_in_no_error(vault: hvac.Client, capsys: pytest.CaptureFixture[str]) -> None:
    signer = TransitSigner(hvac.Client(url=vault.url, token="s.not-to-be-seen"), "any")

    with pytest.raises(ExternalServiceError) as caught:
        await signer.sign(1, b"data")

    assert caught.value.message == "tokens cannot be signed just now"
    assert caught.value.__cause__ is None
    printed = capsys.readouterr()
    assert "not-to-be-seen" not in printed.out + printed.err + repr(caught.value)


async def test_nobody_there_is_an_error_for_later() -> None:
    signer = TransitSigner(hvac.Client(url=f"http://127.0.0.1:{free_port()}", token="x"), "any")

    for ask in (signer.versions, signer.rotate, lambda: signer.sign(1, b"data")):
        with pytest.raises(ExternalServiceError):
            await ask()


async def test_one_that_does_not_answer_is_given_up_in_time() -> None:
    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    server = await asyncio.start_server(silent, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server, asyncio.timeout(10):
        signer = TransitSigner(hvac.Client(url=f"http://127.0.0.1:{port}", token="x"), "any", timeout=0.2)
        with pytest.raises(ExternalServiceError):
            await signer.sign(1, b"data")


async def test_the_loop_turns_while_it_waits_for_an_answer() -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        body = json.dumps({"data": {"signature": f"vault:v1:{'A' * 86}"}}).encode()
        head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        writer.write(head.encode() + body)
        await writer.drain()

    # The answer comes out of the loop that must not be blocked by the question.
    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    client = hvac.Client(url=f"http://127.0.0.1:{port}", token="x")
    async with server, asyncio.timeout(30):
        assert await TransitSigner(client, "any", timeout=20).sign(1, b"data") == bytes(64)
    client.adapter.close()


@pytest.mark.parametrize(
    "signature",
    [
        "",
        "vault:v2:" + "A" * 86,
        "vault:v1:" + "A" * 85,
        "vault:v1:" + "A" * 87,
        "vault:v1:",
        "vault:v1:====",
        "A" * 86,
    ],
)
def test_a_signature_in_another_form_is_not_passed_on(signature: str) -> None:
    with pytest.raises(SignerError, match="transit signed"):
        _signature(signature, 1, "ES256")


async def test_after_a_restart_it_signs_again_with_the_same_key(own_openbao: OpenBao) -> None:
    client = await asyncio.to_thread(own_openbao.client)
    async with TransitSigner(client, "survivor") as signer:
        before = await signer.versions()
        await own_openbao.stop()
        with pytest.raises(ExternalServiceError):
            await signer.sign(1, b"data")

        await own_openbao.start()
        await asyncio.to_thread(own_openbao.client)
        assert await signer.versions() == before
        assert await verifies(signer, 1, b"data", await signer.sign(1, b"data"))


async def test_a_sealed_one_is_an_error_for_later(own_openbao: OpenBao) -> None:
    client = await asyncio.to_thread(own_openbao.client)
    async with TransitSigner(client, "sealed") as signer:
        await asyncio.to_thread(client.sys.seal)
        with pytest.raises(ExternalServiceError):
            await signer.sign(1, b"data")
