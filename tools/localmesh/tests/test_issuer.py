"""Development tokens."""

import json

import jwt

from localmesh.issuer import LIFETIME, Issuer
from localmesh.topology import Tokens

TOKENS = Tokens(issuer="https://issuer.test", audience="shop")


def _verified(issuer, token):
    keys = jwt.PyJWKSet.from_dict(json.loads(issuer.jwks.read_text()))
    key = keys[jwt.get_unverified_header(token)["kid"]]
    return jwt.decode(token, key, algorithms=["ES256"], audience="shop", issuer="https://issuer.test")


def test_a_token_says_what_a_verifier_asks(tmp_path):
    issuer = Issuer(tmp_path / "issuer", TOKENS)
    claims = _verified(issuer, issuer.sign(["editor", "auditor"]))
    assert claims["roles"] == ["editor", "auditor"]
    assert claims["exp"] - claims["iat"] == LIFETIME == 900
    assert {"jti", "nbf", "sub", "scope"} <= set(claims)


def test_the_key_stays_the_same_and_private(tmp_path):
    token = Issuer(tmp_path / "issuer", TOKENS).sign()
    assert _verified(Issuer(tmp_path / "issuer", TOKENS), token)["sub"] == "developer"
    assert (tmp_path / "issuer" / "key.pem").stat().st_mode & 0o777 == 0o600
    assert '"d"' not in (tmp_path / "issuer" / "jwks.json").read_text()
