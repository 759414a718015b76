"""Ten thousand ways to spoil a token, and none is accepted; `TOKEN_MUTATIONS=1000000 pytest …` tries others."""

import base64
import hashlib
import hmac
import json
import os
import random
import string
from collections.abc import Callable
from typing import Any, Final

import jwt
import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from grpc_common.errors import UnauthorizedError
from grpc_common.fixed_clock import FixedClock
from grpc_common.jwks import StaticJWKS
from grpc_common.token_maker import TokenMaker
from grpc_common.token_verifier import Issuer, TokenVerifier

MUTATIONS: Final = int(os.environ.get("TOKEN_MUTATIONS", "10000"))
SEED: Final = 7519 if "TOKEN_MUTATIONS" not in os.environ else random.SystemRandom().randrange(2**32)
LETTERS: Final = string.ascii_letters + string.digits + "-_.=+/~ \t\n\x00é"

clock = FixedClock()
own = TokenMaker(clock=clock)
stranger = TokenMaker(own.issuer, clock=clock)
rsa = TokenMaker("https://rsa.test", algorithm="RS256", clock=clock)

type Mutation = Callable[[random.Random, str], str]


def _part(value: Any) -> str:
    data = value if isinstance(value, bytes) else json.dumps(value, separators=(",", ":")).encode()
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _bytes(part: str) -> bytes:
    return base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))


def a_character(chance: random.Random, token: str) -> str:
    at = chance.randrange(len(token))
    return token[:at] + chance.choice(LETTERS) + token[at + chance.randrange(2) :]


def a_cut(chance: random.Random, token: str) -> str:
    begin, end = sorted(chance.sample(range(len(token) + 1), 2))
    return token[:begin] + token[end:]


def a_truncation(chance: random.Random, token: str) -> str:
    return token[: chance.randrange(len(token))]


def a_repetition(chance: random.Random, token: str) -> str:
    begin, end = sorted(chance.sample(range(len(token) + 1), 2))
    return token[:end] + token[begin:]


def another_case(chance: random.Random, token: str) -> str:
    return "".join(letter.swapcase() if chance.random() < 0.02 else letter for letter in token)


def a_bit(chance: random.Random, token: str) -> str:
    """One bit of what the parts say, written as it should be."""
    parts = token.split(".")
    which = chance.randrange(3)
    data = bytearray(_bytes(parts[which]))
    data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
    parts[which] = _part(bytes(data))
    return ".".join(parts)


def another_claim(chance: random.Random, token: str) -> str:
    header, claims, signature = token.split(".")
    said = json.loads(_bytes(claims))
    name = chance.choice([*said, "admin"])
    said[name] = chance.choice(["admin", ["admin"], 10**9 * chance.random() * 9, True, None, {}, said.get("sub")])
    return f"{header}.{_part(said)}.{signature}"


def another_header(chance: random.Random, token: str) -> str:
    header, claims, signature = token.split(".")
    said = json.loads(_bytes(header))
    said |= chance.choice(
        [
            {
                "alg": chance.choice(
                    ["none", "None", "HS256", "HS512", "ES384", "ES256K", "PS256", "RS256", "EdDSA", ""]
                )
            },
            {"kid": chance.choice(["", "../../dev/null", rsa.kid, "test-v2", "' OR 1=1 --"])},
            {"jwk": stranger.jwk()},
            {"jku": "https://elsewhere.test/jwks.json"},
            {"x5u": "https://elsewhere.test/chain.pem"},
            {"x5c": ["MIIB"]},
            {"crit": ["exp"]},
            {"b64": False, "crit": ["b64"]},
            {"zip": "DEF"},
            {"typ": chance.choice(["JWT", "id+jwt", "dpop+jwt", "logout+jwt", "secevent+jwt"])},
        ]
    )
    signatures = [signature, "", _part(bytes(64)), _part(b"\xff" * 64)]
    return f"{_part(said)}.{claims}.{chance.choice(signatures)}"


def parts_of_others(chance: random.Random, token: str) -> str:
    """Parts of good tokens put together, but never claims with their own signature."""
    pool = [token, own.token("mallory"), stranger.token(roles=["admin"]), rsa.token()]
    claims, signature = chance.sample(pool, 2)
    return ".".join([chance.choice(pool).split(".")[0], claims.split(".")[1], signature.split(".")[2]])


def signed_by_others(chance: random.Random, token: str) -> str:
    header, claims, _ = token.split(".")
    key = jwt.PyJWK(own.jwk()).key
    secrets = [
        key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo),
        key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo),
        key.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint),
        b"",
    ]
    said = json.loads(_bytes(header)) | chance.choice([{}, {"alg": "HS256"}])
    if chance.random() < 0.5:
        return stranger.sign(said, json.loads(_bytes(claims)))
    signed = f"{_part(said)}.{claims}"
    return f"{signed}.{_part(hmac.new(chance.choice(secrets), signed.encode(), hashlib.sha256).digest())}"


CHEAP: Final[list[Mutation]] = [a_character, a_cut, a_truncation, a_repetition, another_case, a_bit]
CLEVER: Final[list[Mutation]] = [another_claim, another_header, parts_of_others, signed_by_others]


@pytest.mark.parametrize("maker", [own, rsa], ids=["ES256", "RS256"])
async def test_no_mutation_of_a_token_is_accepted(maker: TokenMaker) -> None:
    """P4, by ten thousand mutations of one token."""
    chance = random.Random(SEED)  # noqa: S311
    keys = {each.issuer: each for each in (own, rsa)}.values()
    trusted = [
        Issuer(each.issuer, each.audience, StaticJWKS(each.jwks()), frozenset({each.algorithm})) for each in keys
    ]
    verifier = TokenVerifier(trusted, clock=clock)
    token = maker.token(roles=["editor"], scopes=["items:read"])
    assert (await verifier.verify(token)).subject == "alice"
    tried = 0

    while tried < MUTATIONS:
        mutation = chance.choice([*CHEAP, *CLEVER])
        spoilt = mutation(chance, token)
        if spoilt == token:
            continue
        tried += 1
        try:
            principal = await verifier.verify(spoilt)
        except UnauthorizedError:
            pass
        else:
            pytest.fail(f"{mutation.__name__} (seed {SEED}) made {principal.subject} of {spoilt}")

    assert (await verifier.verify(token)).subject == "alice"
