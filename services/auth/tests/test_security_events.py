"""Security events on the wire, in the outbox, in the log and with those who must end sessions."""

import asyncio
import json
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone

import pytest
import structlog
from hypothesis import given, settings
from hypothesis import strategies as st
from people import NOW, happened
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncEngine
from told import told

from auth.audit import Kind, SecurityEvent
from auth.publisher import MOST_WRITTEN, SecurityEventPublisher
from auth.security_events import SecurityEventMapper, tell
from auth.sql_audit import SqlAudit
from auth.table import OUTBOX
from grpc_common.database.engine import Limits, open_engine
from grpc_common.errors import DatabaseError, ExternalServiceError, ValidationError
from grpc_common.logs import render
from grpc_common.new_id import new_id
from grpc_common.outbox.event import Event
from grpc_common.outbox.outbox import Outbox
from grpc_common.outbox.relay import Relay, RelayLimits
from grpc_common.revocations import IssuedUntil, Revocation, Revocations, TakenBack
from meshwork.auth.v1 import security_event_pb2 as pb

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=80)
zones = st.builds(timezone, st.integers(-1439, 1439).map(lambda minutes: timedelta(minutes=minutes)))
times = st.datetimes(
    datetime(1, 1, 2),  # noqa: DTZ001  # as Hypothesis wants it
    datetime(9999, 12, 30),  # noqa: DTZ001
    timezones=st.just(UTC) | zones,
)
events = st.builds(
    SecurityEvent,
    kind=st.sampled_from(Kind),
    at=times,
    subject=texts,
    actor=texts,
    client_id=texts,
    session_id=texts,
    token_id=texts,
    reason=texts,
    address=texts,
    correlation_id=texts,
    roles=st.lists(texts, max_size=5).map(tuple),
)


class TestMapping:
    @given(events)
    @settings(max_examples=300)
    def test_nothing_is_lost_on_the_way_and_back(self, event: SecurityEvent) -> None:
        """P2: an event is the same after the wire, to the microsecond."""
        mapper = SecurityEventMapper()
        sent = mapper.to_proto(event).SerializeToString()

        received = mapper.from_proto(pb.SecurityEvent.FromString(sent))

        assert received == event
        assert received.at.tzinfo is UTC
        assert mapper.to_proto(received).SerializeToString() == sent

    def test_each_kind_has_a_number_and_each_number_a_kind(self) -> None:
        numbers = set(pb.SecurityEventKind.values()) - {pb.SECURITY_EVENT_KIND_UNSPECIFIED}

        assert {SecurityEventMapper().to_proto(happened(kind)).kind for kind in Kind} == numbers

    def test_each_field_of_the_message_is_one_of_the_event(self) -> None:
        assert set(pb.SecurityEvent.DESCRIPTOR.fields_by_name) == set(SecurityEvent.__dataclass_fields__)

    @pytest.mark.parametrize("number", [0, 99, -1])
    def test_an_unknown_kind_is_refused(self, number: int) -> None:
        message = SecurityEventMapper().to_proto(happened(Kind.LOGGED_IN))
        message.kind = number  # type: ignore[assignment]

        with pytest.raises(ValidationError, match=f"is {number}, which is no kind of event known here") as refused:
            SecurityEventMapper().from_proto(message)

        assert refused.value.field == "kind"


