"""Secrets taken out of what is logged: by the name they stand under, and by their shape wherever they stand."""

import re
from collections.abc import Iterable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from datetime import date, timedelta
from decimal import Decimal
from enum import Enum
from functools import lru_cache
from pathlib import PurePath
from typing import Any, Final
from uuid import UUID

REDACTED: Final = "[redacted]"
_REPLACED: Final = rf"\g<1>{REDACTED}"
MAX_TEXT: Final = 16384
"""Characters of one text; the rest is cut off."""
MAX_DEPTH: Final = 16
MAX_ITEMS: Final = 1000
"""Entries of one mapping or list."""

_SECRET_WORDS: Final = (
    "accesskey",
    "apikey",
    "authorization",
    "cookie",
    "credential",
    "passphrase",
    "passwd",
    "password",
    "privatekey",
    "pwd",
    "secret",
    "signingkey",
    "token",
)
# Names with such a word that are worth reading and give nothing away.
_HARMLESS: Final = frozenset({"nextpagetoken", "pagetoken", "resumetoken", "tokentype"})

_NAME: Final = r"""(?i:authorization|cookie|credentials?|passphrase|passwd|password|pwd|secret|token
    |(?:access|api|private)[_-]?key)[\w-]{0,32}"""
_VALUE: Final = r"""(?!None\b|null\b|\[redacted\])
    (?:\\?"(?:[^"\\]|\\.)*"?|\\?'(?:[^'\\]|\\.)*'?|[^\s,;&)}\]]+)"""
# One after the other: what one takes for a value may be where the next begins, as in "token= Bearer abc".
# Every repetition is bounded or starts at a rare word: what is logged may come from a caller who means harm.
_SHAPES: Final = tuple(
    re.compile(shape, re.VERBOSE)
    for shape in (
        r"(-----BEGIN\ [A-Z ]{0,32}PRIVATE\ KEY-----)[\s\S]*?(?:-----END\ [A-Z ]{0,32}PRIVATE\ KEY-----|\Z)",
        r"(://[^\s/:@]{0,256}:)[^\s/]+(?=@)",  # a password in a URL
        r"(\b)eyJ[\w-]{8,}(?:\.[\w-]*){0,4}",  # a JSON Web Token, whole or cut
        r"(\b)hv[sbr]\.[\w-]{16,}",  # a token of Vault or OpenBao
        r"(\b)mrt_[0-9a-f]{8,32}[\w.-]*",  # a refresh token of auth, whole or cut
        r"(\b(?i:(?:proxy-)?authorization|(?:set-)?cookie|x-api-key|password|passwd):\s{0,8})[^\r\n]+",
        rf"""({_NAME}\\?["']\s{{0,8}}[:=]\s{{0,8}})(?:(?i:bearer|basic)\s{{1,8}})*{_VALUE}""",
        rf"""({_NAME}\s?=\s?)(?:[\w-]{{1,64}}\s?=\s?|(?i:bearer|basic)\s{{1,8}})*{_VALUE}""",
        r"""(\b(?i:bearer)\s{1,8})(?:(?i:bearer|basic)\s{1,8})*[^\s"',;]+""",
        r"(\b(?i:basic)\s{1,8})(?=[a-zA-Z/+]*[0-9A-Z=])[A-Za-z0-9+/]{4,}={0,2}",
    )
)
# Every shape has one of these in it; looking for them takes a fraction of the time.
_MARKS: Final = (
    *("://", "eyj", "bearer", "basic", "hvs.", "hvb.", "hvr.", "mrt_", "-----begin"),
    *("authorization", "cookie", "credential", "pass", "pwd", "secret", "token", "key"),
)
_PLAIN: Final = Enum | PurePath | UUID | date | timedelta | Decimal


def redact(value: Any, depth: int = 0) -> Any:
    """Return `value` as plain JSON types without its secrets; what is no JSON becomes its text."""
    kind = type(value)
    if kind is str:
        return redact_text(value)
    if value is None or kind is int or kind is float or kind is bool:
        return value
    if depth >= MAX_DEPTH:
        return "…"
    if isinstance(value, str | _PLAIN):
        return redact_text(str(value))
    if isinstance(value, Mapping):
        return {redact_text(str(key)): redact_value(key, item, depth + 1) for key, item in _some(value.items())}
    if isinstance(value, list | tuple | AbstractSet):
        return [redact(item, depth + 1) for item in _some(value)]
    if isinstance(value, bytes | bytearray | memoryview):
        return redact_text(bytes(value[:MAX_TEXT]).decode("utf-8", "replace"))
    return redact_text(_text(value))


def redact_value(key: Any, value: Any, depth: int = 0) -> Any:
    """Return what may be shown of `value` under the name `key`; None, booleans and emptiness give nothing away."""
    if is_secret(str(key)):
        return value if value is None or value is True or value is False or value == "" else REDACTED
    return redact(value, depth)


def redact_fields(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of a log line; their names are the program's own and stay as they are."""
    shown = {}
    for key, value in fields.items():
        # What most fields are, without two more calls for each.
        if type(value) is str and not is_secret(key):
            shown[key] = redact_text(value)
        else:
            shown[key] = redact_value(key, value)
    return shown


@lru_cache(4096)
def is_secret(key: str) -> bool:
    """Say whether what stands under `key` is a secret, however the name is written: api_key, API-Key, apiKey."""
    name = "".join(filter(str.isalnum, key)).lower()
    return name not in _HARMLESS and any(word in name for word in _SECRET_WORDS)


def redact_text(text: str, limit: int = MAX_TEXT) -> str:
    """Return `text` without what looks like a secret, and at most `limit` characters of it."""
    if len(text) <= _SHORT:
        # Ids are each new and would only push the words that come again out of the cache.
        text = text if text.isalnum() and "eyJ" not in text else _short(text)
        return text if len(text) <= limit else f"{text[:limit]}…"
    # What a cut would leave of a secret has no shape to know it by: look a little further than what is shown.
    shown = _without_shapes(text[: limit + 4096])
    return shown if len(shown) <= limit else f"{shown[:limit]}…"


_SHORT: Final = 64


def _without_shapes(text: str) -> str:
    lowered = text.lower()
    if any(mark in lowered for mark in _MARKS):
        for shape in _SHAPES:
            text = shape.sub(_REPLACED, text)
    return text


_short: Final = lru_cache(4096)(_without_shapes)


def _some[T](items: Iterable[T]) -> Iterator[T]:
    for at, item in enumerate(items):
        if at >= MAX_ITEMS:
            return
        yield item


def _text(value: Any) -> str:
    try:
        return str(value) if isinstance(value, BaseException) else repr(value)
    except Exception as error:  # noqa: BLE001  # a log line must not fail on what it is about
        return f"<{type(value).__name__} whose text fails with {type(error).__name__}>"
