"""Traces as a person wants to see them."""

import time
from collections.abc import Iterator, Sequence
from typing import Any

from rich.table import Table
from rich.text import Text

BAR = 40
MILLISECONDS = 1e3
URL = "http.url"
"""Shown once, where the call comes in: the others only repeat it."""

type Json = dict[str, Any]


def overview(traces: Sequence[Json]) -> Table:
    """One line per trace, in the order given."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("trace", "at", "ms", "what", "status", "through"):
        table.add_column(
            heading, justify="right" if heading == "ms" else "left", no_wrap=heading in {"trace", "at", "ms"}
        )
    for trace in traces:
        spans = sorted(trace["spans"], key=lambda span: span["began"])
        first, end = spans[0], max(span["began"] + span["lasted"] for span in spans)
        status = Text(_outcome(spans), style="red" if any(span["failed"] for span in spans) else "green")
        through = " → ".join(dict.fromkeys(span["service"] for span in spans))
        at = time.strftime("%H:%M:%S", time.localtime(first["began"]))
        lasted = f"{(end - first['began']) * MILLISECONDS:.1f}"
        table.add_row(trace["id"], at, lasted, _what(spans), status, through)
    return table


def waterfall(trace: Json) -> Table:
    """The spans of a trace below those that caused them, with a bar for when each ran."""
    spans = trace["spans"]
    began = min(span["began"] for span in spans)
    whole = max(max(span["began"] + span["lasted"] for span in spans) - began, 1e-9)
    title = f"trace {trace['id']}" + (f" (without {trace['left_out']} more spans)" if trace["left_out"] else "")
    table = Table(title=title, title_justify="left", box=None, pad_edge=False, header_style="bold")
    for heading in ("where", "what", "status", "ms", "", "details"):
        table.add_column(heading, justify="right" if heading == "ms" else "left")
    for depth, span in _in_order(spans):
        table.add_row(
            "  " * depth + span["service"],
            _name(span),
            Text(_status(span), style="red" if span["failed"] else "green"),
            f"{span['lasted'] * MILLISECONDS:.2f}",
            _bar((span["began"] - began) / whole, span["lasted"] / whole),
            _details(span, depth),
        )
    return table


def _in_order(spans: Sequence[Json]) -> Iterator[tuple[int, Json]]:
    """Each span after its parent, with how deep it stands; one whose parent is elsewhere stands at the top."""
    known = {span["id"] for span in spans}
    children: dict[str, list[Json]] = {}
    for span in sorted(spans, key=lambda span: span["began"]):
        parent = span["parent"] if span["parent"] in known and span["parent"] != span["id"] else ""
        children.setdefault(parent, []).append(span)
    waiting = [(0, span) for span in reversed(children.get("", []))]
    while waiting:
        depth, span = waiting.pop()
        yield depth, span
        waiting += [(depth + 1, child) for child in reversed(children.get(span["id"], []))]


def _name(span: Json) -> str:
    """What was asked of somebody else has an arrow before it."""
    return f"→ {_short(span['name'])}" if span["kind"] == "client" else _short(span["name"])


def _details(span: Json, depth: int) -> str:
    shown = {name: value for name, value in span["details"].items() if depth == 0 or name != URL}
    return ", ".join(f"{name}={value}" for name, value in shown.items())


def _bar(start: float, length: float) -> str:
    first = min(BAR - 1, round(start * BAR))
    return (" " * first + "█" * max(1, round(length * BAR)))[:BAR]


def _status(span: Json) -> str:
    return str(span["status"]) or ("failed" if span["failed"] else "ok")


def _outcome(spans: Sequence[Json]) -> str:
    """What the outermost who knows of gRPC says; for HTTP all is well once a stream has begun."""
    statuses = [_status(span) for span in spans]
    return next((status for status in statuses if not status.startswith(("HTTP", "ok"))), statuses[0])


def _what(spans: Sequence[Json]) -> str:
    """The most telling name: an RPC's, or else that of the innermost who knows of a route."""
    names = [str(span["name"]) for span in spans]
    return _short(next((name for name in names if "/" in name and " " not in name), max(names, key=len)))


def _short(name: str) -> str:
    """An RPC without its package."""
    service, slash, method = name.rpartition("/")
    return f"{service.rpartition('.')[2]}/{method}" if slash and " " not in name else name
