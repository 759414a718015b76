"""Only the very token its issuer signed, for here and for now, proves anything."""

import asyncio
import base64
import hashlib
import hmac
import json
import string
import traceback
from collections.abc import Coroutine
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed448
from hypothesis import example, given, settings
from hypothesis import strategies as st

from grpc_common.errors import UnauthorizedError
from grpc_common.fixed_clock import FixedClock
from grpc_common.jwks import StaticJWKS
from grpc_common.metadata_size import MAX_TOKEN
from grpc_common.principal import Principal
from grpc_common.revocations import Revocations
from grpc_common.token_maker import TokenMaker
from grpc_common.token_verifier import Issuer, TokenVerifier

ALGORITHMS = ("ES256", "EdDSA", "RS256")
LEEWAY = 60.0
BASE64URL = string.ascii_letters + string.digits + "-_"

clock = FixedClock()
makers = {
    algorithm: TokenMaker(f"https://{algorithm}.test", algorithm=algorithm, clock=clock) for algorithm in ALGORITHMS
}
maker = makers["ES256"]
stranger = TokenMaker(maker.issuer, clock=clock)
algorithms = st.sampled_from(ALGORITHMS)
names = st.text(st.characters(codec="utf-8"), min_size=1, max_size=40)
scope_names = st.text(st.sampled_from("abcz:./-_09"), min_size=1, max_size=12)


def run[T](work: Coroutine[Any, Any, T]) -> T:
    return asyncio.run(work)


def verifier(**arguments: Any) -> TokenVerifier:
    issuers = [
        Issuer(maker.issuer, maker.audience, StaticJWKS(maker.jwks()), frozenset({maker.algorithm}))
        for maker in makers.values()
    ]
    return TokenVerifier(issuers, clock=clock, leeway=LEEWAY, **arguments)


async def verify(token: str) -> Principal:
    return await verifier().verify(token)


def refused(token: str) -> UnauthorizedError:
    """Assert that the token is refused and that the refusal gives nothing of it away."""
    judge = verifier()
    with pytest.raises(UnauthorizedError) as caught:
        run(judge.verify(token))
    assert judge.cached(token) is None
    told = "".join(traceback.format_exception(caught.value, chain=True)) + repr(caught.value.metadata)
    for part in token.split("."):
        assert len(part) < 8 or part not in told
    return caught.value


def encode(value: object) -> str:
    data = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


@given(
    algorithm=algorithms,
    subject=names,
    roles=st.frozensets(names, max_size=5),
    scopes=st.frozensets(scope_names, max_size=5),
    lifetime=st.integers(1, 10**6),
    type_=st.sampled_from(["at+jwt", "AT+JWT", "At+Jwt", "application/at+jwt", "APPLICATION/AT+JWT"]),
    audience=st.sampled_from([maker.audience, [maker.audience], ["other", maker.audience]]),
    session=st.just("") | names,
)
@settings(max_examples=150, deadline=None)
def test_what_the_issuer_signed_is_accepted(algorithm, subject, roles, scopes, lifetime, type_, audience, session):
    """**Feature: grpc-microservices-support, Property 4: JWT Authentication Validation**"""
    maker = makers[algorithm]
    claims = maker.claims(subject, roles=roles, scopes=scopes, lifetime=lifetime, session=session)
    claims["aud"] = audience
    principal = run(verify(maker.sign(maker.header() | {"typ": type_}, claims)))
    assert principal == Principal(
        subject=subject,
        issuer=maker.issuer,
        expires_at=claims["exp"] + LEEWAY,
        roles=roles,
        scopes=scopes,
        client_id="tests",
        token_id=claims["jti"],
        session_id=session,
        issued_at=claims["iat"],
        kind="token",
    )


