"""PostgreSQL and SQLite answer filters, orders and pages as plain Python does, whatever is in them."""

import asyncio
import operator
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import (
    Boolean,
    Column,
    DateTime,
    Double,
    Integer,
    MetaData,
    String,
    Table,
    TypeDecorator,
    delete,
    insert,
    select,
)
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from grpc_common.errors import ValidationError
from grpc_common.listing.field import Field, Kind
from grpc_common.listing.listed import Listed
from grpc_common.listing.page_token import PageTokens
from localmesh.parts.postgres import Postgres


class Utc(TypeDecorator[datetime]):
    """SQLite forgets the zone."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_result_value(self, value, dialect):
        return value.replace(tzinfo=UTC)


LAMPS = Table(
    "lamps",
    MetaData(),
    Column("id", String(64), primary_key=True),
    Column("name", String(200), nullable=False),
    Column("note", String, nullable=False),
    Column("watts", Integer, nullable=False),
    Column("price", Double, nullable=False),
    Column("is_lit", Boolean, nullable=False),
    Column("made", Utc, nullable=False),
)
LISTED = Listed(
    [
        Field(name="id", column=LAMPS.c.id, kind=Kind.TEXT, unique=True),
        Field(name="name", column=LAMPS.c.name, kind=Kind.TEXT, searched=True),
        Field(name="note", column=LAMPS.c.note, kind=Kind.TEXT, searched=True, sortable=False),
        Field(name="watts", column=LAMPS.c.watts, kind=Kind.INTEGER),
        Field(name="price", column=LAMPS.c.price, kind=Kind.NUMBER),
        Field(name="is_lit", column=LAMPS.c.is_lit, kind=Kind.BOOLEAN),
        Field(name="made.at", column=LAMPS.c.made, kind=Kind.TIMESTAMP),
    ],
    key="id",
)
TOKENS = PageTokens(b"a secret of this test")
type Row = dict[str, Any]


class Database:
    """One table, asked from code that is not asynchronous, as Hypothesis wants it."""

    def __init__(self, runner: asyncio.Runner, engine: AsyncEngine) -> None:
        self._runner = runner
        self._engine = engine

    def fill(self, rows: list[Row]) -> None:
        async def fill() -> None:
            async with self._engine.begin() as connection:
                await connection.execute(delete(LAMPS))
                if rows:
                    await connection.execute(insert(LAMPS), [{**row, "made": row["made.at"]} for row in rows])

        self._runner.run(fill())

    def ask(self, statement: Any) -> list[Row]:
        async def ask() -> list[Row]:
            async with self._engine.connect() as connection:
                found = await connection.execute(statement)
                return [{**row, "made.at": row["made"]} for row in found.mappings()]

        return self._runner.run(ask())

    def plan(self, statement: Any, *, index: str) -> str:
        """How the database would answer, with an index on these columns."""
        sqlite = self._engine.dialect.name == "sqlite"
        asked = statement.compile(dialect=self._engine.dialect, compile_kwargs={"literal_binds": True})

        async def explain() -> str:
            async with self._engine.connect() as connection:
                await connection.exec_driver_sql(f"CREATE INDEX lamps_order ON lamps ({index})")
                await connection.exec_driver_sql("ANALYZE lamps")
                told = await connection.exec_driver_sql(f"EXPLAIN {'QUERY PLAN' if sqlite else ''} {asked}")
                return "\n".join(str(row[-1]) for row in told)

        try:
            return self._runner.run(explain())
        finally:
            self._runner.run(self._drop_index())

    async def _drop_index(self) -> None:
        async with self._engine.begin() as connection:
            await connection.exec_driver_sql("DROP INDEX IF EXISTS lamps_order")

    def ids(self, **arguments: str) -> set[str]:
        query = LISTED.query(**arguments)
        return {row["id"] for row in self.ask(select(LAMPS).where(query.condition))}


@pytest.fixture(scope="module", params=["postgresql", "sqlite"])
def database(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Database]:
    folder = tmp_path_factory.mktemp("lamps")

    async def opened(url: str) -> AsyncEngine:
        engine = create_async_engine(url)
        async with engine.begin() as connection:
            await connection.run_sync(LAMPS.metadata.create_all)
        return engine

    with asyncio.Runner() as runner:
        server = Postgres(folder) if request.param == "postgresql" else None
        try:
            if server is None:
                url = f"sqlite+aiosqlite:///{folder}/lamps.db"
            else:
                runner.run(server.__aenter__())
                url = runner.run(server.create_database("lamps"))
            engine = runner.run(opened(url))
            yield Database(runner, engine)
            runner.run(engine.dispose())
        finally:
            if server is not None:
                runner.run(server.stop())


# What trips LIKE, GLOB and quoting, and what sorts differently in other collations.
LETTERS = "aAß🧑%_*?[]^\\'\""
texts = st.text(LETTERS, max_size=3)
watts = st.sampled_from([-(2**31), -1, 0, 1, 42, 2**31 - 1])
prices = st.sampled_from([0.0, 0.1, 0.1 + 0.2, 9.5, 1e300, 5e-324])
moments = st.sampled_from(
    [datetime(1, 1, 1, tzinfo=UTC), datetime(9999, 12, 31, 23, 59, 59, 999999, UTC)]
) | st.integers(0, 5).map(lambda n: datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC) + timedelta(microseconds=n))
table = st.lists(
    st.fixed_dictionaries(
        {
            "id": texts,
            "name": texts,
            "note": texts,
            "watts": watts,
            "price": prices,
            "is_lit": st.booleans(),
            "made.at": moments,
        }
    ),
    max_size=8,
    unique_by=lambda row: row["id"],
)


@dataclass(frozen=True)
class Said:
    """A filter in words, and what it means; `binds` says how tightly: 0 AND, 1 OR, 2 a term, 3 with no sign before."""

    words: str
    means: Callable[[Row], bool]
    binds: int

    def within(self, binds: int) -> str:
        return self.words if self.binds >= binds else f"({self.words})"


OPERATORS = {
    "=": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
KINDS: dict[str, tuple[st.SearchStrategy[Any], Callable[[Any], str]]] = {
    "watts": (watts | st.integers(-(2**63), 2**63 - 1), str),
    "price": (prices | st.floats(allow_nan=False, allow_infinity=False), repr),
    "made.at": (moments, lambda value: value.isoformat()),
}


def quoted(value: str, quote: str = '"') -> str:
    for special in ("\\", "*", quote):
        value = value.replace(special, f"\\{special}")
    return quote + value + quote


def matches(value: str, pieces: list[str]) -> bool:
    """Whether the text is the pieces with anything between them: the plain way, by trying all places."""
    if len(pieces) == 1:
        return value == pieces[0]
    if not value.startswith(pieces[0]):
        return False
    rest = value[len(pieces[0]) :]
    return any(matches(rest[at:], pieces[1:]) for at in range(len(rest) + 1))


@st.composite
def comparisons(draw: st.DrawFn) -> Said:
    name, compare = draw(st.sampled_from([*KINDS])), draw(st.sampled_from([*OPERATORS, ":"]))
    values, written = KINDS[name]
    value = draw(values)
    shown = written(value) if draw(st.booleans()) else f"'{written(value)}'"
    between = draw(st.sampled_from(["", " "]))
    means = OPERATORS.get(compare, operator.eq)
    return Said(f"{name}{between}{compare}{between}{shown}", lambda row: means(row[name], value), 3)


@st.composite
def text_comparisons(draw: st.DrawFn) -> Said:
    name, compare = draw(st.sampled_from(["id", "name", "note"])), draw(st.sampled_from([*OPERATORS]))
    value, quote = draw(texts), draw(st.sampled_from("\"'"))
    means = OPERATORS[compare]
    return Said(f"{name} {compare} {quoted(value, quote)}", lambda row: means(row[name], value), 3)


@st.composite
def patterns(draw: st.DrawFn) -> Said:
    name, compare = draw(st.sampled_from(["id", "name", "note"])), draw(st.sampled_from(["=", "!=", ":"]))
    pieces = draw(st.lists(st.text(LETTERS, max_size=2), min_size=2, max_size=4))
    words = '"' + "*".join(quoted(piece)[1:-1] for piece in pieces) + '"'
    found = ["", *pieces, ""] if compare == ":" else pieces
    return Said(f"{name}{compare}{words}", lambda row: matches(row[name], found) is (compare != "!="), 3)


@st.composite
def words(draw: st.DrawFn) -> Said:
    word = draw(texts)
    return Said(quoted(word), lambda row: word in row["name"] or word in row["note"], 3)


present = st.sampled_from(["id", "name", "watts", "price", "is_lit", "made.at"]).map(
    lambda name: Said(f"{name}:*", lambda row: bool(row[name]), 3)
)
flags = st.sampled_from([True, False]).flatmap(
    lambda value: st.sampled_from(["=", ":", "!="]).map(
        lambda compare: Said(
            f"is_lit {compare} {str(value).lower()}", lambda row: (row["is_lit"] is value) is (compare != "!="), 3
        )
    )
)


def joined(parts: list[Said], between: str, binds: int) -> Said:
    decide = any if binds == 1 else all
    return Said(
        between.join(part.within(binds + 1) for part in parts),
        lambda row: decide(part.means(row) for part in parts),
        binds,
    )


def negated(part: Said, sign: str) -> Said:
    return Said(sign + part.within(3), lambda row: not part.means(row), 2)


filters = st.recursive(
    comparisons() | text_comparisons() | patterns() | words() | present | flags,
    lambda some: st.one_of(
        st.builds(joined, st.lists(some, min_size=2, max_size=3), st.sampled_from([" AND ", " "]), st.just(0)),
        st.builds(joined, st.lists(some, min_size=2, max_size=3), st.just(" OR "), st.just(1)),
        st.builds(negated, some, st.sampled_from(["NOT ", "-"])),
    ),
    max_leaves=8,
)

tried = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@tried
@given(rows=table, said=filters)
def test_a_filter_finds_what_it_says(database: Database, rows: list[Row], said: Said) -> None:
    """G21: the rows a database finds are those that plain Python finds."""
    database.fill(rows)

    assert database.ids(filter=said.words) == {row["id"] for row in rows if said.means(row)}


@pytest.mark.parametrize(
    "special", ["%", "_", "*", "?", "[", "]", "[a]", "[^a]", "\\", "'", '"', "%%", "\\%", "A", "ß"]
)
@pytest.mark.parametrize(
    ("compare", "before", "after"), [("=", "*", ""), ("=", "", "*"), (":", "", ""), ("=", "a*", "")]
)
def test_a_character_with_a_meaning_to_the_database_is_itself(
    database: Database, special: str, compare: str, before: str, after: str
) -> None:
    names = ["", "a", "ss", "aa", "b", special, f"a{special}", f"{special}a", f"a{special}a"]
    row = {"note": "", "watts": 1, "price": 0.5, "is_lit": True, "made.at": datetime(2026, 1, 2, tzinfo=UTC)}
    database.fill([row | {"id": str(number), "name": name} for number, name in enumerate(names)])
    pieces = {"*": ["", special], "": [special, ""] if after else ["", special, ""], "a*": ["a", special]}[before]

    found = database.ids(filter=f'name{compare}"{before}{quoted(special)[1:-1]}{after}"')

    assert found == {str(number) for number, name in enumerate(names) if matches(name, pieces)}


INJECTIONS = [
    "'; DROP TABLE lamps; --",
    '"; DROP TABLE lamps; --',
    "' OR '1'='1",
    "1 OR 1=1",
    "\\'; DROP TABLE lamps; --",
    "') UNION SELECT * FROM sqlite_master --",
    "%' OR TRUE OR name LIKE '%",
    "*') OR (TRUE",
    "$1::text; SELECT pg_sleep(10)",
    ":param_1",
    "%(param_1)s",
    "{0}",
    "/* */",
    "x' || (SELECT version()) || '",
]


@tried
@given(
    rows=table,
    wild=st.lists(
        st.sampled_from(INJECTIONS) | st.text(st.characters(exclude_categories=("Cc", "Cs")), max_size=20), min_size=1
    ),
    before=st.sampled_from(["", "name = ", "name:", "name != ", "NOT name < ", "watts > ", "made.at < ", "is_lit = "]),
    quote=st.booleans(),
)
def test_no_text_gets_out_of_its_place(
    database: Database, rows: list[Row], wild: list[str], before: str, quote: bool
) -> None:
    """R7: whatever is written into a filter is compared as text, or refused; the statement stays the same."""
    database.fill(rows)
    value = " ".join(wild)
    try:
        found = database.ids(filter=before + (quoted(value) if quote else value))
    except ValidationError as refused:
        assert refused.field == "filter"
    else:
        if quote and before in {"", "name = ", "name:"}:
            held = {"name = ": lambda row: row["name"] == value, "name:": lambda row: value in row["name"]}
            means = held.get(before, lambda row: value in row["name"] or value in row["note"])
            assert found == {row["id"] for row in rows if means(row)}
    assert {row["id"] for row in database.ask(select(LAMPS))} == {row["id"] for row in rows}


SORTED_BY = ["id", "name", "watts", "price", "is_lit", "made.at"]
few = st.lists(
    st.fixed_dictionaries(
        {
            "name": st.sampled_from(["a", "A"]),
            "watts": st.sampled_from([1, 2**31 - 1]),
            "price": st.sampled_from([0.1, 0.1 + 0.2]),
            "is_lit": st.booleans(),
            "made.at": st.sampled_from([datetime(2026, 1, 2, tzinfo=UTC), datetime(2026, 1, 2, 0, 0, 0, 1, UTC)]),
            "note": st.just(""),
        }
    ),
    min_size=2,
    max_size=10,
).flatmap(lambda rows: st.permutations([row | {"id": str(number)} for number, row in enumerate(rows)]))
"""Rows that often stand alike."""
orders = st.lists(st.tuples(st.sampled_from(SORTED_BY), st.booleans()), max_size=3, unique_by=lambda part: part[0])


def in_order(rows: list[Row], order: list[tuple[str, bool]]) -> list[str]:
    """The ids as a stable sort by one field after the other gives them, the last field first."""
    last_way = order[-1][1] if order else False
    for name, descending in reversed([*order, ("id", last_way)]):
        rows = sorted(rows, key=lambda row: row[name], reverse=descending)
    return [row["id"] for row in rows]


@tried
@given(rows=few | table, order=orders, sizes=st.lists(st.integers(1, 3), min_size=1), said=st.none() | filters)
def test_pages_together_are_the_sorted_list(
    database: Database, rows: list[Row], order: list[tuple[str, bool]], sizes: list[int], said: Said | None
) -> None:
    """G20: page by page, of changing sizes, every row comes once and in order, and the last page has no next one."""
    database.fill(rows)
    query = LISTED.query(
        filter=said.words if said else "",
        order_by=", ".join(f"{name} desc" if descending else name for name, descending in order),
    )
    found, token = list[str](), ""
    for page in range(len(rows) + 1):
        size = sizes[page % len(sizes)]
        statement = select(LAMPS).where(query.condition).order_by(*query.order_by).limit(size + 1)
        if position := TOKENS.read(token, query):
            statement = statement.where(query.after(position))
        some = database.ask(statement)
        found += [row["id"] for row in some[:size]]
        if len(some) <= size:
            break
        token = TOKENS.write(query, query.position(some[size - 1]))

    assert found == in_order([row for row in rows if said is None or said.means(row)], order)


def test_a_page_after_rows_that_are_gone_goes_on_behind_them(database: Database) -> None:
    moment = datetime(2026, 1, 2, tzinfo=UTC)
    rows = [
        {"id": str(n), "name": "same", "note": "", "watts": n, "price": 0.5, "is_lit": True, "made.at": moment}
        for n in range(6)
    ]
    database.fill(rows)
    query = LISTED.query(order_by="name, price desc")
    position = query.position(rows[3])
    database.fill(rows[:2] + rows[5:])

    found = database.ask(select(LAMPS).where(query.after(position)).order_by(*query.order_by))

    assert [row["id"] for row in found] == ["1", "0"]


@pytest.mark.parametrize("order_by", ["name", "name desc", "price, name desc"])
def test_a_page_far_in_is_found_by_an_index(database: Database, order_by: str) -> None:
    query = LISTED.query(order_by=order_by)
    moment = datetime(2026, 1, 2, tzinfo=UTC)
    row = {"note": "", "watts": 1, "is_lit": True, "made.at": moment}
    rows = [row | {"id": str(n), "name": f"n{n % 97}", "price": n % 89 / 8} for n in range(3000)]
    database.fill(rows)

    plan = database.plan(
        select(LAMPS.c.id).where(query.after(query.position(rows[2500]))).order_by(*query.order_by).limit(10),
        index=", ".join(str(clause).removeprefix("lamps.") for clause in query.order_by),
    )

    assert "lamps_order" in plan
    assert "Index Cond" in plan or "SEARCH" in plan  # it begins at the place, it does not read up to it
    assert "Sort" not in plan
    assert "B-TREE" not in plan


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(compare=st.sampled_from(["=", "!=", "<", "<=", ">", ">="]), nanoseconds=st.integers(-1_500, 3_500))
def test_a_time_of_nanoseconds_stands_between_microseconds(database, compare, nanoseconds):
    base = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    row = {"name": "", "note": "", "watts": 0, "price": 0.0, "is_lit": False}
    database.fill([{**row, "id": str(n), "made.at": base + timedelta(microseconds=n)} for n in range(3)])
    second, fraction = divmod(nanoseconds, 1_000_000_000)
    text = f"{base + timedelta(seconds=second):%Y-%m-%dT%H:%M:%S}.{fraction:09d}Z"
    holds = {"=": operator.eq, "!=": operator.ne, "<": operator.lt, "<=": operator.le, ">": operator.gt}.get(
        compare, operator.ge
    )
    assert database.ids(filter=f"made.at {compare} {text}") == {
        str(n) for n in range(3) if holds(n * 1_000, nanoseconds)
    }


@pytest.mark.parametrize("text", ["0001-01-01T00:00:00Z", "9999-12-31T23:59:59.999999999Z"])
def test_the_first_and_the_last_time_there_is(database, text):
    first, last = datetime(1, 1, 1, tzinfo=UTC), datetime(9999, 12, 31, 23, 59, 59, 999_999, UTC)
    row = {"name": "", "note": "", "watts": 0, "price": 0.0, "is_lit": False}
    database.fill([{**row, "id": "first", "made.at": first}, {**row, "id": "last", "made.at": last}])
    assert database.ids(filter=f"made.at >= 0001-01-01T00:00:00Z made.at <= {text}") >= {"first"}
    assert database.ids(filter=f"made.at < {text}") == (set() if text.startswith("0") else {"first", "last"})
