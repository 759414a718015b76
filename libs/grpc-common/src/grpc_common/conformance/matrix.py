"""Runs cases over a subject on a real server, and says what does not hold."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from itertools import count
from typing import Final, Self

import grpc
from grpc import StatusCode

from grpc_common.conformance.caller import MAX_MESSAGE, PATIENCE, SHORT, Caller, Received
from grpc_common.conformance.endings import CASES, SECRET, Case, Client, Request
from grpc_common.conformance.servicer import Servicer, Visit
from grpc_common.conformance.subject import Record, Subject

TRIES: Final = 8
SETTLING: Final = 2.0
"""Seconds that a server has to be done with a call after the client has heard of its end."""
_LEAKS: Final = (SECRET, "Traceback", "Error(", "<class")


class Matrix:
    """A subject on its server; one server for all cases."""

    def __init__(self, subject: Subject, servicer: Servicer, caller: Caller, port: int) -> None:
        self._subject = subject
        self._servicer = servicer
        self._caller = caller
        self._port = port
        self._names = map(str, count())
        self._lost: list[str] = []
        self._at_rest = Counter[str]()
        asyncio.get_running_loop().set_exception_handler(lambda _, lost: self._lost.append(str(lost)))

    @classmethod
    @asynccontextmanager
    async def serve(cls, subject: Subject) -> AsyncIterator[Self]:
        """Start the subject's server and connect to it."""
        servicer = Servicer(subject.service)
        options = [("grpc.max_receive_message_length", MAX_MESSAGE)]
        server = grpc.aio.server(interceptors=list(subject.interceptors), options=options)
        server.add_generic_rpc_handlers((servicer.generic(),))
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        caller = Caller(port, subject.service, subject.metadata)
        try:
            matrix = cls(subject, servicer, caller, port)
            await matrix.check(CASES[0])  # connects, and makes what is made once and stays
            matrix._at_rest = running_tasks()
            yield matrix
        finally:
            await caller.close()
            await server.stop(None)

    async def check(self, case: Case) -> list[str]:
        """Make the call of `case` and return a sentence for each thing that is not as it must be."""
        for number in range(TRIES):
            again, findings = await self._try(case, SHORT * 2**number)
            if not again:
                break
        return findings

    async def check_malformed(self) -> list[str]:
        """Send what is no HTTP/2, and return what has been recorded of it: there is no call, so nothing may be."""
        before = self._records()
        reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
        writer.write(b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n" * 2)
        with suppress(ConnectionError):
            await asyncio.wait_for(reader.read(), PATIENCE)
        writer.close()
        return self._findings_of_records(before, None) + await self.check(CASES[0])

    async def _try(self, case: Case, short: float) -> tuple[bool, list[str]]:
        """Return whether the call has to be made again, because it was another one than was meant, and the findings."""
        self._lost.clear()
        before, tasks = self._records(), running_tasks()
        visit = Visit(next(self._names), case.ending.end, case.ending.reply)
        received = await self._call(case, visit, short)
        if received is None:
            return False, [f"the call was not over after {2 * PATIENCE} s"]
        leaked = await self._leaked(tasks)
        del self._servicer.visits[visit.name]
        findings = [*self._findings_of_client(case, received), *self._findings_of_handler(visit)]
        if leaked:
            findings.append(f"tasks are left: {', '.join(leaked)}")
        if self._subject.maps_errors:
            findings += [f"an exception was lost: {lost}" for lost in self._lost]
        findings += self._findings_of_records(before, case)
        findings += self.findings_of_gauges()
        # On a busy machine a short deadline may pass before the call gets to its handler.
        missed = case.ending.client is Client.RUNS_OUT and not visit.entered.is_set()
        return received.glitch or missed, findings

    async def call(self, case: Case) -> list[str]:
        """Make the call of `case`, perhaps beside others, and check only what its client and its handler see."""
        for _ in range(TRIES):
            visit = Visit(next(self._names), case.ending.end, case.ending.reply)
            received = await self._call(case, visit, SHORT)
            if received is None or not received.glitch:
                break
        if received is None:
            return [f"{case} was not over after {2 * PATIENCE} s"]
        if visit.entered.is_set():
            with suppress(TimeoutError):
                await asyncio.wait_for(visit.left.wait(), SETTLING)
        self._servicer.visits.pop(visit.name, None)
        findings = [*self._findings_of_client(case, received), *self._findings_of_handler(visit)]
        return [f"{case}: {found}" for found in findings]

    async def rest(self) -> None:
        """Wait until no call is worked on any more, for at most SETTLING seconds."""
        await self._leaked(self._at_rest)

    def findings_of_gauges(self) -> list[str]:
        """Return a sentence for each gauge that is not 0; at rest there must be none."""
        read = {gauge: value() for gauge, value in self._subject.gauges.items()}
        return [f"the gauge {gauge} stays at {value}" for gauge, value in read.items() if value != 0]

    async def _call(self, case: Case, visit: Visit, short: float) -> Received | None:
        self._servicer.visits[visit.name] = visit
        unanswered = case.ending.unanswered and not self._subject.maps_errors
        seconds = short if unanswered or case.ending.client is Client.RUNS_OUT else PATIENCE
        try:
            async with asyncio.timeout(2 * PATIENCE):
                return await self._caller.call(case, visit, seconds)
        except TimeoutError:
            return None

    async def _leaked(self, before: Counter[str]) -> list[str]:
        """Wait until no more tasks run than before, and name those that do not end."""
        end = asyncio.get_running_loop().time() + SETTLING
        # Nobody tells when a task of grpc.aio's own is over.
        while (left := running_tasks() - before) and asyncio.get_running_loop().time() < end:  # noqa: ASYNC110
            await asyncio.sleep(0.001)
        return sorted(left.elements())

    def _statuses(self, case: Case) -> frozenset[StatusCode]:
        ending, subject = case.ending, self._subject
        status = subject.statuses.get(ending.name)
        if status is not None:
            return frozenset({status})
        return (not subject.maps_errors and ending.unmapped) or frozenset({ending.status})

    def _findings_of_client(self, case: Case, received: Received) -> list[str]:
        findings = []
        expected = case.ending.received or self._statuses(case)
        if case.ending.unanswered and not self._subject.maps_errors:
            expected = frozenset({StatusCode.DEADLINE_EXCEEDED})
        if received.status not in expected:
            findings.append(f"the client received {received.status} instead of {_either(expected)}: {received.text}")
        if self._subject.maps_errors:
            findings += [f"{leak!r} was leaked: {received.text}" for leak in _LEAKS if leak in received.text]
        return findings

    def _findings_of_handler(self, visit: Visit) -> list[str]:
        if not visit.entered.is_set():
            return []
        if not visit.left.is_set():
            return ["the handler's clean-up has not run"]
        if self._subject.closes_handlers and visit.tasks[0] is not visit.tasks[1]:
            return ["the handler's clean-up ran in another task than the handler"]
        return []

    def _records(self) -> dict[str, Counter[Record]]:
        return {name: Counter(observer.records()) for name, observer in self._subject.observers.items()}

    def _findings_of_records(self, before: dict[str, Counter[Record]], case: Case | None) -> list[str]:
        findings = []
        for name, records in self._records().items():
            new = sorted((records - before[name]).elements())
            expected = self._expected(case, self._subject.observers[name].only)
            if not _fit(new, expected):
                findings.append(f"the observer {name} has recorded {new} instead of one of {expected}")
        return findings

    def _expected(self, case: Case | None, only: frozenset[StatusCode] | None) -> list[Record | None]:
        """Return the records of which there must be one; None among them means that there may be none."""
        if case is None or case.ending.name in self._subject.out_of_reach:
            return [None]
        path = "" if case.ending.request is Request.NO_SUCH_METHOD else f"/{self._subject.service}/{case.style.name}"
        expected = dict.fromkeys(
            Record(path, status.name) if only is None or status in only else None for status in self._statuses(case)
        )
        return list(expected)


def _fit(new: list[Record], expected: list[Record | None]) -> bool:
    if len(new) != 1:
        return not new and None in expected
    ((path, status),) = new
    return any(
        record is not None and record.path in ("", path) and status in ("", record.status) for record in expected
    )


def running_tasks() -> Counter[str]:
    """Count the tasks of this loop by what they run; a server always has one that waits for its next call."""
    return Counter(str(getattr(task.get_coro(), "__qualname__", task)) for task in asyncio.all_tasks())


def _either(statuses: frozenset[StatusCode]) -> str:
    return " or ".join(sorted(status.name for status in statuses))
