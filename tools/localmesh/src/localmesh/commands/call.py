"""`./mesh call`: a call by hand, through the ingress as everybody's, with the API asked of the service."""

import asyncio
import logging
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import structlog
from google.protobuf import message_factory
from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor

from grpc_common.client.channel import ClientChannel
from grpc_common.client.factory import GRPCClientFactory
from grpc_common.client.remote_error import RemoteError
from grpc_common.settings import ClientTLSSettings
from localmesh import descriptors
from localmesh.ask import ask
from localmesh.calling.messages import Messages
from localmesh.calling.reflected import Metadata, Reflected
from localmesh.failure import MeshError, UsageError
from localmesh.state import StateFolder
from localmesh.status import NOT_RUNNING, IngressStatus, Status
from localmesh.topology import Topology, near


@dataclass(frozen=True)
class Call:
    """What was asked for on the command line."""

    service: str
    method: str | None
    request: str
    seconds: float | None
    roles: Sequence[str]
    lists: bool


def call(topology: Topology, state: StateFolder, asked: Call) -> int:
    """Makes the call and prints every reply as it comes, or lists what there is."""
    if asked.service not in topology.services:
        raise UsageError(_which(asked.service, topology))
    ingress = Status.read(state.status).ingress if state.holder() is not None else None
    if ingress is None:
        raise MeshError("the mesh is not running; ./mesh up starts it", exit_status=NOT_RUNNING)
    (token,) = ask(state, {"token": list(asked.roles)})
    metadata = (("authorization", f"Bearer {token}"),)
    # What fails is told to the person once, and in other words.
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    try:
        asyncio.run(_call(ingress, asked, metadata))
    except RemoteError as error:
        raise MeshError(sentence(error), detail=details(error)) from error
    return 0


def _which(service: str, topology: Topology) -> str:
    """What to say of a service that there is not, or that nobody has named."""
    known = ", ".join(topology.services)
    if service:
        return f"there is no service {service}{near(service, topology.services)}; there are: {known}"
    first = next(iter(topology.services))
    return (
        "name a service, a method and the request as JSON: ./mesh call SERVICE METHOD '{…}'\n"
        f"the services are {known}; ./mesh call {first} lists the methods of {first}"
    )


async def _call(ingress: IngressStatus, asked: Call, metadata: Metadata) -> None:
    # The ingress tells the services' reflection apart by authority, which is what the certificate is checked for.
    tls = ClientTLSSettings(ca=Path(ingress.ca), server_name=f"{asked.service}.localhost")
    async with GRPCClientFactory(tls=tls, behind_sidecar=True) as factory:
        channel = await factory.create_channel(ingress.grpc)
        reflected = Reflected(channel, metadata)
        if asked.lists or asked.method is None:
            for service in await reflected.own_services():
                print(listing(service))
            return
        method = await reflected.method(asked.method)
        await _run(channel, method, Messages(reflected.pool, method.input_type), asked, metadata)


async def _run(
    channel: ClientChannel, method: MethodDescriptor, messages: Messages, asked: Call, metadata: Metadata
) -> None:
    with suppress(UsageError):  # a service we do not know has no policy here, and its calls the default timeout
        descriptors.find_service(method.containing_service.full_name)
    kind = "_".join("stream" if streams else "unary" for streams in (method.client_streaming, method.server_streaming))
    make = getattr(channel, kind)(
        f"/{method.containing_service.full_name}/{method.name}",
        lambda message: message.SerializeToString(),
        message_factory.GetMessageClass(method.output_type).FromString,
    )
    sent = messages.many(asked.request) if method.client_streaming else messages.one(asked.request)
    begun = make(sent, timeout=asked.seconds, metadata=metadata)
    if not method.server_streaming:
        print(messages.show(await begun, lines=False))
        return
    async for reply in begun:
        print(messages.show(reply, lines=True), flush=True)


def listing(service: ServiceDescriptor) -> str:
    """The methods of a service, for a person."""
    lines = [service.full_name]
    for method in service.methods:
        takes = ("stream " if method.client_streaming else "") + method.input_type.name
        gives = ("stream " if method.server_streaming else "") + method.output_type.name
        lines.append(f"  {method.name}({takes}) returns ({gives})")
    return "\n".join(lines)


def sentence(error: RemoteError) -> str:
    """What went wrong, in a line."""
    reason = f" ({error.reason})" if error.reason != error.status.name else ""
    return f"{error.method.rpartition('/')[2]}: {error.status.name}{reason}: {error.message}"


def details(error: RemoteError) -> str:
    """What the server has told beyond that, a line each."""
    lines = [f"{violation.field}: {violation.message}" for violation in error.violations]
    if error.retry_after is not None:
        lines.append(f"worth another try in {error.retry_after:g} s")
    lines += [f"{key}: {value}" for key, value in sorted(error.metadata.items())]
    return "\n".join(lines)
