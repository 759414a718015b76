"""How a process serves HTTP."""

from pathlib import Path
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from grpc_common.listener import is_exposed
from grpc_common.metadata_size import MAX_METADATA


def http_plaintext_refusal(host: str) -> str:
    """Say why the server does not listen on `host`."""
    return (
        f"listening on {host} lets the network read every request, for HTTP is served without TLS: listen on 127.0.0.1 "
        "or on a Unix socket, or set plaintext to behind-mesh where a sidecar encrypts"
    )


class HTTPServerSettings(BaseModel):
    """Where a process serves HTTP beside gRPC, and what one client may take. How long stopping takes, gRPC's say."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    enabled: bool = Field(default=False, description="Whether the process serves HTTP.")
    host: str = Field(default="127.0.0.1", description="The address to listen on; not used with a Unix socket.")
    port: int = Field(default=8080, ge=0, le=65535, description="The port to listen on; 0 takes a free one.")
    unix_socket: Path | None = Field(default=None, description="A Unix socket to listen on instead of a port.")
    plaintext: Literal["behind-mesh"] | None = Field(
        default=None,
        description="`behind-mesh` allows listening on other addresses than loopback.",
    )
    max_connections: int = Field(default=1000, ge=1, description="The most connections at once.")
    max_concurrent_requests: int = Field(default=100, ge=1, description="The most requests worked on at once.")
    max_head: int = Field(
        default=MAX_METADATA, ge=256, description="The most bytes of a request's first line and headers."
    )
    max_body: int = Field(default=1_048_576, ge=0, description="The most bytes of a request's body.")
    request_timeout: float = Field(
        default=10.0,
        gt=0,
        description="Seconds that the head of a request may take to arrive, and its body again, and that a client may "
        "read next to nothing of an answer.",
    )
    idle_timeout: int = Field(
        default=3900,
        ge=1,
        description="Seconds an idle connection is kept: longer than a proxy keeps it, which is an hour for Envoy.",
    )

    @model_validator(mode="after")
    def _plaintext_is_meant(self) -> Self:
        if self.enabled and self.unix_socket is None and is_exposed(self.host) and self.plaintext is None:
            raise ValueError(http_plaintext_refusal(self.host))
        return self
