"""Which client asks, and how it proves that (RFC 6749 §2.3)."""

import re
from base64 import b64decode
from dataclasses import dataclass
from typing import Final
from urllib.parse import unquote_plus

from fastapi import Request
from pydantic import SecretStr

from auth.caller import Caller
from auth.client import Client
from auth.oauth.error import OAuthError, invalid_client
from auth.oauth.form import Form
from auth.oauth.rules import field_rules, longest
from auth.service_tokens import ServiceTokens
from auth.sessions import FIRST_PARTY

METHODS: Final = ("client_secret_basic", "client_secret_post")
LONGEST_SECRET: Final = longest("IssueServiceTokenRequest", "client_secret")

_CLIENT_ID: Final = field_rules("IssueServiceTokenRequest", "client_id").string


@dataclass(frozen=True, slots=True)
class Proof:
    """An id and the secret that proves it."""

    client_id: str
    secret: SecretStr


def read_proof(request: Request, form: Form) -> Proof | None:
    """Return how the client proves itself; None: not at all, and then it is the first party, which has no secret.

    Raises:
        OAuthError: `invalid_request` when there are two proofs or none that can be read, `invalid_client` when a client
            that has a secret keeps it to itself.
    """
    given = request.headers.getlist("authorization")
    client_id, secret = form.get("client_id"), form.get("client_secret")
    if len(given) > 1 or (given and secret):
        raise OAuthError("invalid_request", "a client proves itself in one way, not in two")
    if given:
        proof = _basic(given[0])
        if client_id not in ("", proof.client_id):
            raise OAuthError("invalid_request", "the parameter client_id is not the client of the header")
        if proof.client_id == FIRST_PARTY and not proof.secret:
            return None  # how stock clients say that they have none (RFC 6749 §2.3.1 lets an empty one be left out)
    elif secret:
        proof = Proof(client_id, SecretStr(secret))
    elif client_id in ("", FIRST_PARTY):
        return None
    else:
        raise invalid_client("this client must send its secret")
    if not _may_be_client(proof.client_id) or len(proof.secret) > LONGEST_SECRET:
        raise invalid_client("the client id or the client secret is wrong")
    return proof


async def prove(proof: Proof | None, clients: ServiceTokens, caller: Caller) -> Client | None:
    """Return the client that is proved, None for the first party; raise ClientRefusedError, RateLimitError."""
    return await clients.authenticate(proof.client_id, proof.secret, caller) if proof is not None else None


def _may_be_client(client_id: str) -> bool:
    rules = _CLIENT_ID
    return rules.min_len <= len(client_id) <= rules.max_len and re.fullmatch(rules.pattern, client_id) is not None


def _basic(header: str) -> Proof:
    scheme, _, given = header.partition(" ")
    if scheme.lower() != "basic":
        raise invalid_client("a client proves itself with HTTP Basic, or in the body")
    try:
        text = b64decode(given.strip(), validate=True).decode("utf-8")
        client_id, separator, secret = text.partition(":")
        # Encoded as a form before Basic gets them (RFC 6749 §2.3.1).
        proof = Proof(unquote_plus(client_id, errors="strict"), SecretStr(unquote_plus(secret, errors="strict")))
    except ValueError:
        raise invalid_client("the Authorization header cannot be read") from None
    if not separator:
        raise invalid_client("the Authorization header cannot be read")
    return proof
