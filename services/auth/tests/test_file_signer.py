"""The signer in a file: who may read it, and what becomes of a file that is not what it should be."""

import json
import stat
from pathlib import Path

import pytest
import structlog

from auth.file_signer import FileSigner
from auth.signer import SignerError
from grpc_common.fixed_clock import FixedClock


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def set_mode(path: Path, mode: int) -> None:
    path.chmod(mode)


def content_of(path: Path) -> str:
    return path.read_text()


def put(path: Path, content: str) -> None:
    path.parent.mkdir()
    path.write_text(content)
    path.chmod(0o600)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "keys" / "signing.json"


async def test_only_its_owner_may_read_it_after_every_change(path: Path) -> None:
    async with FileSigner(path, "dev") as signer:
        for change in (signer.rotate, lambda: signer.retire(2)):
            assert mode_of(path) == 0o600
            await change()
        assert mode_of(path) == 0o600
    assert [each.name for each in path.parent.iterdir()] == ["signing.json"]


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660])
async def test_a_file_that_others_may_read_is_refused(path: Path, mode: int) -> None:
    async with FileSigner(path, "dev"):
        set_mode(path, mode)

    with pytest.raises(SignerError, match=r"others may read .*signing\.json: make new keys, and `chmod 600`"):
        async with FileSigner(path, "dev"):
            pass


async def test_what_was_made_is_read_again(path: Path, clock: FixedClock) -> None:
    async with FileSigner(path, "dev", clock=clock) as signer:
        clock.advance(100)
        await signer.rotate()
        before = await signer.versions()

    async with FileSigner(path, "dev") as signer:
        assert await signer.versions() == before
        assert [each.made_at for each in before] == [clock.now - 100, clock.now]


async def test_a_file_for_another_algorithm_is_refused(path: Path) -> None:
    async with FileSigner(path, "dev", "ES256"):
        pass

    with pytest.raises(SignerError, match="holds keys for 'ES256', not EdDSA"):
        async with FileSigner(path, "dev", "EdDSA"):
            pass


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{",
        "[]",
        "null",
        "{}",
        '{"algorithm": "ES256"}',
        '{"algorithm": "ES256", "versions": []}',
        '{"algorithm": "ES256", "versions": [{"version": 1, "made_at": 0, "private_key": "shibboleth"}]}',
        '{"algorithm": "ES256", "versions": [{"version": "shibboleth", "made_at": 0, "private_key": ""}]}',
        '{"algorithm": "ES256", "versions": {"shibboleth": 1}}',
    ],
)
async def test_a_file_of_something_else_is_refused_without_quoting_it(path: Path, content: str) -> None:
    put(path, content)

    with pytest.raises(SignerError) as caught:
        async with FileSigner(path, "dev"):
            pass

    assert "shibboleth" not in str(caught.value)
    assert caught.value.__cause__ is None
    assert content_of(path) == content


async def test_the_last_version_cannot_be_retired(path: Path) -> None:
    async with FileSigner(path, "dev") as signer:
        with pytest.raises(SignerError, match="must keep a version"):
            await signer.retire(2)
        assert len(await signer.versions()) == 1


async def test_it_says_that_it_is_for_development_and_nothing_of_the_key(path: Path) -> None:
    with structlog.testing.capture_logs() as lines:
        async with FileSigner(path, "dev") as signer:
            await signer.rotate()

    (warning,) = [line for line in lines if line["log_level"] == "warning"]
    assert "for development only" in warning["event"]
    assert lines[0]["path"] == str(path)
    private = [each["private_key"] for each in json.loads(content_of(path))["versions"]]
    assert not any(key[40:80] in str(lines) for key in private)
