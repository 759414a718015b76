"""The parameter `scope` (RFC 6749 §3.3)."""

from collections.abc import Set as AbstractSet
from typing import Final

from auth.oauth.error import OAuthError
from auth.oauth.form import Form
from auth.oauth.rules import field_rules
from grpc_common.scope import is_scope

_RULES: Final = field_rules("LoginRequest", "scopes").repeated
MOST, LONGEST = _RULES.max_items, _RULES.items.string.max_len
"""How many there may be, and the characters of each."""


def read_scopes(form: Form) -> frozenset[str]:
    """Return the scopes that are asked for; raise `invalid_scope` where they are not written as scopes are."""
    given = form.get("scope")
    scopes = given.split(" ") if given else []
    if len(scopes) > MOST or not all(len(scope) <= LONGEST and is_scope(scope) for scope in scopes):
        raise OAuthError("invalid_scope", f"scope must be 1 to {MOST} names with single spaces between")
    return frozenset(scopes)


def scope_parameter(scopes: AbstractSet[str]) -> dict[str, str]:
    """Return the parameter of an answer; nothing where there is no scope, for "" is none (appendix A.4)."""
    return {"scope": " ".join(sorted(scopes))} if scopes else {}
