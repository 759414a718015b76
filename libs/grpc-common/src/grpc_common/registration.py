"""What must be true of a service before it is served."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

import grpc
from google.protobuf import descriptor_pool

from grpc_common.call import Handler
from grpc_common.handlers import check_handlers, handlers_of
from grpc_common.policy import INFRASTRUCTURE, NoPolicyError, PolicyError, method_policy, policy_of


class Registration:
    """Takes servicers as `grpc.aio.Server` does, and passes to `server` those that may be served."""

    def __init__(self, server: Any, without_policy: Collection[str] = ()) -> None:
        self._server = server
        self._without_policy = without_policy

    def __getattr__(self, name: str) -> Any:
        return getattr(self._server, name)

    def add_generic_rpc_handlers(self, generic_rpc_handlers: Sequence[grpc.GenericRpcHandler]) -> None:
        """Take handlers; raises PolicyError and HandlerError."""
        check_generic(generic_rpc_handlers, self._without_policy)
        self._server.add_generic_rpc_handlers(generic_rpc_handlers)

    def add_registered_method_handlers(self, service_name: str, method_handlers: Mapping[str, Handler]) -> None:
        """Take handlers; raises PolicyError and HandlerError."""
        check_registered(service_name, method_handlers, self._without_policy)
        self._server.add_registered_method_handlers(service_name, method_handlers)


def check_generic(handlers: Sequence[grpc.GenericRpcHandler], without_policy: Collection[str] = ()) -> None:
    """Raise PolicyError or HandlerError unless all that is known of `handlers` may be served."""
    for handler in handlers:
        known = handlers_of(handler)
        if isinstance(handler, grpc.ServiceRpcHandler):
            check_policies(handler.service_name(), without_policy, [path.rpartition("/")[2] for path in known])
        check_handlers(known)


def check_registered(service: str, handlers: Mapping[str, Handler], without_policy: Collection[str] = ()) -> None:
    """Raise PolicyError or HandlerError unless the `handlers` of a service, by their methods' names, may be served."""
    check_policies(service, without_policy, handlers)
    check_handlers({f"/{service}/{name}": handler for name, handler in handlers.items()})


def check_policies(service: str, without_policy: Collection[str] = (), served: Iterable[str] = ()) -> None:
    """Raise PolicyError unless all methods of `service`, a full name, have a policy, and one that makes sense.

    `served` are the names of methods for which there are handlers; one that the proto does not have can have no policy.

    Health and reflection need none, nor does a service that `without_policy` names; the policies that they have must be
    right all the same. A service that the program has no descriptor of, such as handlers that were written by hand, can
    have none, and is served.
    """
    try:
        descriptor = descriptor_pool.Default().FindServiceByName(service)
    except KeyError:
        return
    problems = [
        f"/{service}/{name} is no method of its proto, so it can have no policy: declare it there, or do not serve it"
        for name in served
        if name not in descriptor.methods_by_name and service not in without_policy
    ]
    for method in descriptor.methods:
        try:
            method_policy(method)
        except NoPolicyError as error:
            if service not in INFRASTRUCTURE and service not in without_policy:
                problems.append(f"{error}, or name {service} in `without_policy` if it is to be served without any")
        except PolicyError as error:
            problems.append(str(error))
    if problems:
        raise PolicyError("\n".join(problems))


def has_no_policy(service: str) -> bool:
    """Say whether a service that is served has methods without a policy, health and reflection not counted."""
    if service in INFRASTRUCTURE:
        return False
    try:
        methods = descriptor_pool.Default().FindServiceByName(service).methods
    except KeyError:
        return True
    return any(policy_of(f"/{service}/{method.name}") is None for method in methods)
