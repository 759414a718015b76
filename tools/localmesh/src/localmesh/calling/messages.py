"""Messages as JSON: from the command line, a file or standard input, and back."""

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from google.protobuf import json_format, message_factory
from google.protobuf.descriptor import Descriptor
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message import Message

from localmesh.failure import UsageError

STANDARD_INPUT = "-"
IN_A_FILE = "@"


class Messages:
    """The JSON of one method's messages."""

    def __init__(self, pool: DescriptorPool, request: Descriptor) -> None:
        self._pool = pool
        self._request = message_factory.GetMessageClass(request)

    def parse(self, text: str, where: str = "the request") -> Message:
        """The request that `text` is; raises UsageError that says what is wrong with it."""
        if not text.lstrip().startswith("{"):  # an empty list would be taken for a message without fields
            raise UsageError(f"{where} is no {self._request.DESCRIPTOR.name}: it is no JSON object {{…}}")
        try:
            return json_format.Parse(text, self._request(), descriptor_pool=self._pool)
        except json_format.ParseError as error:
            raise UsageError(f"{where} is no {self._request.DESCRIPTOR.name}: {error}") from error

    def one(self, given: str) -> Message:
        """The one request, given as JSON, `@FILE` or `-`."""
        if given == STANDARD_INPUT:
            with _as_text("standard input"):
                return self.parse(_standard_input().read(), "standard input")
        if given.startswith(IN_A_FILE):
            with _as_text(given[1:]):
                return self.parse(Path(given[1:]).read_text(encoding="utf-8"), given[1:])
        return self.parse(given)

    async def many(self, given: str) -> AsyncIterator[Message]:
        """The requests of a stream, one a line, as they come: of a file, of standard input, or the one given."""
        if given == STANDARD_INPUT:
            with _as_text("standard input"):
                async for number, line in _lines(_standard_input()):
                    yield self.parse(line, f"line {number} of standard input")
        elif given.startswith(IN_A_FILE):
            with _as_text(given[1:]), open(given[1:], encoding="utf-8") as file:  # noqa: ASYNC230, PTH123  # read in a thread
                async for number, line in _lines(file):
                    yield self.parse(line, f"line {number} of {given[1:]}")
        else:
            yield self.parse(given)

    def show(self, message: Message, *, lines: bool) -> str:
        """A reply as JSON: on one line, or for one to look at."""
        fields: dict[str, Any] = json_format.MessageToDict(
            message, preserving_proto_field_name=True, descriptor_pool=self._pool
        )
        return json.dumps(fields, ensure_ascii=False, indent=None if lines else 2)


@contextmanager
def _as_text(where: str) -> Iterator[None]:
    """Says of bytes that are no text where they stand."""
    try:
        yield
    except UnicodeDecodeError as error:
        raise UsageError(f"{where} is no JSON: byte {error.start} of it is no UTF-8") from error


def _standard_input() -> IO[str]:
    if sys.stdin is None:
        raise UsageError("- asks for standard input, which is closed")
    return sys.stdin


async def _lines(file: IO[str]) -> AsyncIterator[tuple[int, str]]:
    number = 0
    while line := await asyncio.to_thread(file.readline):
        number += 1
        if line.strip():
            yield number, line
