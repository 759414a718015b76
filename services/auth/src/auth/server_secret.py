"""The secret that refresh tokens are derived from."""

import re
import secrets
from pathlib import Path
from typing import Final

import structlog
from pydantic import SecretBytes, SecretStr

from auth.private_file import make_private, read_private
from auth.refresh import LEAST_SECRET

HEX: Final = re.compile(r"(?:[0-9a-fA-F]{2})+")


class ServerSecretError(Exception):
    """The secret cannot be used; the message says what to do, and nothing of it."""


def read_secrets(text: SecretStr) -> list[SecretBytes]:
    """Return the secrets out of a text of hexadecimal ones with commas between them, the newest first.

    Raises:
        ValueError: one is none, or too short.
    """
    found = [each.strip() for each in text.get_secret_value().split(",")]
    if not all(HEX.fullmatch(each) and len(each) >= 2 * LEAST_SECRET for each in found):
        raise ValueError(f"they need {2 * LEAST_SECRET} hexadecimal digits or more each, with commas between")
    return [SecretBytes(bytes.fromhex(each)) for each in found]


def server_secrets(given: SecretStr, path: Path) -> list[SecretBytes]:
    """Return the secrets that are given, or else those in the file; raises as `read_or_make` does."""
    return read_secrets(given) if given else read_or_make(path)


def read_or_make(path: Path) -> list[SecretBytes]:
    """Return the secrets in the file, which is made the first time and which nobody but its owner may read.

    Raises:
        ServerSecretError: it is not ours alone, or holds no secrets.
    """
    if not path.exists():
        make_private(path, secrets.token_hex(LEAST_SECRET))
        structlog.get_logger(component="refresh").info("made a secret for refresh tokens", path=str(path))
    try:
        return read_secrets(SecretStr(read_private(path).strip()))
    except PermissionError as error:
        raise ServerSecretError(f"{error}: remove it, and everybody logs in again") from None
    except ValueError:
        raise ServerSecretError(f"{path} holds no secrets: remove it, and everybody logs in again") from None