@given(algorithm=algorithms, data=st.data())
@settings(max_examples=600, deadline=None)
def test_a_token_with_one_character_changed_is_refused(algorithm, data):
    """By mutations.

    **Feature: grpc-microservices-support, Property 4: JWT Authentication Validation**
    **Feature: grpc-code-review, Property 8: JWT Validation Security**
    """
    token = makers[algorithm].token(roles=["editor"])
    at = data.draw(st.integers(0, len(token) - 1), label="at")
    character = data.draw(st.sampled_from(BASE64URL + ".=+/ \n\x00é"), label="character")
    how = data.draw(st.sampled_from(["replace", "insert", "delete", "truncate", "append", "swap"]), label="how")
    mutated = {
        "replace": token[:at] + character + token[at + 1 :],
        "insert": token[:at] + character + token[at:],
        "delete": token[:at] + token[at + 1 :],
        "truncate": token[:at],
        "append": token + character,
        "swap": token[:at] + token[at : at + 2][::-1] + token[at + 2 :],
    }[how]
    if mutated != token:
        refused(mutated)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_another_spelling_of_the_same_bytes_is_refused(algorithm):
    token = makers[algorithm].token()
    spare = {0: 0, 2: 4, 3: 2}[len(token.rpartition(".")[2]) % 4]  # bits of the last character that say nothing
    last = BASE64URL_VALUES.index(token[-1])
    for other in range(1, 2**spare):
        twin = token[:-1] + BASE64URL_VALUES[last ^ other]
        assert base64.urlsafe_b64decode(twin.rpartition(".")[2] + "==") == base64.urlsafe_b64decode(
            token.rpartition(".")[2] + "=="
        )
        refused(twin)
    assert spare, "the signature leaves no spare bits and this shows nothing"


BASE64URL_VALUES = string.ascii_uppercase + string.ascii_lowercase + string.digits + "-_"


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_every_single_character_counts(algorithm):
    token = makers[algorithm].token()
    for at, character in enumerate(token):
        refused(token[:at] + ("A" if character != "A" else "B") + token[at + 1 :])


def hmac_secrets(jwk: dict[str, Any]) -> list[bytes]:
    public = jwt.PyJWK(jwk).key
    pem = public.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    der = public.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    return [pem, pem.strip(), der, json.dumps(jwk).encode(), json.dumps({"keys": [jwk]}).encode(), b""]


@given(algorithm=algorithms, size=st.sampled_from([256, 384, 512]), secret=st.integers(0, 5), renamed=st.booleans())
@settings(max_examples=150, deadline=None)
def test_a_public_key_is_no_hmac_secret(algorithm, size, secret, renamed):
    """R4, algorithm confusion: HS* with anything public as the secret, under its own name or the issuer's."""
    maker = makers[algorithm]
    header = maker.header() | {"alg": f"HS{size}" if renamed else algorithm}
    signed = f"{encode(header)}.{encode(maker.claims('alice'))}"
    digest = hmac.new(hmac_secrets(maker.jwk())[secret], signed.encode(), getattr(hashlib, f"sha{size}")).digest()
    refused(f"{signed}.{encode(digest)}")


@given(
    algorithm=algorithms,
    claimed=st.sampled_from(["none", "None", "NONE", "nOnE", "", "HS256", "ES384", "ES256K", "PS256", "Ed25519"]),
    signature=st.sampled_from(["", "AA", None]),
)
@example("ES256", "none", "")
@settings(max_examples=150, deadline=None)
def test_other_algorithms_are_refused(algorithm, claimed, signature):
    """R4, algorithm confusion: no signature, or one by an algorithm that is not the issuer's."""
    maker = makers[algorithm]
    token = maker.sign(maker.header() | {"alg": claimed}, maker.claims("alice"))
    refused(token if signature is None else f"{token.rpartition('.')[0]}.{signature}")


