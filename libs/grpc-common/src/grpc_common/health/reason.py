"""Why a probe failed, in one short line that may be logged."""

import re
from typing import Final

MAX_LENGTH: Final = 200

_SECRETS: Final = (
    # scheme://user:password@host
    (re.compile(r"(\w://)\S*@"), r"\1***@"),
    (re.compile(r"(?i)\b((?:proxy-)?authorization\W{1,3}(?:basic|bearer)\s+|bearer\s+)\S+"), r"\1***"),
    (
        re.compile(
            r"""(?ix) ([\w-]*(?:password|passwd|pwd|secret|token|credential|api[_-]?key)[\w-]*["']?\s*[=:]\s*)
            (?:"[^"]*" | '[^']*' | [^\s,;&)}\]]+)"""
        ),
        r"\1***",
    ),
)


def reason_of(error: BaseException) -> str:
    """Return the type and the first words of `error`, on one line, without the usual places of secrets."""
    name = type(error).__qualname__
    try:
        text = str(error)[: 4 * MAX_LENGTH]
    except Exception:  # noqa: BLE001 - an exception that cannot say what it is must not stop the checks
        return name
    for pattern, replacement in _SECRETS:
        text = pattern.sub(replacement, text)
    text = " ".join(text.split())
    reason = f"{name}: {text}" if text else name
    return reason if len(reason) <= MAX_LENGTH else f"{reason[: MAX_LENGTH - 1]}…"
