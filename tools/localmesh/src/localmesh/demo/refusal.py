"""A refused call, as its trailers explain it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

import grpc
from google.rpc import error_details_pb2, status_pb2

from meshwork.common.v1 import errors_pb2


@dataclass(frozen=True)
class Refusal:
    """Why a call was refused: the status, the sentence, the stable code, and what is wrong with which field."""

    status: str
    message: str
    code: str
    violations: Mapping[str, str]

    @classmethod
    def of(cls, error: grpc.aio.AioRpcError) -> Self:
        """Reads the two trailers a service sends; a refusal of the mesh itself has none."""
        trailers = dict(error.trailing_metadata() or ())
        detail = errors_pb2.ErrorDetail.FromString(_binary(trailers.get("error-detail-bin")))
        status = status_pb2.Status.FromString(_binary(trailers.get("grpc-status-details-bin")))
        violations: dict[str, str] = {}
        for each in status.details:
            bad = error_details_pb2.BadRequest()
            if each.Unpack(bad):
                violations |= {violation.field: violation.description for violation in bad.field_violations}
        return cls(error.code().name, error.details() or "", detail.code, violations)


def _binary(value: str | bytes | None) -> bytes:
    return value if isinstance(value, bytes) else b""