@given(pair=st.permutations(ALGORITHMS))
@settings(max_examples=100, deadline=None)
def test_a_key_serves_only_its_own_algorithm_and_issuer(pair):
    """R4, algorithm confusion: another issuer's key, or the right key under another algorithm's name."""
    signer, victim = makers[pair[0]], makers[pair[1]]
    refused(signer.sign(signer.header(), victim.claims("alice")))
    refused(signer.sign(victim.header(), victim.claims("alice")))
    refused(signer.sign(signer.header() | {"alg": victim.algorithm}, signer.claims("alice")))


@pytest.mark.parametrize("name", ALGORITHMS)
async def test_an_issuer_signs_only_as_it_was_agreed(name):
    others = [maker for maker in makers.values() if maker.algorithm != name]
    document = {"keys": [maker.jwk() for maker in makers.values()]}
    judge = TokenVerifier(
        [Issuer("https://all.test", maker.audience, StaticJWKS(document), frozenset({name}))], clock=clock
    )
    claims = maker.claims("alice") | {"iss": "https://all.test"}
    assert await judge.verify(makers[name].sign(makers[name].header(), claims))
    for other in others:
        with pytest.raises(UnauthorizedError, match="algorithm is not accepted"):
            await judge.verify(other.sign(other.header(), claims))


@pytest.mark.parametrize("curve", [ec.SECP384R1(), ec.SECP256K1(), ec.SECP521R1()])
def test_a_signature_on_another_curve_is_refused(curve):
    key = ec.generate_private_key(curve)
    signed = f"{encode(maker.header())}.{encode(maker.claims('alice'))}".encode()
    algorithm = jwt.algorithms.ECAlgorithm(jwt.algorithms.ECAlgorithm.SHA256)
    refused(f"{signed.decode()}.{encode(algorithm.sign(signed, key))}")


def test_a_signature_by_ed448_is_refused():
    maker = makers["EdDSA"]
    signed = f"{encode(maker.header())}.{encode(maker.claims('alice'))}".encode()
    refused(f"{signed.decode()}.{encode(ed448.Ed448PrivateKey.generate().sign(signed))}")


@pytest.mark.parametrize(
    "signature", [bytes(64), b"\xff" * 64, (b"\x00" * 31 + b"\x01") * 2, b"\x30\x06\x02\x01\x01\x02\x01\x01"]
)
def test_a_signature_that_fits_every_message_is_refused(signature):
    signed = maker.token().rpartition(".")[0]
    refused(f"{signed}.{encode(signature)}")


embedded = st.fixed_dictionaries(
    {},
    optional={
        "jwk": st.just(stranger.jwk()),
        "jku": st.sampled_from(["https://evil.test/jwks.json", "file:///etc/passwd"]),
        "x5u": st.just("https://evil.test/chain.pem"),
        "x5c": st.just(["MIIB"]),
        "x5t": st.just("AAAA"),
        "kid": st.sampled_from(
            [maker.kid, stranger.kid, "", "other", "../../../dev/null", "/etc/passwd", "test-v1\x00", "' OR 1=1 --"]
        ),
    },
)


@given(header=embedded)
@settings(max_examples=150, deadline=None)
def test_a_token_cannot_bring_its_own_key(header):
    """R4, algorithm confusion: `jwk`, `jku`, `x5c`, `x5u` and `kid` chosen by who made the token."""
    refused(stranger.sign(stranger.header() | header, stranger.claims("alice")))


@given(crit=st.sampled_from([[], ["exp"], ["b64"], "exp", None, 1]), b64=st.booleans())
@settings(max_examples=100, deadline=None)
def test_a_token_that_needs_an_extension_is_refused(crit, b64):
    """R4: `crit` is refused, even well signed."""
    refused(maker.sign(maker.header() | {"crit": crit, "b64": b64}, maker.claims("alice")))