class TestAudit:
    async def test_what_is_recorded_is_kept_to_be_told(self, engine: AsyncEngine) -> None:
        heard: list[int] = []
        event = happened(Kind.LOGIN_FAILED, "u-1", reason="locked", address="192.0.2.1")

        await SqlAudit(engine, lambda: heard.append(1)).record(event)

        assert await told(engine) == [event]
        assert heard == [1]

    async def test_no_database_in_time_is_unavailable(self, migrated_url: str, limits: Limits) -> None:
        tight = replace(limits, connections=1, pool_timeout=0.05)
        async with open_engine(migrated_url, tight) as engine, engine.connect():
            with pytest.raises(ExternalServiceError):
                await SqlAudit(engine).record(happened(Kind.LOGIN_FAILED))

    async def test_what_cannot_be_told_is_not_kept(self, engine: AsyncEngine) -> None:
        with pytest.raises(DatabaseError):
            await SqlAudit(engine).record(happened(Kind.LOGIN_FAILED, at=NOW.replace(tzinfo=None)))

        assert await told(engine) == []

    async def test_events_wait_for_each_other_where_their_order_says_something(self, engine: AsyncEngine) -> None:
        several = [
            happened(Kind.LOGGED_IN, "u-1", session_id="s-1"),
            happened(Kind.SESSION_REVOKED, "u-1", session_id="s-1"),
            happened(Kind.SESSION_REVOKED, "u-1", session_id="s-2"),
            happened(Kind.TOKEN_REVOKED, "u-1", token_id="t-1"),
            happened(Kind.USER_DISABLED, "u-1"),
            happened(Kind.USER_ENABLED, "u-1"),
            happened(Kind.LOGIN_FAILED),
            happened(Kind.LOGIN_FAILED),
        ]
        async with engine.begin() as connection:
            await tell(connection, several)
            subjects = list(await connection.scalars(select(OUTBOX.c.subject).order_by(OUTBOX.c.number)))

        assert subjects[:6] == ["s-1", "s-1", "s-2", "t-1", "u-1", "u-1"]
        assert len(set(subjects[6:]) - set(subjects[:6])) == 2


class Stream:
    """Hears what is taken back, or is away."""

    def __init__(self) -> None:
        self.away = False
        self.asked = 0
        self.revoked: list[TakenBack] = []

    async def tell(self, taken_back: TakenBack, /) -> None:
        self.asked += 1
        await asyncio.sleep(0)
        if self.away:
            raise ExternalServiceError("the revocation cannot be published")
        self.revoked.append(taken_back)


def outgoing(event: SecurityEvent) -> Event:
    return Event(new_id(), "x", SecurityEventMapper().to_proto(event).SerializeToString(), event.at)


async def lines(publisher: SecurityEventPublisher, *several: Event) -> Sequence[dict[str, object]]:
    with structlog.testing.capture_logs() as written:
        for event in several:
            await publisher.publish(event)
    return list(written)


