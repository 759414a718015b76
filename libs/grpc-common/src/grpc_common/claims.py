"""What a token with a good signature says, read strictly (RFC 7519 §4.1, RFC 9068 §2.2)."""

import re
from collections.abc import Mapping
from typing import Any, Final, TypeGuard

from grpc_common.errors import UnauthorizedError
from grpc_common.jwt_service import refusal, token_expired
from grpc_common.principal import Principal
from grpc_common.scope import SCOPE

YEAR_10000: Final = 253_402_300_800
"""Unix seconds that no date has; a time from there on is a mistake or an attempt."""
LEEWAY: Final = 60.0
"""Seconds by which the clocks of an issuer and of who reads its tokens may differ."""

_SCOPES: Final = re.compile(rf"(?:{SCOPE}(?: {SCOPE})*)?")


def read_claims(claims: Mapping[str, Any], *, audience: str, now: float, leeway: float) -> Principal:
    """Return who the claims say is calling; raise UnauthorizedError when they are malformed or not for here and now.

    `now` is Unix seconds; the issuer's clock may differ by `leeway` seconds in either direction.
    """
    subject = _text(claims, "sub")
    issuer = _text(claims, "iss")
    if audience not in _audiences(claims):
        raise refusal("not_accepted", "the token is meant for another audience")
    expires, issued, starts = _time(claims, "exp"), _time(claims, "iat"), _time(claims, "nbf")
    if expires is None:
        raise _malformed("exp")
    if now >= expires + leeway:
        raise token_expired()
    if max(issued or 0.0, starts or 0.0) > now + leeway:
        raise refusal("not_yet_valid", "the token is not valid yet")
    return Principal(
        subject=subject,
        issuer=issuer,
        expires_at=expires + leeway,
        roles=_roles(claims),
        scopes=_scopes(claims),
        client_id=_text(claims, "client_id") if "client_id" in claims else "",
        token_id=_text(claims, "jti") if "jti" in claims else "",
        session_id=_text(claims, "sid") if "sid" in claims else "",
        issued_at=issued,
    )


def _malformed(name: str) -> UnauthorizedError:
    return refusal("malformed", f"the token's claim {name} is missing or malformed")


def _is_text(value: object) -> TypeGuard[str]:
    # Half of a surrogate pair is a str in Python and in no encoding: it would fail later, in a log or a query.
    return isinstance(value, str) and value != "" and not any("\ud800" <= letter <= "\udfff" for letter in value)


def _text(claims: Mapping[str, Any], name: str) -> str:
    value = claims.get(name)
    if not _is_text(value):
        raise _malformed(name)
    return value


def _audiences(claims: Mapping[str, Any]) -> list[str]:
    value = claims.get("aud")
    audiences = value if isinstance(value, list) else [value]
    if not audiences or not all(map(_is_text, audiences)):
        raise _malformed("aud")
    return list(audiences)


def _time(claims: Mapping[str, Any], name: str) -> float | None:
    if name not in claims:
        return None
    value = claims[name]
    # A bool is an int to isinstance. No NaN is in the range, and no int too large for a float.
    if type(value) not in (int, float) or not 0 <= value < YEAR_10000:
        raise _malformed(name)
    return float(value)


def _roles(claims: Mapping[str, Any]) -> frozenset[str]:
    value = claims.get("roles", [])
    if not isinstance(value, list) or not all(map(_is_text, value)):
        raise _malformed("roles")
    return frozenset(value)


def _scopes(claims: Mapping[str, Any]) -> frozenset[str]:
    value = claims.get("scope", "")
    if not isinstance(value, str) or _SCOPES.fullmatch(value) is None:
        raise _malformed("scope")
    return frozenset(value.split())
