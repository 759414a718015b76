"""Well-known formats of strings."""

import ipaddress
import re
from collections.abc import Callable
from typing import Any, Final

_UUID: Final = re.compile(r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_TRIMMED_UUID: Final = re.compile(r"[0-9a-fA-F]{32}")
_ULID: Final = re.compile(r"[0-7][0-9A-HJKMNP-TV-Za-hjkmnp-tv-z]{25}")
_LABEL: Final = r"[a-zA-Z0-9](?:[a-zA-Z0-9-]{0,61}[a-zA-Z0-9])?"
# What HTML calls a valid e-mail address: https://html.spec.whatwg.org/multipage/input.html#valid-e-mail-address
_EMAIL: Final = re.compile(rf"[a-zA-Z0-9.!#$%&'*+/=?^_`{{|}}~-]+@{_LABEL}(?:\.{_LABEL})*")
_HOST: Final = re.compile(rf"(?:{_LABEL}\.)*(?![0-9]+\.?\Z){_LABEL}\.?")
_HOST_MAX: Final = 253


def _whole(pattern: re.Pattern[str]) -> Callable[[str], bool]:
    return lambda value: pattern.fullmatch(value) is not None


def _is_host(value: str) -> bool:
    return len(value.removesuffix(".")) <= _HOST_MAX and _HOST.fullmatch(value) is not None


def _is_ipv4(value: str) -> bool:
    return _parses(ipaddress.IPv4Address, value)


def _is_ipv6(value: str) -> bool:
    # RFC 4007 lets a zone be any text; Python does not.
    address, sign, zone = value.partition("%")
    return _parses(ipaddress.IPv6Address, address) and bool(zone) == bool(sign) and "\0" not in zone


def _parses(parse: Callable[[str], Any], value: str) -> bool:
    try:
        parse(value)
    except ValueError:
        return False
    return True


FORMATS: Final[dict[str, tuple[Callable[[str], bool], str]]] = {
    "uuid": (_whole(_UUID), "a UUID"),
    "tuuid": (_whole(_TRIMMED_UUID), "a UUID without dashes"),
    "ulid": (_whole(_ULID), "a ULID"),
    "email": (_whole(_EMAIL), "an e-mail address"),
    "hostname": (_is_host, "a host name"),
    "ip": (lambda value: _is_ipv4(value) or _is_ipv6(value), "an IP address"),
    "ipv4": (_is_ipv4, "an IPv4 address"),
    "ipv6": (_is_ipv6, "an IPv6 address"),
}
"""What says whether a string has the format, and the format's name, by the name of the rule."""
