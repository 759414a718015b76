"""JSON log lines on standard error, for our own code and for the libraries that use `logging`."""

import atexit
import json
import logging
import sys
import time
import traceback
from dataclasses import dataclass
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Final

import orjson
import structlog
from opentelemetry import trace
from structlog.typing import EventDict

from grpc_common.correlation import correlation_id
from grpc_common.log_sink import LogSink
from grpc_common.redaction import redact_fields, redact_text
from grpc_common.shown_url import without_queries
from grpc_common.unkept_span import SpanFacts

MAX_TRACEBACK: Final = 12_000
"""Characters; of a longer one the beginning and the end are kept."""

_OPTIONS: Final = orjson.OPT_UTC_Z | orjson.OPT_APPEND_NEWLINE
# They complain about each call whose headers are bad, which is the caller's business and would be a way to fill disks.
_CALLERS_FAULTS: Final = ("opentelemetry.baggage.propagation", "opentelemetry.trace.span")


@dataclass(frozen=True, slots=True)
class Shortcut:
    """The way into the sink past structlog, for lines that every call writes."""

    sink: LogSink
    level: int
    """The lowest that is written, as a number of `logging`."""
    processors: list[Any]
    """structlog's own list, which `structlog.testing.capture_logs` exchanges the content of."""

    @property
    def is_open(self) -> bool:
        """Say whether structlog would do now what the shortcut does."""
        return self.processors == _OURS


def shortcut() -> Shortcut | None:
    """Return the shortcut if it is `configure_logs` that has configured structlog, and nobody else since."""
    found = _shortcuts.get("now")
    return found if found is not None and structlog.get_config()["processors"] is found.processors else None


_shortcuts: Final[dict[str, Shortcut]] = {}


def configure_logs(level: str = "info", sink: LogSink | None = None) -> LogSink:
    """Write every line of at least `level` as one JSON object, to standard error unless told otherwise.

    Return the sink: flush it before a process ends in a way that runs no exit handlers.
    """
    number = logging.getLevelNamesMapping()[level.upper()]
    if sink is None:
        sink = LogSink(_to_stderr, _dropped_line)
        atexit.register(sink.close)
    processors = list(_OURS)
    _shortcuts["now"] = Shortcut(sink, number, processors)
    structlog.configure(
        processors=processors,
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=lambda *_: SinkLogger(sink),
        cache_logger_on_first_use=True,
    )
    # The libraries' own chatter starts at warning, unless somebody looks for a fault.
    others = number if level == "debug" else max(number, logging.WARNING)
    logging.basicConfig(level=others, handlers=[SinkHandler(sink)], force=True)
    logging.captureWarnings(capture=True)
    for name in _CALLERS_FAULTS:
        logging.getLogger(name).setLevel(logging.ERROR)
    return sink


class SinkLogger:
    """What structlog's loggers write their rendered lines to."""

    def __init__(self, sink: LogSink) -> None:
        self.debug = self.info = self.warning = self.warn = self.msg = sink.put
        self.error = self.exception = self.critical = self.fatal = sink.put_now


class SinkHandler(logging.Handler):
    """Turns the records of `logging` into the same lines."""

    def __init__(self, sink: LogSink) -> None:
        super().__init__()
        self._sink = sink

    def emit(self, record: logging.LogRecord) -> None:
        """Write `record`."""
        try:
            event: EventDict = {
                "event": without_queries(record.getMessage()),
                "logger": record.name,
                "exc_info": record.exc_info,
            }
            line = render(None, record.levelname.lower(), event)
        except Exception:  # noqa: BLE001  # the way `logging` wants it
            self.handleError(record)
            return
        (self._sink.put_now if record.levelno >= logging.ERROR else self._sink.put)(line)


def render(_: Any, level: str, event: EventDict) -> bytes:
    """Return `event` as one line of JSON, without secrets, with the time and what it belongs to: the call, the span.

    One processor instead of the usual row of them, which takes three times as long.
    """
    # Without local variables: they hold requests.
    exception = event.pop("exc_info", None)
    stack = event.pop("stack_info", None)
    line = redact_fields(event)
    if exception and (shown := _traceback(exception)):
        line["exception"] = shown
    if stack:
        line["stack"] = redact_text("".join(traceback.format_stack()))
    if "correlation_id" not in line and (identity := correlation_id()):
        line["correlation_id"] = redact_text(identity)
    return finish(line, level, time.time(), trace.get_current_span().get_span_context())


_OURS: Final = [render]


def finish(line: dict[str, Any], level: str, at: float, span: SpanFacts) -> bytes:
    """Return the fields, which hold no secrets any more, as a line about what happened `at` (Unix seconds)."""
    if span.trace_id:
        line["trace_id"] = f"{span.trace_id:032x}"
        line["span_id"] = f"{span.span_id:016x}"
    line["level"] = level
    line["timestamp"] = datetime.fromtimestamp(at, UTC)
    try:
        return orjson.dumps(line, option=_OPTIONS)
    except TypeError:  # a number beyond 64 bits, or half of a surrogate pair
        return json.dumps(line, default=_iso).encode() + b"\n"


type ExcInfo = bool | BaseException | tuple[type[BaseException] | None, BaseException | None, TracebackType | None]


def _traceback(exception: ExcInfo) -> str:
    error = exception if isinstance(exception, BaseException) else None
    if error is None:
        error = exception[1] if isinstance(exception, tuple) else sys.exception()
    if error is None:
        return ""
    text = without_queries("".join(traceback.format_exception(error)).rstrip())
    text = redact_text(text, 50 * MAX_TRACEBACK)
    if len(text) <= MAX_TRACEBACK:
        return text
    return f"{text[: MAX_TRACEBACK // 3]}\n…\n{text[-2 * MAX_TRACEBACK // 3 :]}"


def _iso(value: Any) -> str:
    return value.isoformat().replace("+00:00", "Z") if isinstance(value, datetime) else repr(value)


def _dropped_line(count: int) -> bytes:
    return render(None, "warning", {"event": "log lines dropped", "component": "logs", "lines": count})


def _to_stderr(data: bytes) -> None:
    stream = getattr(sys.stderr, "buffer", None)
    if stream is None:
        sys.stderr.write(data.decode())
    else:
        stream.write(data)
    sys.stderr.flush()
