"""URLs as logs and spans may have them: where something is, and nothing that may be a credential (CWE-598)."""

import re
from typing import Final
from urllib.parse import urlsplit

from grpc_common.redaction import REDACTED, redact_text

MAX_PATH: Final = 256
"""Characters of a path in a log or a span."""

_AUTHORITY: Final = re.compile(r"(?i:[a-z][a-z0-9+.-]*:)?//[^/?#;]*")
# Also where they are encoded, or encoded twice: who mistakes a query for a part of the path has sent it all the same.
_AFTER_THE_PATH: Final = re.compile(r"[?#;]|%(?:25){0,3}(?:3[bBfF]|23)")

# Each begins at a "://" and ends before the next: however many there are, a text is gone through once.
_QUERY: Final = re.compile(r"""(://(?:[^\s?#'"<>:]|:(?!//))*)\?[^\s'"<>]+""")


def shown_path(target: bytes) -> str:
    """Return the path of a request's target as it was sent, percent-encoded; "" for a target without one.

    It has no query, fragment or parameter (RFC 3986 §3.3 to §3.5), no authority with its user and password, nothing
    that looks like a secret, and MAX_PATH characters at the most.
    """
    text = target[: 16 * MAX_PATH].decode("ascii", "replace")
    if not text.startswith("/") or text.startswith("//"):
        found = _AUTHORITY.match(text)
        text = text[found.end() :] if found else text if text == "*" else ""
    path = redact_text(_AFTER_THE_PATH.split(text, maxsplit=1)[0])
    return path if len(path) <= MAX_PATH else f"{path[:MAX_PATH]}…"


def shown_url(url: str) -> str:
    """Return `url` without its user, password, query and fragment."""
    parts = urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2], query="", fragment="").geturl()


def without_queries(text: str) -> str:
    """Return a text that others have written, such as an exception's, without the queries of the URLs in it."""
    return _QUERY.sub(rf"\1?{REDACTED}", text) if "://" in text and "?" in text else text
