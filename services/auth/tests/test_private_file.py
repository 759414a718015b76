"""Files nobody else may read, and the secret that stands in one."""

import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from pydantic import SecretStr

from auth.private_file import make_private, read_private, replace_private
from auth.server_secret import ServerSecretError, read_or_make, read_secrets

SECRET = "ab" * 32


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "folder" / "file"


def test_it_is_made_for_its_owner_alone(path: Path) -> None:
    make_private(path, "text")

    assert read_private(path) == "text"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_who_makes_it_second_changes_nothing(path: Path) -> None:
    make_private(path, "first")
    make_private(path, "second")

    assert read_private(path) == "first"
    assert list(path.parent.iterdir()) == [path]


def test_it_is_replaced_whole(path: Path) -> None:
    make_private(path, "first")
    with path.open() as old:
        replace_private(path, "second")
        assert old.read() == "first"

    assert read_private(path) == "second"
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660])
def test_one_that_others_may_read_is_not_read(path: Path, mode: int) -> None:
    make_private(path, SECRET)
    path.chmod(mode)

    with pytest.raises(PermissionError, match="others may read"):
        read_private(path)
    with pytest.raises(ServerSecretError, match="remove it"):
        read_or_make(path)


def test_all_who_start_at_once_have_the_same_secret(path: Path) -> None:
    with ThreadPoolExecutor(8) as threads:
        found = list(threads.map(lambda _: read_or_make(path)[0].get_secret_value(), range(8)))

    assert len(set(found)) == 1
    assert len(found[0]) == 32


def test_secrets_are_the_newest_first() -> None:
    found = read_secrets(SecretStr(f"{'01' * 32}, {'02' * 40}"))

    assert [secret.get_secret_value() for secret in found] == [b"\x01" * 32, b"\x02" * 40]


@pytest.mark.parametrize("text", ["", "ab" * 31, "xy" * 32, f"{SECRET},", f"{SECRET},{'ab' * 31}", "a" * 65])
def test_what_is_no_secret_is_refused_and_not_shown(path: Path, text: str) -> None:
    with pytest.raises(ValueError, match="64 hexadecimal digits") as refused:
        read_secrets(SecretStr(text))
    make_private(path, text)
    with pytest.raises(ServerSecretError) as unreadable:
        read_or_make(path)

    for error in (refused, unreadable):
        assert not text or text not in str(error.value)
