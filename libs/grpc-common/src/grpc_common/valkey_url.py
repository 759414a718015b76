"""Where a Valkey or Redis is, as settings have it."""

from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, SecretStr


def _is_one(url: SecretStr) -> SecretStr:
    text = url.get_secret_value()
    if text and not text.startswith(("redis://", "rediss://", "unix://")):
        raise ValueError("it must start with redis://, rediss:// or unix://")
    try:
        urlsplit(text).port  # noqa: B018  # looks for it
    except ValueError:  # which would show a part of the password
        raise ValueError("its host or port cannot be read: in the password, write / as %2F and # as %23") from None
    return url


ValkeyURL = Annotated[SecretStr, AfterValidator(_is_one)]
"""`redis://…`, `rediss://…` or `unix://…`, with the password; empty where there is none."""
