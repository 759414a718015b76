"""The parameters of a request, which all of OAuth's endpoints take as a form (RFC 6749 appendix B)."""

import re
from collections.abc import Mapping
from typing import Final
from urllib.parse import parse_qsl

from fastapi import Request
from pydantic import SecretStr

from auth.oauth.error import OAuthError

FORM: Final = "application/x-www-form-urlencoded"
MOST_PARAMETERS: Final = 32
MOST_ESCAPES: Final = 2_048
"""To read one takes a microsecond of everybody's time; the longest secret there may be has half as many."""

_CONTROL: Final = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")  # RFC 6749 appendix A has them nowhere


class Form:
    """What was sent, each parameter once; one without a value counts as not sent (RFC 6749 §3.1)."""

    def __init__(self, values: Mapping[str, str]) -> None:
        self._values = values

    def get(self, name: str) -> str:
        """Return the parameter, "" when it was not sent."""
        return self._values.get(name, "")

    def need(self, name: str, most: int) -> str:
        """Return the parameter; raise `invalid_request` when it was not sent or is longer than `most` characters."""
        value = self.get(name)
        if not value:
            raise OAuthError("invalid_request", f"the parameter {name} is missing")
        if len(value) > most:
            raise OAuthError("invalid_request", f"the parameter {name} has more than {most} characters")
        return value

    def secret(self, name: str, most: int) -> SecretStr:
        """Return a parameter that must not be shown, as `need` does."""
        return SecretStr(self.need(name, most))


async def read_form(request: Request) -> Form:
    """Return the form in the body of `request`; raise `invalid_request` for anything else."""
    if request.url.query:
        raise OAuthError("invalid_request", "parameters belong in the body: URLs are written into logs")
    kinds = request.headers.getlist("content-type")
    if not kinds or not all(map(_is_form, kinds)):  # said twice it may mean two things to two readers
        raise OAuthError("invalid_request", f"the body must be a form in UTF-8, with the content type {FORM}")
    return parsed(await request.body())


def _is_form(content_type: str) -> bool:
    """Say whether a body is a form as all of OAuth has it: what is read is UTF-8, whatever another charset may mean."""
    kind, *parameters = (part.strip().lower() for part in content_type.split(";"))
    charsets = [
        value.strip('"') for name, _, value in (each.partition("=") for each in parameters) if name == "charset"
    ]
    return kind == FORM and all(charset in {"utf-8", "utf8"} for charset in charsets)


def parsed(body: bytes) -> Form:
    """Return the form that `body` is; raise `invalid_request` when it is none."""
    if body.count(b"%") > MOST_ESCAPES:
        raise OAuthError("invalid_request", f"the form has more than {MOST_ESCAPES} percent signs")
    try:
        pairs = parse_qsl(body.decode("ascii"), keep_blank_values=True, errors="strict", max_num_fields=MOST_PARAMETERS)
    except UnicodeDecodeError:
        raise OAuthError("invalid_request", "the form is not percent-encoded UTF-8") from None
    except ValueError:
        raise OAuthError("invalid_request", f"the form has more than {MOST_PARAMETERS} parameters") from None
    values: dict[str, str] = {}
    for name, value in pairs:
        if name in values:
            raise OAuthError("invalid_request", "a parameter is there more than once")
        if _CONTROL.search(value):
            raise OAuthError("invalid_request", "a parameter has control characters")
        values[name] = value
    return Form(values)
