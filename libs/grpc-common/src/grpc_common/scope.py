"""What a scope is written like (RFC 6749 §3.3)."""

import re
from typing import Final

SCOPE: Final = r"[\x21\x23-\x5b\x5d-\x7e]+"
"""The regular expression of one scope, without anchors."""

_SCOPE: Final = re.compile(SCOPE)


def is_scope(text: str) -> bool:
    """Say whether the text is one scope: visible ASCII, without spaces, quotation marks and backslashes."""
    return _SCOPE.fullmatch(text) is not None
