"""REST for the RPCs that have a `google.api.http` option."""

import base64
from collections.abc import Sequence

from google.protobuf.descriptor import ServiceDescriptor

from localmesh.descriptors import descriptor_set
from localmesh.envoy.config import Config, extension


def transcoder(services: Sequence[ServiceDescriptor]) -> Config:
    """The filter that turns JSON over HTTP into gRPC and back, errors with their details included."""
    files = descriptor_set(services).SerializeToString(deterministic=True)
    return extension(
        "envoy.filters.http.grpc_json_transcoder",
        "filters.http.grpc_json_transcoder.v3.GrpcJsonTranscoder",
        proto_descriptor_bin=base64.b64encode(files).decode(),
        services=[service.full_name for service in services],
        convert_grpc_status=True,
        print_options={"always_print_primitive_fields": True, "preserve_proto_field_names": True},
        # `+` is a space, as browsers, requests and httpx write it
        query_param_unescape_plus=True,
        request_validation_options={
            "reject_unknown_query_parameters": True,
            "reject_binding_body_field_collisions": True,
        },
    )
