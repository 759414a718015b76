"""Validation: a request is what its proto says before anybody works with it."""

from collections.abc import Awaitable
from typing import Any, ClassVar

from grpc_common.call import Call, Method, Run
from grpc_common.chain import Interceptor
from grpc_common.errors import ValidationError
from grpc_common.validation.constraints import UnsupportedConstraintError
from grpc_common.validation.requests import CheckedContext, CheckedRequests, RequestCheck
from grpc_common.validation.validator import Validator, request_validator


class ValidationInterceptor(Interceptor):
    """A request that breaks constraints of its proto never reaches the handler; its caller is told all of them.

    Where requests are streamed a bad message raises ValidationError in the handler, as it reads that message: left
    alone it ends the call, and a handler that answers each message by itself reads on (`each_request`).
    """

    sees_messages: ClassVar[bool] = True

    def wrap(self, method: Method, call_next: Run) -> Run:
        """Check requests of `method`, if its proto says anything about them."""
        try:
            validator = request_validator(method.path)
        except UnsupportedConstraintError as error:
            return _refusing(str(error))
        if validator is None:
            return call_next
        return _streamed(validator, call_next) if method.request_streaming else _single(validator, call_next)


def _refusing(reason: str) -> Run:
    # A server that called `check_constraints` never comes here. What is raised by `wrap` core would tell the caller.
    def run(call: Call, request: Any) -> Awaitable[Any]:  # noqa: ARG001
        raise UnsupportedConstraintError(reason)

    return run


def _single(validator: Validator, call_next: Run) -> Run:
    violations = validator.violations

    def run(call: Call, request: Any) -> Awaitable[Any]:
        # Bytes are for a handler that an interceptor further in put in the place of the service's own.
        if type(request) is not bytes and (found := violations(request)):
            raise ValidationError(violations=found)
        return call_next(call, request)

    return run


def _streamed(validator: Validator, call_next: Run) -> Run:
    def run(call: Call, request: Any) -> Awaitable[Any]:
        check = RequestCheck(validator)
        call.context = CheckedContext(call.context, check)
        return call_next(call, CheckedRequests(request, check))

    return run
