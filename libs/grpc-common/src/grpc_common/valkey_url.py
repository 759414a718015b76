"""Where a Valkey or Redis is, as settings have it."""

from typing import Annotated

from pydantic import AfterValidator, SecretStr


def _is_one(url: SecretStr) -> SecretStr:
    if url.get_secret_value() and not url.get_secret_value().startswith(("redis://", "rediss://", "unix://")):
        raise ValueError("it must start with redis://, rediss:// or unix://")
    return url


ValkeyURL = Annotated[SecretStr, AfterValidator(_is_one)]
"""`redis://…`, `rediss://…` or `unix://…`, with the password; empty where there is none."""
