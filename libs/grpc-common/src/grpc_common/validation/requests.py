"""Streamed requests, each checked as it is read."""

from collections.abc import AsyncIterator
from typing import Any, Self

from google.protobuf.message import Message
from grpc.aio import EOF

from grpc_common.errors import FieldViolation, ValidationError
from grpc_common.validation.validator import Validator


class RequestCheck:
    """Counts the messages of one call and refuses the bad ones, by their place: `[17].name`."""

    __slots__ = ("_count", "_validator")

    def __init__(self, validator: Validator) -> None:
        self._validator = validator
        self._count = 0

    def checked(self, message: Any) -> Any:
        """Return `message`; raise ValidationError when it is bad."""
        place = self._count
        self._count += 1
        if type(message) is not bytes and (found := self._validator.violations(message)):
            raise ValidationError(
                violations=[FieldViolation(f"[{place}].{violation.field}", violation.message) for violation in found]
            )
        return message


class CheckedContext:
    """A servicer context whose `read` gives only good messages and raises ValidationError in place of a bad one."""

    __slots__ = ("_check", "_context")

    def __init__(self, context: Any, check: RequestCheck) -> None:
        self._context = context
        self._check = check

    def __getattr__(self, name: str) -> Any:
        return getattr(self._context, name)

    async def read(self) -> Any:
        """Return the next request, or `grpc.aio.EOF`."""
        message = await self._context.read()
        return message if message is EOF else self._check.checked(message)


class CheckedRequests:
    """The streamed requests of a call. A bad one raises ValidationError in its place; reading on gives the next."""

    __slots__ = ("_check", "_next")

    def __init__(self, requests: AsyncIterator[Any], check: RequestCheck) -> None:
        self._next = requests.__anext__
        self._check = check

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Any:
        return self._check.checked(await self._next())


async def each_request[M: Message](requests: AsyncIterator[M]) -> AsyncIterator[M | ValidationError]:
    """Give every streamed request, or the error that stands in its place: for methods that answer each by itself."""
    while True:
        try:
            request: M | ValidationError = await anext(requests)
        except StopAsyncIteration:
            return
        except ValidationError as error:
            request = error
        yield request
