"""Why a probe failed, in one short line that may be logged."""

from typing import Final

from grpc_common.redaction import redact_text

MAX_LENGTH: Final = 200


def reason_of(error: BaseException) -> str:
    """Return the type and the first words of `error`, on one line, without what looks like a secret."""
    name = type(error).__qualname__
    try:
        text = str(error)
    except Exception:  # noqa: BLE001 - an exception that cannot say what it is must not stop the checks
        return name
    text = " ".join(redact_text(text, 4 * MAX_LENGTH).split())
    reason = f"{name}: {text}" if text else name
    return reason if len(reason) <= MAX_LENGTH else f"{reason[: MAX_LENGTH - 1]}…"
