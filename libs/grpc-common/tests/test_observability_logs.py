"""Lines of JSON on standard error."""

import json
import logging
import subprocess
import sys
import threading
import time
from datetime import datetime

import pytest
import structlog
from opentelemetry.sdk.trace import TracerProvider

from grpc_common.call import Call, Method, current_call
from grpc_common.log_sink import MAX_WAITING, LogSink
from grpc_common.logs import configure_logs


class Lines:
    """A sink's far end that can be held up."""

    def __init__(self):
        self.data = b""
        self.writes = 0
        self.open = threading.Event()
        self.open.set()

    def write(self, data):
        self.open.wait(10)
        self.writes += 1
        self.data += data

    def read(self):
        return [json.loads(line) for line in self.data.splitlines()]


def a_sink(lines):
    return LogSink(lines.write, lambda count: b'{"dropped": %d}\n' % count)


@pytest.fixture
def lines():
    """Our own logs and those of `logging`, as they are written; all is as before afterwards."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    before = structlog.get_config()
    lines = Lines()
    sink = configure_logs("info", a_sink(lines))
    lines.flush = sink.flush
    yield lines
    sink.close()
    structlog.reset_defaults()
    structlog.configure(**before)
    root.handlers[:] = handlers
    root.setLevel(level)
    logging.captureWarnings(capture=False)


def written(lines):
    lines.flush()
    return lines.read()


def test_a_line_has_time_level_and_its_fields(lines):
    structlog.get_logger(component="test").info("hello", count=3, nested={"password": "x", "a": [1.5, None]})
    (line,) = written(lines)
    at = datetime.fromisoformat(line.pop("timestamp"))
    assert at.utcoffset().total_seconds() == 0
    assert line == {
        "event": "hello",
        "level": "info",
        "component": "test",
        "count": 3,
        "nested": {"password": "[redacted]", "a": [1.5, None]},
    }


def test_the_level_filters(lines):
    log = structlog.get_logger()
    log.debug("no")
    log.warning("yes")
    assert [line["event"] for line in written(lines)] == ["yes"]


def test_a_line_names_the_span_and_the_call_it_belongs_to(lines):
    call = Call(Method("/a.B/C", "a.B", "C", request_streaming=False, response_streaming=False), None)
    call.correlation_id = "order-17"
    token = current_call.set(call)
    try:
        with TracerProvider(shutdown_on_exit=False).get_tracer("test").start_as_current_span("s") as span:
            structlog.get_logger().info("inside")
            logging.getLogger("other").warning("inside as well")
    finally:
        current_call.reset(token)
    structlog.get_logger().info("outside")
    ours, theirs, outside = written(lines)
    for line in (ours, theirs):
        assert line["trace_id"] == f"{span.get_span_context().trace_id:032x}"
        assert line["span_id"] == f"{span.get_span_context().span_id:016x}"
        assert line["correlation_id"] == "order-17"
    assert not {"trace_id", "span_id", "correlation_id"} & set(outside)


def test_libraries_write_the_same_lines(lines):
    logging.getLogger("some.library").warning("lost %s with password=%s", "it", "hunter2")
    logging.getLogger("some.library").info("chatter")
    try:
        raise ValueError("bad")
    except ValueError:
        logging.getLogger("some.library").exception("failed")
    first, second = written(lines)
    assert first["event"] == "lost it with password=[redacted]"
    assert first["logger"] == "some.library"
    assert first["level"] == "warning"
    assert second["exception"].endswith("ValueError: bad")


def test_an_exception_is_told_with_its_causes_and_without_local_variables(lines):
    def fail(request):
        raise RuntimeError("no")

    try:
        fail("the request's content")
    except RuntimeError:
        structlog.get_logger().exception("failed")
    (line,) = written(lines)
    assert "RuntimeError: no" in line["exception"]
    assert line["level"] == "error"


@pytest.mark.parametrize("value", ["\ud800", 2**70, float("nan"), {1: 2}, b"\xff", object, {3, 4}])
def test_nothing_is_too_odd_to_be_logged(lines, value):
    structlog.get_logger().info("odd", value=value)
    (line,) = written(lines)
    assert line["event"] == "odd"


def test_a_line_break_cannot_forge_a_line(lines):
    structlog.get_logger().info('a\n{"event": "forged"}')
    assert len(written(lines)) == 1


def test_many_lines_are_few_writes(lines):
    log = structlog.get_logger()
    for number in range(1000):
        log.info("line", number=number)
    assert [line["number"] for line in written(lines)] == list(range(1000))
    assert lines.writes < 50


def test_an_error_does_not_wait_for_company():
    lines = Lines()
    sink = LogSink(lines.write, bytes, interval=60)
    sink.put(b'{"event": "before"}\n')
    sink.put_now(b'{"event": "broken"}\n')
    end = time.monotonic() + 5
    while not lines.data and time.monotonic() < end:
        time.sleep(0.001)
    assert [line["event"] for line in lines.read()] == ["before", "broken"]
    sink.close()


def test_a_reader_that_does_not_read_holds_nobody_up_and_losses_are_told():
    lines = Lines()
    lines.open.clear()
    sink = a_sink(lines)
    began = time.monotonic()
    count = 2 * MAX_WAITING + 1000  # as many as may wait are in the write that is held up, and as many wait
    for _ in range(count):
        sink.put(b'{"a": 1}\n')
    assert time.monotonic() - began < 5
    lines.open.set()
    sink.close()
    told = lines.read()
    dropped = sum(line.get("dropped", 0) for line in told)
    assert dropped >= 1000
    assert sum("a" in line for line in told) + dropped == count


def test_writers_that_keep_pace_with_the_sink_do_not_keep_it_from_writing():
    lines = Lines()
    sink = a_sink(lines)

    class Followed:
        """A line that has another one follow it as soon as it is taken."""

        def __bytes__(self):
            if not lines.writes:
                sink.put(self)
            return b'{"a": 1}\n'

    sink.put(Followed())
    sink.flush()
    assert lines.writes
    sink.close()


def test_lines_after_the_close_are_written_at_once():
    lines = Lines()
    sink = a_sink(lines)
    sink.close()
    sink.put(b'{"late": 1}\n')
    assert lines.read() == [{"late": 1}]


def test_lines_of_many_threads_are_whole_and_all_there():
    lines = Lines()
    sink = a_sink(lines)

    def write(name):
        for number in range(500):
            sink.put(b'{"from": %d, "number": %d}\n' % (name, number))

    threads = [threading.Thread(target=write, args=(name,)) for name in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    sink.close()
    told = lines.read()
    for name in range(8):
        assert [line["number"] for line in told if line["from"] == name] == list(range(500))


PROGRAM = """
import logging, structlog
from grpc_common.logs import configure_logs
configure_logs("info")
structlog.get_logger().info("last words", authorization="Bearer abc")
logging.getLogger("x").warning("and these")
"""


def test_a_process_that_ends_has_written_all_to_standard_error():
    ended = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, timeout=60, check=True)  # noqa: S603
    assert ended.stdout == b""
    events = [json.loads(line) for line in ended.stderr.splitlines()]
    assert [event["event"] for event in events] == ["last words", "and these"]
    assert events[0]["authorization"] == "[redacted]"
