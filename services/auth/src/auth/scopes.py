"""Which scopes a token gets (RFC 6749 §3.3)."""

from collections.abc import Collection

from grpc_common.errors import ForbiddenError


class ScopeRefusedError(ForbiddenError):
    """A scope was asked for that the token may not have."""

    reason = "SCOPE_REFUSED"


def granted(wanted: Collection[str], allowed: frozenset[str]) -> frozenset[str]:
    """Return the scopes that are wanted, or all that are allowed when none is named.

    Raises:
        ScopeRefusedError: one is not allowed.
    """
    if not wanted:
        return allowed
    if not allowed.issuperset(wanted):
        raise ScopeRefusedError("a scope that is asked for cannot be had: ask for fewer, or for none by name")
    return frozenset(wanted)