@pytest.mark.parametrize(
    "header",
    [
        {"typ": "JOSE"},
        {"typ": "JWT"},
        {"typ": "jwt"},
        {"typ": "application/jwt"},
        {"typ": "at+jwt "},
        {"typ": "at+jwt; v=1"},
        {"typ": "text/at+jwt"},
        {"typ": ""},
        {"typ": "id+jwt"},
        {"typ": "dpop+jwt"},
        {"typ": None},
        {"typ": ["at+jwt"]},
        {"alg": None},
        {"alg": ["ES256"]},
        {"kid": None},
        {"kid": 1},
        {"kid": ["test-v1"]},
    ],
)
def test_a_token_of_another_type_is_refused(header):
    refused(maker.sign(maker.header() | header, maker.claims("alice")))


def test_a_token_that_does_not_say_its_type_is_refused():
    """RFC 9068 §4: a resource server rejects tokens that carry any other value."""
    header = maker.header()
    del header["typ"]
    refused(maker.sign(header, maker.claims("alice")))


def test_what_has_no_scope_says_none():
    """RFC 6749 A.4: a scope is one name at least, so that "" is none; who reads it is not that strict."""
    assert "scope" not in maker.claims("alice")
    assert run(verify(maker.sign(maker.header(), maker.claims("alice") | {"scope": ""}))).scopes == frozenset()


required = ("iss", "aud", "sub", "exp")
not_text = st.none() | st.booleans() | st.integers() | st.just("") | st.just([]) | st.just({}) | st.just("\ud800")
not_time = (
    st.none()
    | st.booleans()
    | st.text(max_size=12)
    | st.just([1_900_000_000])
    | st.floats(max_value=-1e-9)
    | st.integers(max_value=-1)
    | st.floats(min_value=253_402_300_800.0)
    | st.integers(min_value=253_402_300_800)
    | st.just(10**400)
)


@given(name=st.sampled_from(required))
@settings(max_examples=100, deadline=None)
def test_a_claim_that_is_needed_is_missed(name):
    """R4, every claim: absence."""
    claims = maker.claims("alice")
    del claims[name]
    refused(maker.sign(maker.header(), claims))


@given(name=st.sampled_from(("iss", "sub", "client_id", "jti", "sid")), value=not_text)
@settings(max_examples=150, deadline=None)
def test_a_claim_that_is_not_a_text_is_refused(name, value):
    """R4, every claim: names of the wrong type."""
    refused(maker.sign(maker.header(), maker.claims("alice") | {name: value}))


@given(name=st.sampled_from(("exp", "nbf", "iat")), value=not_time)
@example("exp", float("nan"))
@example("exp", float("inf"))
@example("nbf", float("-inf"))
@settings(max_examples=300, deadline=None)
def test_a_time_that_is_not_one_is_refused(name, value):
    """R4, every claim: times that are no finite number of a sane size."""
    refused(maker.sign(maker.header(), maker.claims("alice") | {name: value}))


@pytest.mark.parametrize(
    "text", [b"1e999", b"-1e999", b"NaN", b"Infinity", b"1" * 5000, b"0x7fffffff", b"1_900_000_000"]
)
def test_a_time_beyond_all_numbers_is_refused(text):
    claims = json.dumps(maker.claims("alice") | {"exp": "EXP"}).encode().replace(b'"EXP"', text)
    refused(maker.sign(maker.header(), claims))


@given(offset=st.floats(-10_000, 10_000), name=st.sampled_from(("exp", "nbf", "iat")))
@example(-LEEWAY, "exp")
@example(-LEEWAY + 0.001, "exp")
@example(LEEWAY, "nbf")
@example(LEEWAY + 0.001, "iat")
@settings(max_examples=300, deadline=None)
def test_times_are_held_with_the_leeway_and_no_more(offset, name):
    """R4, expiry: accepted exactly when the clocks could agree."""
    moment = clock.now + offset
    token = maker.sign(maker.header(), maker.claims("alice") | {name: moment})
    good = clock.now < moment + LEEWAY if name == "exp" else moment <= clock.now + LEEWAY
    if good:
        assert run(verify(token)).subject == "alice"
    else:
        assert refused(token).metadata["reason"] == ("expired" if name == "exp" else "not_yet_valid")


