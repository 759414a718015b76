"""Keys are taken only for what they are, and a bad document never replaces a good one."""

import json
import os
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed448, rsa, x25519
from hypothesis import given, settings
from hypothesis import strategies as st

from grpc_common.errors import ExternalServiceError
from grpc_common.jwk_set import MAX_KEYS, KeySet, KeySetError
from grpc_common.jwks import JWKSFile, KeySource, StaticJWKS
from grpc_common.token_maker import TokenMaker

ALGORITHMS = ("ES256", "EdDSA", "RS256")
makers = {algorithm: TokenMaker(algorithm=algorithm, kid=f"{algorithm}-v1") for algorithm in ALGORITHMS}
maker = makers["ES256"]


def public(algorithm: str, key: Any, **members: Any) -> dict[str, Any]:
    jwk = jwt.PyJWS().get_algorithm_by_name(algorithm).to_jwk(key, as_dict=True)
    return {"kid": "odd", "use": "sig"} | jwk | members


odd = {
    "another curve": public("ES384", ec.generate_private_key(ec.SECP384R1()).public_key()),
    "secp256k1": public("ES256K", ec.generate_private_key(ec.SECP256K1()).public_key()),
    "Ed448": public("EdDSA", ed448.Ed448PrivateKey.generate().public_key()),
    "no signatures": {
        "kty": "OKP",
        "crv": "X25519",
        "kid": "odd",
        "x": makers["EdDSA"].jwk()["x"],
        "key": x25519.X25519PrivateKey.generate().public_key().public_bytes_raw().hex(),
    },
    "a secret": {"kty": "oct", "k": "c2VjcmV0", "kid": "odd", "alg": "HS256"},
    "a small RSA key": public("RS256", rsa.generate_private_key(65537, 1024).public_key()),  # noqa: S505
    "a private key": public("ES256", ec.generate_private_key(ec.SECP256R1())),
    "for encryption": maker.jwk() | {"kid": "odd", "use": "enc"},
    "for signing only": maker.jwk() | {"kid": "odd", "key_ops": ["sign"]},
    "for another algorithm": maker.jwk() | {"kid": "odd", "alg": "ES384"},
    "for HMAC": maker.jwk() | {"kid": "odd", "alg": "HS256"},
    "without a kid": {name: value for name, value in maker.jwk().items() if name != "kid"},
    "with a kid that is no text": maker.jwk() | {"kid": 1},
    "with an empty kid": maker.jwk() | {"kid": ""},
    "off the curve": maker.jwk() | {"kid": "odd", "x": maker.jwk()["y"]},
    "of a wrong length": maker.jwk() | {"kid": "odd", "x": "AAAA"},
    "not base64url": maker.jwk() | {"kid": "odd", "x": "?"},
    "half a key": {"kty": "EC", "crv": "P-256", "kid": "odd", "x": maker.jwk()["x"]},
    "with a curve that is no text": maker.jwk() | {"kid": "odd", "crv": ["P-256"]},
    "of no type": {"kid": "odd"},
    "no object": "odd",
    "nothing": None,
}


class TestKeySet:
    @pytest.mark.parametrize("algorithm", ALGORITHMS)
    def test_a_key_is_for_its_algorithm_only(self, algorithm):
        keys = KeySet.of([maker.jwk() for maker in makers.values()])
        for other in (*ALGORITHMS, "none", "HS256"):
            found = keys.find(f"{algorithm}-v1", other)
            assert (found is not None) is (other == algorithm)

    @pytest.mark.parametrize("which", odd)
    def test_keys_of_no_use_are_left_out(self, which):
        keys = KeySet.of([odd[which], maker.jwk()])
        assert keys.kids == {maker.kid}
        with pytest.raises(KeySetError, match="no usable key"):
            KeySet.of([odd[which]])

    @pytest.mark.parametrize(
        ("members", "problem"),
        [
            (None, "no list of keys"),
            ({}, "no list of keys"),
            ("keys", "no list of keys"),
            ([], "no usable key"),
            ([maker.jwk(), TokenMaker(kid=maker.kid).jwk()], "two keys have the same kid"),
            ([maker.jwk()] * (MAX_KEYS + 1), "more than 100 keys"),
        ],
    )
    def test_a_bad_set_is_refused_with_a_reason(self, members, problem):
        with pytest.raises(KeySetError, match=problem):
            KeySet.of(members)

    def test_the_same_key_twice_is_one_key(self):
        assert KeySet.of([maker.jwk(), maker.jwk()]).find(maker.kid, "ES256")

    @given(
        document=st.binary(max_size=100)
        | st.recursive(
            st.none() | st.booleans() | st.integers() | st.text(),
            lambda inner: (
                st.lists(inner) | st.dictionaries(st.sampled_from([*"xyned", "keys", "kty", "crv", "kid"]), inner)
            ),
        ).map(lambda value: json.dumps({"keys": value}).encode())
    )
    @settings(max_examples=200, deadline=None)
    def test_no_document_makes_it_fail_in_another_way(self, document):
        """R4: whatever an issuer serves, it is usable or it is a KeySetError."""
        with pytest.raises(KeySetError):
            KeySet.parse(document)

    @given(
        name=st.sampled_from(["kty", "crv", "x", "y", "n", "e", "alg", "use", "key_ops"]),
        algorithm=st.sampled_from(ALGORITHMS),
        value=st.none()
        | st.booleans()
        | st.integers()
        | st.text(max_size=50)
        | st.lists(st.text(max_size=5), max_size=2)
        | st.just({}),
    )
    @settings(max_examples=300, deadline=None)
    def test_no_member_makes_it_fail_in_another_way(self, name, algorithm, value):
        """R4: a key with a bad member is left out or the key it was, and nothing else happens."""
        keys = KeySet.of([makers[algorithm].jwk() | {"kid": "odd", name: value}, TokenMaker(kid="good").jwk()])
        assert "good" in keys.kids

    def test_a_key_that_stays_is_the_same_and_one_that_goes_is_retired(self):
        old = KeySet.of([maker.jwk() for maker in makers.values()])
        stays, goes = old.find("ES256-v1", "ES256"), old.find("EdDSA-v1", "EdDSA")
        changes = old.find("RS256-v1", "RS256")
        new = KeySet.of([maker.jwk(), TokenMaker(algorithm="RS256", kid="RS256-v1").jwk()])
        new.replace(old)
        assert new.find("ES256-v1", "ES256") is stays
        assert new.find("RS256-v1", "RS256") is not changes
        assert (stays.retired, goes.retired, changes.retired) == (False, True, True)


