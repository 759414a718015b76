"""Each algorithm that the settings may name, from a login to who verifies its token by the published keys."""

from pathlib import Path

import httpx
import jwt
import pytest
from served import BOOTSTRAP, calling, settings_in

from auth.main import build
from auth.signer import Algorithm
from grpc_common.jwks import StaticJWKS
from grpc_common.testing import bearer
from grpc_common.token_verifier import Issuer, TokenVerifier
from meshwork.auth.v1 import auth_service_pb2 as pb
from signers import ALGORITHMS

PASSWORD = "seven ducks in a quiet row"


@pytest.mark.parametrize("algorithm", ALGORITHMS)
async def test_whoever_has_the_published_keys_verifies_a_token(tmp_path: Path, algorithm: Algorithm) -> None:
    settings = settings_in(tmp_path, key_algorithm=algorithm)
    async with build(settings) as application, calling(application) as auth:
        await auth.BootstrapAdmin(pb.BootstrapAdminRequest(secret=BOOTSTRAP, username="root", password=PASSWORD))
        token = (await auth.Login(pb.LoginRequest(username="root", password=PASSWORD))).access_token
        assert application.http is not None
        transport = httpx.ASGITransport(application.http)
        async with httpx.AsyncClient(transport=transport, base_url="http://auth") as http:
            published = (await http.get("/.well-known/jwks.json")).json()
        me = await auth.GetUser(pb.GetUserRequest(id="me"), metadata=bearer(token))

    assert [key["alg"] for key in published["keys"]] == [algorithm]
    assert jwt.get_unverified_header(token)["alg"] == algorithm
    issuer = Issuer(settings.issuer, settings.auth.audience, StaticJWKS(published), frozenset({algorithm}))
    assert (await TokenVerifier([issuer]).verify(token)).subject == me.id
    # By a library that is none of ours, too.
    claims = jwt.decode(token, jwt.PyJWK(published["keys"][0]), [algorithm], audience=settings.auth.audience)
    assert claims["sub"] == me.id