@given(
    audience=st.one_of(
        not_text,
        st.text(max_size=20).filter(lambda name: name != maker.audience),
        st.lists(st.text(max_size=20).filter(lambda name: name != maker.audience), max_size=4),
        st.just([[maker.audience]]),
        st.just([maker.audience, 1]),
        st.just([maker.audience, None]),
        st.just({maker.audience: True}),
        st.just(maker.audience.upper()),
        st.just(maker.audience + " "),
    )
)
@settings(max_examples=200, deadline=None)
def test_a_token_for_somebody_else_is_refused(audience):
    """R4, every claim: the audience."""
    refused(maker.sign(maker.header(), maker.claims("alice") | {"aud": audience}))


@given(
    claims=st.one_of(
        st.fixed_dictionaries(
            {"roles": not_text.filter(lambda v: v != []) | st.just("admin") | st.just({"admin": True})}
        ),
        st.fixed_dictionaries({"roles": st.lists(not_text, min_size=1, max_size=3)}),
        st.fixed_dictionaries(
            {
                "scope": st.sampled_from(
                    [None, 1, True, ["a"], {}, " ", "a  b", " a", "a ", "a\tb", "a\nb", 'a"b', "a\\b", "é"]
                )
            }
        ),
    )
)
@settings(max_examples=200, deadline=None)
def test_roles_and_scopes_are_not_guessed(claims):
    """R4, every claim: a token whose roles or scope are malformed proves nothing, rather than something else."""
    refused(maker.sign(maker.header(), maker.claims("alice") | claims))


def test_a_token_says_each_thing_once():
    header, claims = json.dumps(maker.header()).encode(), json.dumps(maker.claims("alice")).encode()
    assert run(verify(maker.sign(header, claims)))
    refused(maker.sign(header, claims[:-1] + b', "sub": "root"}'))
    refused(maker.sign(header, b'{"sub": "root", ' + claims[1:]))
    refused(maker.sign(header[:-1] + b', "alg": "none"}', claims))
    refused(maker.sign(header, claims[:-1] + b', "deep": {"a": 1, "a": 2}}'))


@given(payload=st.binary(max_size=64) | st.sampled_from([b"[]", b"null", b'"a"', b"1", b"[" * 5000, b'{"a":' * 1200]))
@settings(max_examples=200, deadline=None)
def test_signed_rubbish_is_rubbish(payload):
    """R4, malformed tokens: a good signature over what is no JSON object."""
    refused(maker.sign(maker.header(), payload))
    refused(maker.sign(payload, maker.claims("alice")))


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-32", "utf-8-sig"])
def test_json_is_utf_8(encoding):
    refused(maker.sign(maker.header(), json.dumps(maker.claims("alice")).encode(encoding)))


@given(token=st.text(max_size=200) | st.from_regex(r"\A[A-Za-z0-9_-]{0,60}(\.[A-Za-z0-9_-]{0,60}){0,4}\Z"))
@example("")
@example("..")
@example("." * 100)
@example("a.b.c.d.e")
@settings(max_examples=300, deadline=None)
def test_any_other_text_is_refused(token):
    """R4, malformed tokens: no text makes the verifier fail in another way."""
    refused(token)


def test_a_long_token_is_refused_unread():
    claims = maker.claims("alice") | {"padding": "x" * MAX_TOKEN}
    assert str(refused(maker.sign(maker.header(), claims))) == "the token is too long"
    assert refused("." * (MAX_TOKEN + 1)).metadata["reason"] == "malformed"


