"""Columns for what only this service keeps."""

from typing import override

from pydantic import SecretStr
from sqlalchemy import Dialect, Text
from sqlalchemy.types import TypeDecorator


class Names(TypeDecorator[frozenset[str]]):
    """A set of names, roles or scopes, as one text: sorted, with a space between two (RFC 6749 §3.3)."""

    impl = Text
    cache_ok = True

    @override
    def process_bind_param(self, value: frozenset[str] | None, dialect: Dialect) -> str | None:
        """Join them; a name that is empty or has a space in it would be read as others."""
        if value is None:
            return None
        if any(not name or " " in name for name in value):
            raise ValueError("a name that is empty or has a space in it")
        return " ".join(sorted(value))

    @override
    def process_result_value(self, value: str | None, dialect: Dialect) -> frozenset[str] | None:
        """Take them apart."""
        return None if value is None else frozenset(value.split(" ")) - {""}


class Secret(TypeDecorator[SecretStr]):
    """A text that nobody sees by accident."""

    impl = Text
    cache_ok = True

    @override
    def process_bind_param(self, value: SecretStr | None, dialect: Dialect) -> str | None:
        """Hand it to the database."""
        return None if value is None else value.get_secret_value()

    @override
    def process_result_value(self, value: str | None, dialect: Dialect) -> SecretStr | None:
        """Hide it again."""
        return None if value is None else SecretStr(value)
