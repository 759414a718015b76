"""Verifies access tokens in this process, with the public keys of their issuers."""

import time
from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final

from grpc_common.claims import LEEWAY, read_claims
from grpc_common.compact_token import CompactToken, MalformedTokenError
from grpc_common.jwk_set import KEY_OF_ALGORITHM, VerifyingKey
from grpc_common.jwks import KeySource
from grpc_common.jwt_service import refusal, token_revoked
from grpc_common.metadata_size import MAX_TOKEN
from grpc_common.principal import Principal
from grpc_common.revocations import Revocations

CACHED_TOKENS: Final = 10_000


@dataclass(frozen=True, slots=True)
class Issuer:
    """Whom we trust: its `iss`, the `aud` we answer to, where its keys are, and how it signs."""

    name: str
    audience: str
    keys: KeySource
    algorithms: frozenset[str] = frozenset({"ES256"})

    def __post_init__(self) -> None:
        if not self.name or not self.audience:
            raise ValueError("an issuer needs a name and an audience")
        if not self.algorithms or not self.algorithms <= KEY_OF_ALGORITHM.keys():
            raise ValueError(f"the algorithms of {self.name} must be some of {', '.join(KEY_OF_ALGORITHM)}")


class TokenVerifier:
    """The JWTService that asks nobody: signature, issuer, audience and times are checked here (RFC 8725, RFC 9068).

    A token once verified is known by its whole text until it expires, is revoked, or its key is withdrawn. A refused
    one is not remembered: to refuse it again costs little, and made-up tokens would only push out each other.
    `leeway` is seconds, `max_size` characters, `capacity` tokens; `clock` gives Unix seconds.
    """

    def __init__(
        self,
        issuers: Iterable[Issuer],
        *,
        revocations: Revocations | None = None,
        leeway: float = LEEWAY,
        max_size: int = MAX_TOKEN,
        capacity: int = CACHED_TOKENS,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._issuers: dict[str, Issuer] = {}
        for issuer in issuers:
            if self._issuers.setdefault(issuer.name, issuer) is not issuer:
                raise ValueError(f"the issuer {issuer.name} is given twice")
        self._revocations = Revocations(clock=clock) if revocations is None else revocations
        self._leeway = leeway
        self._max_size = max_size
        self._capacity = capacity
        self._clock = clock
        self._verified: OrderedDict[str, tuple[Principal, VerifyingKey]] = OrderedDict()

    @property
    def revocations(self) -> Revocations:
        """What is known of tokens taken back."""
        return self._revocations

    def cached(self, token: str) -> Principal | None:
        """Return the principal of a token that was verified before and still counts."""
        known = self._verified.get(token)
        if known is None:
            return None
        principal, key = known
        if principal.expires_at <= self._clock() or key.retired or self._revocations.covers(principal):
            del self._verified[token]
            return None
        self._verified.move_to_end(token)
        return principal

    async def verify(self, token: str) -> Principal:
        """Return the principal the token proves, or raise UnauthorizedError saying why it proves none."""
        if (known := self.cached(token)) is not None:
            return known
        if len(token) > self._max_size:
            raise refusal("malformed", "the token is too long")
        try:
            parsed = CompactToken.parse(token)
        except MalformedTokenError:
            raise refusal("malformed", "the token is malformed") from None
        issuer, key = await self._signer(parsed)
        principal = read_claims(parsed.claims, audience=issuer.audience, now=self._clock(), leeway=self._leeway)
        if self._revocations.covers(principal):
            raise token_revoked()
        self._verified[token] = principal, key
        if len(self._verified) > self._capacity:
            self._verified.popitem(last=False)
        return principal

    async def _signer(self, parsed: CompactToken) -> tuple[Issuer, VerifyingKey]:
        name = parsed.claims.get("iss")
        issuer = self._issuers.get(name) if isinstance(name, str) else None
        if issuer is None:
            raise refusal("not_accepted", "the token's issuer is not accepted")
        if parsed.algorithm not in issuer.algorithms:
            raise refusal("not_accepted", "the token's algorithm is not accepted")
        key = await issuer.keys.find(parsed.kid, parsed.algorithm)
        if key is None or not key.verify(parsed.signed, parsed.signature):
            raise refusal("not_accepted", "the token's signature is not accepted")
        return issuer, key
