"""Ways to get a token of OpenBao or Vault; all calls block."""

import os
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Protocol

import structlog
from hvac.exceptions import Forbidden, InvalidPath, InvalidRequest, Unauthorized, VaultError
from pydantic import SecretStr

from grpc_common.errors import ExternalServiceError

REFUSALS: Final = (Forbidden, InvalidPath, InvalidRequest, Unauthorized)
"""What waiting does not mend; everything else may be over in a moment."""

_TOKEN: Final = re.compile(r"[A-Za-z0-9._-]{10,512}")

type Ask = Callable[..., Mapping[str, Any]]
"""`ask(path, body, token="")` posts and returns the answer."""


class VaultRefusedError(ExternalServiceError):
    """OpenBao does not let us in, and somebody must do something about it: the message says what."""

    reason = "VAULT_REFUSED"


@dataclass(frozen=True, slots=True)
class Lease:
    """A token, for how many seconds it is good (0: for ever), and whether that can be prolonged."""

    token: SecretStr
    seconds: float
    renewable: bool

    @classmethod
    def of(cls, answer: Mapping[str, Any]) -> "Lease":
        """Read it in the answer to a login or to a renewal."""
        auth = answer["auth"]
        return cls(SecretStr(auth["client_token"]), float(auth["lease_duration"]), bool(auth["renewable"]))


class Door(Protocol):
    """A way to get a token."""

    @property
    def in_hand(self) -> bool:
        """Whether it has something that would be lost with this process, and that nobody can get again."""
        ...

    def enter(self, ask: Ask) -> Lease:
        """Return a new token; raise VaultRefusedError, or what `ask` raises when OpenBao is away."""
        ...


@dataclass(slots=True)
class AppRoleDoor:
    """An AppRole whose secret id comes in a file, wrapped: whoever unwraps it is the only one who has it.

    The file is removed when its secret id has been unwrapped, so that a used one found there was used by another. A
    secret id that can be used again is kept for that, in memory; after one that cannot, the next is awaited in the
    file.
    """

    role_id: SecretStr
    wrapped: Path
    mount: str
    _secret_id: SecretStr | None = field(default=None, init=False)
    _once: bool = field(default=False, init=False)

    @property
    def in_hand(self) -> bool:
        """Whether there is a secret id that has not been used up."""
        return self._secret_id is not None

    def enter(self, ask: Ask) -> Lease:
        """Log in with the secret id at hand, or with the one in the file."""
        if self._secret_id is not None:
            try:
                return self._log_in(ask, self._secret_id)
            except REFUSALS:
                self._secret_id = None  # used up, expired or revoked
        self._secret_id = self._unwrap(ask)
        try:
            return self._log_in(ask, self._secret_id)
        except REFUSALS as error:
            self._secret_id = None
            raise VaultRefusedError(f"OpenBao refuses the login by AppRole: {_said(error)}") from None

    def _log_in(self, ask: Ask, secret_id: SecretStr) -> Lease:
        body = {"role_id": self.role_id.get_secret_value(), "secret_id": secret_id.get_secret_value()}
        lease = Lease.of(ask(f"auth/{self.mount}/login", body))
        if self._once:
            self._secret_id = None
        return lease

    def _unwrap(self, ask: Ask) -> SecretStr:
        found = _read(self.wrapped, "wrapped secret id")
        if not _TOKEN.fullmatch(found):
            raise VaultRefusedError(f"{self.wrapped} holds no wrapping token: put a fresh wrapped secret id there")
        try:
            # Whoever takes the secret id out may wrap it again, but cannot make that look as if the role had done it.
            origin = str(ask("sys/wrapping/lookup", {"token": found})["data"]["creation_path"])
            if not re.fullmatch(rf"auth/{re.escape(self.mount)}/role/[^/]+/(custom-)?secret-id", origin):
                raise self._alarm(
                    f"the secret id in {self.wrapped} was wrapped by somebody else, at {origin}: do not use it, find "
                    "out who did that, and put a fresh one there"
                )
            answer = ask("sys/wrapping/unwrap", {}, token=found)
        except REFUSALS:
            raise self._alarm(
                f"the wrapped secret id in {self.wrapped} was used before, or it waited there for too long. Unless it "
                "waited, somebody else has taken it: revoke the secret ids of the role, and put a fresh one there"
            ) from None
        self._remove(found)
        self._once = answer["data"].get("secret_id_num_uses") == 1
        return SecretStr(answer["data"]["secret_id"])

    def _alarm(self, message: str) -> VaultRefusedError:
        age = time.time() - self.wrapped.stat().st_mtime if self.wrapped.exists() else None
        log = structlog.get_logger(component="vault login")
        log.error("the wrapped secret id may have been stolen", reason=message, waited_seconds=age and round(age))
        return VaultRefusedError(message)

    def _remove(self, unwrapped: str) -> None:
        try:
            if self.wrapped.read_text().strip() == unwrapped:  # and not already the next one
                self.wrapped.unlink()
        except OSError as error:
            log = structlog.get_logger(component="vault login")
            log.warning("the used wrapping token cannot be removed", file=str(self.wrapped), reason=error.strerror)


@dataclass(frozen=True, slots=True)
class KubernetesDoor:
    """The token of the pod's service account, which Kubernetes changes in its file every now and then."""

    role: str
    token: Path
    mount: str
    in_hand: bool = field(default=False, init=False)

    def enter(self, ask: Ask) -> Lease:
        """Log in with the token that is in the file now."""
        jwt = _read(self.token, "service account's token")
        try:
            return Lease.of(ask(f"auth/{self.mount}/login", {"role": self.role, "jwt": jwt}))
        except REFUSALS as error:
            said = _said(error).replace(jwt, "…")
            message = f"OpenBao refuses the login of this pod in the role {self.role}: {said}"
            raise VaultRefusedError(message) from None


def _read(file: Path, what: str) -> str:
    try:
        # Half a page is more than any token has; what is longer is not one.
        with file.open() as opened:
            text = opened.read(64 * 1024).strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = os.strerror(error.errno or 0) if isinstance(error, OSError) else "it is no text"
        raise VaultRefusedError(f"there is no {what} in {file} ({reason}): put one there") from None
    if not text:
        raise VaultRefusedError(f"there is no {what} in {file} (it is empty): put one there")
    return text


def _said(error: VaultError) -> str:
    return "; ".join(" ".join(str(each).split()) for each in error.errors or []) or type(error).__name__