def test_what_a_refused_caller_is_told():
    now = clock.now
    for header, claims, reason, message in [
        ({}, {"exp": now - 61}, "expired", "token expired"),
        ({}, {"nbf": now + 61}, "not_yet_valid", "the token is not valid yet"),
        ({}, {"aud": "other"}, "not_accepted", "the token is meant for another audience"),
        ({}, {"iss": "https://other.test"}, "not_accepted", "the token's issuer is not accepted"),
        ({}, {"sub": 1}, "malformed", "the token's claim sub is missing or malformed"),
        ({"alg": "RS256"}, {}, "not_accepted", "the token's algorithm is not accepted"),
        ({"kid": "other"}, {}, "not_accepted", "the token's signature is not accepted"),
        ({"crit": ["exp"]}, {}, "malformed", "the token is malformed"),
    ]:
        error = refused(maker.sign(maker.header() | header, maker.claims("alice") | claims))
        assert (error.metadata["reason"], error.message) == (reason, message)


class TestTokensSeenBefore:
    async def test_they_are_known_by_their_whole_text(self):
        judge, token = verifier(), maker.token()
        assert judge.cached(token) is None
        principal = await judge.verify(token)
        assert judge.cached(token) is principal
        assert await judge.verify(token) is principal
        assert judge.cached(token[:-1]) is None
        assert judge.cached(token + " ") is None

    async def test_they_count_until_they_expire(self):
        time = FixedClock()
        judge = TokenVerifier([Issuer(maker.issuer, maker.audience, StaticJWKS(maker.jwks()))], clock=time)
        token = TokenMaker.token(maker, lifetime=100)
        await judge.verify(token)
        time.advance(100 + LEEWAY - 0.001)
        assert judge.cached(token)
        time.advance(0.001)
        assert judge.cached(token) is None
        with pytest.raises(UnauthorizedError, match="expired"):
            await judge.verify(token)

    async def test_they_count_until_they_are_revoked(self):
        revocations = Revocations(clock=clock)
        judge, token = verifier(revocations=revocations), maker.token()
        principal = await judge.verify(token)
        revocations.revoke(principal.token_id)
        assert judge.cached(token) is None
        with pytest.raises(UnauthorizedError, match="revoked"):
            await judge.verify(token)

    async def test_all_of_a_session_count_until_it_is_revoked(self):
        revocations = Revocations(clock=clock)
        judge = verifier(revocations=revocations)
        before, after, other = (maker.token(session=session) for session in ("phone", "phone", "laptop"))
        await judge.verify(before)
        await judge.verify(other)
        revocations.revoke("phone")
        assert judge.cached(before) is None
        with pytest.raises(UnauthorizedError, match="revoked"):
            await judge.verify(after)
        assert judge.cached(other) is not None

    async def test_the_ones_not_used_make_room(self):
        judge = verifier(capacity=3)
        tokens = [maker.token(str(number)) for number in range(4)]
        for token in tokens[:3]:
            await judge.verify(token)
        judge.cached(tokens[0])
        await judge.verify(tokens[3])
        assert [judge.cached(token) is not None for token in tokens] == [True, False, True, True]

    async def test_refused_ones_fill_nothing(self):
        judge = verifier(capacity=3)
        token = maker.token()
        await judge.verify(token)
        for number in range(10):
            with pytest.raises(UnauthorizedError):
                await judge.verify(stranger.token(str(number)))
        assert judge.cached(token)


@pytest.mark.parametrize("algorithms", [frozenset(), {"none"}, {"HS256"}, {"ES256", "HS256"}, {"ES384"}])
def test_an_issuer_cannot_be_given_other_algorithms(algorithms):
    with pytest.raises(ValueError, match="must be some of ES256, EdDSA, RS256"):
        Issuer("https://issuer.test", "meshwork", StaticJWKS(maker.jwks()), frozenset(algorithms))


def test_an_issuer_is_given_once():
    issuer = Issuer(maker.issuer, maker.audience, StaticJWKS(maker.jwks()))
    with pytest.raises(ValueError, match="given twice"):
        TokenVerifier([issuer, Issuer(maker.issuer, "other", StaticJWKS(maker.jwks()))])