def test_a_static_set_is_checked_at_once():
    with pytest.raises(KeySetError):
        StaticJWKS({})


class TestFile:
    @staticmethod
    def write(path: Path, text: str) -> None:
        new = path.with_name("new")
        new.write_text(text)
        new.replace(path)

    async def test_it_is_read_again_when_it_changes(self, tmp_path):
        path = tmp_path / "jwks.json"
        source: KeySource = JWKSFile(path)
        self.write(path, json.dumps(maker.jwks()))
        first = await source.find(maker.kid, "ES256")
        assert first
        assert await source.find("next", "ES256") is None
        self.write(path, json.dumps({"keys": [maker.jwk(), TokenMaker(kid="next").jwk()]}))
        assert await source.find("next", "ES256")
        assert await source.find(maker.kid, "ES256") is first
        self.write(path, json.dumps(TokenMaker(kid="next").jwks()))
        assert await source.find(maker.kid, "ES256") is None
        assert first.retired

    async def test_the_check_of_health_notices_where_all_tokens_are_known(self, tmp_path):
        path = tmp_path / "jwks.json"
        source = JWKSFile(path)
        assert not await source.usable()
        path.write_text(json.dumps(maker.jwks()))
        assert await source.usable()
        key = await source.find(maker.kid, "ES256")
        swapped = tmp_path / "next"
        swapped.write_text(json.dumps(TokenMaker(kid="other").jwks()))
        swapped.rename(path)
        assert await source.usable()
        assert key.retired

    async def test_it_may_come_later(self, tmp_path):
        path = tmp_path / "jwks.json"
        source = JWKSFile(path)
        for text in (None, "", "{", "{}"):
            if text is not None:
                self.write(path, text)
            with pytest.raises(ExternalServiceError, match="are not available"):
                await source.find(maker.kid, "ES256")
        self.write(path, json.dumps(maker.jwks()))
        assert await source.find(maker.kid, "ES256")

    @pytest.mark.parametrize("text", [None, "", "{", '{"keys": []}', "[" * 100_000])
    async def test_a_bad_one_leaves_the_keys_as_they_were(self, tmp_path, text):
        path = tmp_path / "jwks.json"
        source = JWKSFile(path)
        self.write(path, json.dumps(maker.jwks()))
        first = await source.find(maker.kid, "ES256")
        if text is None:
            path.unlink()
        else:
            self.write(path, text)
        for _ in range(3):
            assert await source.find(maker.kid, "ES256") is first
        self.write(path, json.dumps(TokenMaker(kid="next").jwks()))
        assert await source.find("next", "ES256")

    async def test_it_may_be_a_link_that_is_swung(self, tmp_path):
        for version in ("one", "two"):
            (tmp_path / version).write_text(json.dumps(TokenMaker(kid=version).jwks()))
        path = tmp_path / "jwks.json"
        path.symlink_to("one")
        source = JWKSFile(path)
        assert await source.find("one", "ES256")
        (tmp_path / "link").symlink_to("two")
        os.replace(tmp_path / "link", path)  # noqa: PTH105
        assert await source.find("two", "ES256")
