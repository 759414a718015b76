"""The parameter `scope` (RFC 6749 §3.3)."""

import re
from typing import Final

from auth.oauth.error import OAuthError
from auth.oauth.form import Form

MOST: Final = 32

_SCOPE: Final = re.compile(r"[\x21\x23-\x5b\x5d-\x7e]{1,64}")


def read_scopes(form: Form) -> frozenset[str]:
    """Return the scopes that are asked for; raise `invalid_scope` where they are not written as scopes are."""
    given = form.get("scope")
    scopes = given.split(" ") if given else []
    if len(scopes) > MOST or not all(map(_SCOPE.fullmatch, scopes)):
        raise OAuthError("invalid_scope", f"scope must be 1 to {MOST} names with single spaces between")
    return frozenset(scopes)