class TestPublishing:
    async def test_the_line_says_all_that_is_known_and_hides_nothing_of_it(self) -> None:
        event = outgoing(
            happened(
                Kind.TOKEN_REVOKED,
                "u-1",
                client_id="billing",
                session_id="a" * 32,
                token_id="b" * 32,
                reason="administrator",
                address="192.0.2.1",
            )
        )

        (line,) = await lines(SecurityEventPublisher(Revocations()), event)

        level = str(line.pop("log_level"))
        shown = json.loads(render(None, level, dict(line)))
        del shown["timestamp"]
        assert shown == {
            "event": "security event",
            "component": "security",
            "level": "info",
            "event_id": event.id,
            "kind": "token_revoked",
            "at": "2026-01-02T03:04:05.678901+00:00",
            "subject": "u-1",
            "actor": "somebody",
            "client_id": "billing",
            "session_id": "a" * 32,
            "jti": "b" * 32,
            "reason": "administrator",
            "address": "192.0.2.1",
            "correlation_id": "c-1",
        }

    async def test_what_is_not_known_is_left_out(self) -> None:
        event = outgoing(SecurityEvent(kind=Kind.LOGGED_IN, at=NOW))

        (line,) = await lines(SecurityEventPublisher(Revocations()), event)

        assert set(line) == {"event", "log_level", "component", "event_id", "kind", "at"}

    @pytest.mark.parametrize("kind", Kind)
    async def test_failures_and_the_end_of_all_sessions_are_warnings(self, kind: Kind) -> None:
        (line,) = await lines(SecurityEventPublisher(Revocations()), outgoing(happened(kind, reason="locked")))

        alarming = {Kind.LOGIN_FAILED, Kind.CLIENT_REFUSED, Kind.BOOTSTRAP_REFUSED, Kind.ALL_SESSIONS_ENDED}
        expected = "warning" if kind in alarming else "info"
        assert line["log_level"] == expected

    async def test_a_stolen_token_is_a_warning(self) -> None:
        event = outgoing(happened(Kind.SESSION_REVOKED, "u-1", session_id="s-1", reason="reused"))

        (line,) = await lines(SecurityEventPublisher(Revocations()), event)

        assert line["log_level"] == "warning"

    @pytest.mark.parametrize("kind", Kind)
    async def test_sessions_and_tokens_are_taken_back_and_nothing_else(self, kind: Kind) -> None:
        stream = Stream()
        event = happened(kind, "u-1", session_id="s-1", token_id="t-1")

        await SecurityEventPublisher(Revocations(), stream).publish(outgoing(event))

        until = NOW.timestamp() + 900 + 120
        expected: dict[Kind, list[TakenBack]] = {
            Kind.SESSION_REVOKED: [Revocation("s-1", until)],
            Kind.CLIENT_DELETED: [Revocation("s-1", until)],
            Kind.TOKEN_REVOKED: [Revocation("t-1", until)],
            Kind.ALL_SESSIONS_ENDED: [IssuedUntil(NOW.timestamp() + 30)],
        }
        assert stream.revoked == expected.get(kind, [])

    @pytest.mark.parametrize("kind", [Kind.SESSION_REVOKED, Kind.TOKEN_REVOKED, Kind.CLIENT_DELETED])
    async def test_nothing_is_taken_back_without_a_name(self, kind: Kind) -> None:
        stream = Stream()

        await SecurityEventPublisher(Revocations(), stream).publish(outgoing(happened(kind, "u-1")))

        assert stream.asked == 0

    async def test_an_outage_is_told_to_the_relay_and_the_line_is_written_once(self) -> None:
        stream = Stream()
        publisher = SecurityEventPublisher(Revocations(), stream)
        event = outgoing(happened(Kind.SESSION_REVOKED, "u-1", session_id="s-1"))
        stream.away = True
        with structlog.testing.capture_logs() as written:
            for _ in range(3):
                with pytest.raises(ExternalServiceError):
                    await publisher.publish(event)
            stream.away = False
            await publisher.publish(event)

        assert [line["event_id"] for line in written] == [event.id]
        assert (stream.asked, len(stream.revoked)) == (4, 1)

    async def test_what_it_remembers_of_an_outage_is_bounded(self) -> None:
        stream = Stream()
        stream.away = True
        publisher = SecurityEventPublisher(Revocations(), stream)
        several = [
            outgoing(happened(Kind.SESSION_REVOKED, session_id=f"s-{number}")) for number in range(MOST_WRITTEN + 1)
        ]
        with structlog.testing.capture_logs() as written:
            for event in [*several, several[0], several[-1]]:
                with pytest.raises(ExternalServiceError):
                    await publisher.publish(event)

        assert [line["event_id"] for line in written] == [event.id for event in [*several, several[0]]]

    async def test_an_event_of_a_newer_version_is_left_to_it(self) -> None:
        message = SecurityEventMapper().to_proto(happened(Kind.LOGGED_IN))
        message.kind = 99  # type: ignore[assignment]

        with pytest.raises(ValidationError):
            await SecurityEventPublisher(Revocations()).publish(Event("e-1", "x", message.SerializeToString(), NOW))

    async def test_the_relay_goes_on_where_the_stream_was_away(self, engine: AsyncEngine) -> None:
        stream, now = Stream(), [NOW]
        limits = RelayLimits(poll=1, timeout=5, pause=60, kept=3600, lag=60, at_once=100)
        relay = Relay(Outbox(engine, OUTBOX), SecurityEventPublisher(Revocations(), stream), limits, lambda: now[0])
        audit = SqlAudit(engine)
        for number in range(3):
            await audit.record(happened(Kind.SESSION_REVOKED, "u-1", session_id=f"s-{number}"))
        await audit.record(happened(Kind.LOGIN_FAILED, "u-1"))

        stream.away = True
        assert await relay.once() == 1
        stream.away = False
        assert await relay.once() == 0
        now[0] += timedelta(seconds=1)
        assert await relay.once() == 3
        assert sorted(each.id for each in stream.revoked if isinstance(each, Revocation)) == ["s-0", "s-1", "s-2"]
