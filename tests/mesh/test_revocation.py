"""Who logs out is refused by every service, soon and also in the midst of a stream."""

import time

import grpc
import pytest

from meshwork.auth.v1 import auth_service_pb2 as auth_pb
from meshwork.auth.v1.auth_service_pb2_grpc import AuthServiceStub
from meshwork.items.v1 import items_service_pb2 as pb
from meshwork.items.v1.items_service_pb2_grpc import ItemServiceStub

REFUSED_WITHIN = 5.0


def _log_out(mesh, pair):
    with mesh.auth() as auth:
        auth.Logout(auth_pb.LogoutRequest(refresh_token=pair.refresh_token), timeout=10)


def _code(call, request, token):
    with pytest.raises(grpc.RpcError) as refused:
        call(request, timeout=10, metadata=(("authorization", f"Bearer {token}"),))
    return refused.value.code()


def test_a_token_taken_back_is_refused_by_every_service(two_replicas):
    """Each is asked by itself, past the ingress, which looks at no more than signature and time."""
    pair, other = two_replicas.log_in(), two_replicas.log_in()
    nobody = pb.GetItemRequest(id="nobody")
    with (
        grpc.insecure_channel(f"unix:{two_replicas.socket('items')}") as first,
        grpc.insecure_channel(f"unix:{two_replicas.socket('items-2')}") as second,
        grpc.insecure_channel(f"unix:{two_replicas.socket('auth')}") as auth,
    ):
        asked = [(ItemServiceStub(channel).GetItem, nobody) for channel in (first, second)]
        asked.append((AuthServiceStub(auth).GetUser, auth_pb.GetUserRequest(id="nobody")))
        assert {_code(*each, pair.access_token) for each in asked} == {grpc.StatusCode.NOT_FOUND}
        _log_out(two_replicas, pair)
        began = time.monotonic()
        while {_code(*each, pair.access_token) for each in asked} != {grpc.StatusCode.UNAUTHENTICATED}:
            assert time.monotonic() - began < REFUSED_WITHIN
            time.sleep(0.02)
        print(f"refused by all after {time.monotonic() - began:.3f} s")
        assert {_code(*each, other.access_token) for each in asked} == {grpc.StatusCode.NOT_FOUND}


def test_a_client_that_is_deleted_is_refused_by_every_service(two_replicas):
    admin = (("authorization", f"Bearer {two_replicas.token(['admin'])}"),)
    with (
        two_replicas.auth() as auth,
        grpc.insecure_channel(f"unix:{two_replicas.socket('items')}") as first,
        grpc.insecure_channel(f"unix:{two_replicas.socket('items-2')}") as second,
    ):
        client = auth_pb.CreateClientRequest(client_id="importer", roles=["editor"])
        secret = auth.CreateClient(client, timeout=10, metadata=admin).client_secret
        proof = auth_pb.IssueServiceTokenRequest(client_id="importer", client_secret=secret)
        token = auth.IssueServiceToken(proof, timeout=10).access_token
        nobody = pb.GetItemRequest(id="nobody")
        asked = [ItemServiceStub(channel).GetItem for channel in (first, second)]
        assert {_code(call, nobody, token) for call in asked} == {grpc.StatusCode.NOT_FOUND}
        auth.DeleteClient(auth_pb.DeleteClientRequest(client_id="importer"), timeout=10, metadata=admin)
        began = time.monotonic()
        while {_code(call, nobody, token) for call in asked} != {grpc.StatusCode.UNAUTHENTICATED}:
            assert time.monotonic() - began < REFUSED_WITHIN
            time.sleep(0.02)


def test_a_stream_ends_when_its_token_is_taken_back(two_replicas):
    pair = two_replicas.log_in()
    credentials = grpc.ssl_channel_credentials(two_replicas.root_certificate())
    with grpc.secure_channel(f"localhost:{two_replicas.port}", credentials) as channel:
        metadata = (("authorization", f"Bearer {pair.access_token}"),)
        watch = ItemServiceStub(channel).WatchItems(pb.WatchItemsRequest(), timeout=60, metadata=metadata)
        watch.initial_metadata()
        began = time.monotonic()
        _log_out(two_replicas, pair)
        with pytest.raises(grpc.RpcError) as ended:
            for _ in watch:
                pass
    assert ended.value.code() == grpc.StatusCode.UNAUTHENTICATED
    assert time.monotonic() - began < REFUSED_WITHIN


def test_all_sessions_end_by_one_command(two_replicas):
    """As after a restore: whatever was issued before is refused by every service, and who logs in again is at home."""
    pair = two_replicas.log_in()
    nobody = pb.GetItemRequest(id="nobody")
    with (
        grpc.insecure_channel(f"unix:{two_replicas.socket('items')}") as first,
        grpc.insecure_channel(f"unix:{two_replicas.socket('items-2')}") as second,
        grpc.insecure_channel(f"unix:{two_replicas.socket('auth')}") as auth,
    ):
        asked = [(ItemServiceStub(channel).GetItem, nobody) for channel in (first, second)]
        asked.append((AuthServiceStub(auth).GetUser, auth_pb.GetUserRequest(id="nobody")))
        assert {_code(*each, pair.access_token) for each in asked} == {grpc.StatusCode.NOT_FOUND}
        watch = ItemServiceStub(first).WatchItems(
            pb.WatchItemsRequest(), timeout=60, metadata=(("authorization", f"Bearer {pair.access_token}"),)
        )
        watch.initial_metadata()
        assert "refused by every service.\n" in two_replicas.end_sessions()
        began = time.monotonic()
        with pytest.raises(grpc.RpcError) as ended:
            for _ in watch:
                pass
        assert ended.value.code() == grpc.StatusCode.UNAUTHENTICATED
        while {_code(*each, pair.access_token) for each in asked} != {grpc.StatusCode.UNAUTHENTICATED}:
            assert time.monotonic() - began < REFUSED_WITHIN
            time.sleep(0.02)
        refresh = auth_pb.RefreshRequest(refresh_token=pair.refresh_token)
        assert _code(AuthServiceStub(auth).Refresh, refresh, "") == grpc.StatusCode.UNAUTHENTICATED
        again = two_replicas.log_in()
        assert {_code(*each, again.access_token) for each in asked} == {grpc.StatusCode.NOT_FOUND}
    # Through the ingress, too, which looks at the times in a token itself.
    with two_replicas.rest(again.access_token) as http:
        assert http.get("/v1/users/me").status_code == 200
