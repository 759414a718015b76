"""What the policy of an RPC says, for the endpoint that does the same over HTTP."""

from grpc_common.policy import MethodPolicy, method_policy
from meshwork.auth.v1 import auth_service_pb2


def policy_of(method: str) -> MethodPolicy:
    """Return the policy of a method of AuthService."""
    return method_policy(auth_service_pb2.DESCRIPTOR.services_by_name["AuthService"].methods_by_name[method])
