"""Users and tokens between the domain and the wire."""

from datetime import UTC, datetime

from auth.introspection import Introspection
from auth.issued import Issued, Session
from auth.user import User
from grpc_common.etag import etag_of
from grpc_common.timestamps import to_timestamp
from meshwork.auth.v1 import auth_service_pb2 as pb

_KINDS = {"access": pb.TOKEN_KIND_ACCESS, "refresh": pb.TOKEN_KIND_REFRESH}


def user_to_proto(user: User) -> pb.User:
    """Return the message that says of a user what others may know."""
    return pb.User(
        id=user.id,
        username=user.username,
        roles=sorted(user.roles),
        disabled=user.disabled,
        created_at=to_timestamp(user.created_at),
        updated_at=to_timestamp(user.updated_at),
        etag=etag_of(user.version),
    )


def session_to_proto(session: Session) -> pb.TokenPair:
    """Return both tokens of a session."""
    return pb.TokenPair(
        access_token=session.access.token.get_secret_value(),
        access_expires_at=to_timestamp(_moment(session.access.expires_at)),
        refresh_token=session.refresh.token.get_secret_value(),
        refresh_expires_at=to_timestamp(_moment(session.refresh.expires_at)),
        family_id=session.refresh.family.id,
        scopes=sorted(session.scopes),
    )


def service_token_to_proto(issued: Issued) -> pb.ServiceToken:
    """Return the token of a client."""
    return pb.ServiceToken(
        access_token=issued.access.token.get_secret_value(),
        expires_at=to_timestamp(_moment(issued.access.expires_at)),
        scopes=sorted(issued.scopes),
    )


def introspection_to_proto(found: Introspection | None) -> pb.IntrospectResponse:
    """Return what a token proves; nothing but that it proves nothing, if so."""
    if found is None:
        return pb.IntrospectResponse(active=False)
    message = pb.IntrospectResponse(
        active=True,
        kind=_KINDS[found.kind],
        subject=found.subject,
        client_id=found.client_id,
        scopes=sorted(found.scopes),
        roles=sorted(found.roles),
        expires_at=to_timestamp(_moment(found.expires_at)),
        id=found.id,
    )
    if found.issued_at is not None:
        message.issued_at.CopyFrom(to_timestamp(_moment(found.issued_at)))
    return message


def signing_key_to_proto(kid: str, signs_from: float) -> pb.SigningKey:
    """Return a new signing key."""
    return pb.SigningKey(key_id=kid, signs_from=to_timestamp(_moment(signs_from)))


def _moment(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)
