"""JSON log lines on standard error, for our own code and for the libraries that use `logging`."""

import logging
import re
import sys
from typing import Any, Final

import orjson
import structlog
from structlog.typing import EventDict

from grpc_common.call import current_call

# Passwords in URLs, and JSON Web Tokens.
_SECRETS: Final = re.compile(r"(?P<user>://[^\s/:@]*:)[^\s@]+@|eyJ[\w-]+\.[\w-]+\.[\w-]*")


def configure_logs(level: str = "info") -> None:
    """Write every line of at least `level` as one JSON object to standard error."""
    number = logging.getLevelNamesMapping()[level.upper()]
    shared: list[Any] = [
        add_call,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.StackInfoRenderer(),
        structlog.processors.format_exc_info,  # without local variables: they hold requests
        redact,
    ]
    structlog.configure(
        processors=[*shared, structlog.processors.JSONRenderer(_dumps)],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=structlog.WriteLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[structlog.stdlib.add_logger_name, *shared],
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.JSONRenderer(_dumps),
            ],
        )
    )
    # The libraries' own chatter starts at warning, unless somebody looks for a fault.
    others = number if level == "debug" else max(number, logging.WARNING)
    logging.basicConfig(level=others, handlers=[handler], force=True)
    logging.captureWarnings(capture=True)


def add_call(_: Any, __: str, event: EventDict) -> EventDict:
    """Say in every line of a handler which call it belongs to."""
    call = current_call.get()
    if call is not None and call.correlation_id:
        event.setdefault("correlation_id", call.correlation_id)
    return event


def redact(_: Any, __: str, event: EventDict) -> EventDict:
    """Take passwords in URLs and tokens out of messages and tracebacks, where other libraries may have put them."""
    for key in ("event", "exception", "reason"):
        value = event.get(key)
        if isinstance(value, str):
            event[key] = without_secrets(value)
    return event


def without_secrets(text: str) -> str:
    """Return `text` with passwords in URLs and JSON Web Tokens replaced."""
    return _SECRETS.sub(lambda found: f"{found['user']}***@" if found["user"] else "***", text)


def _dumps(value: Any, default: Any = None, **_: Any) -> str:
    return orjson.dumps(value, default=default or repr).decode()
