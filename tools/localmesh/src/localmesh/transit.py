"""What a service needs in OpenBao to sign with a key that never leaves it: a policy of its own, and a way to log in."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import hvac

from localmesh.files import write_secret

MOUNT: Final = "transit"
SECRET_ID_SECONDS: Final = 600
"""How long a secret id waits for the service that is to use it, wrapped or not."""
TOKEN_SECONDS: Final = 3600
"""How long a token lives that is not renewed, and so how long OpenBao may be away before its service needs another
secret id."""


def policy(key: str, mount: str = MOUNT) -> str:
    """The rights to make and rotate the one key, to sign with it and to destroy its old versions (HCL).

    It cannot be made exportable, taken out or deleted. The default policy of OpenBao is not needed.
    """
    return f"""\
path "{mount}/keys/{key}" {{
  capabilities       = ["create", "read", "update"]
  allowed_parameters = {{ "type" = [], "exportable" = [false] }}
}}
path "{mount}/keys/{key}/rotate" {{
  capabilities = ["update"]
}}
path "{mount}/keys/{key}/config" {{
  capabilities       = ["update"]
  allowed_parameters = {{ "min_decryption_version" = [], "min_encryption_version" = [] }}
}}
path "{mount}/keys/{key}/trim" {{
  capabilities = ["update"]
}}
path "{mount}/sign/{key}" {{
  capabilities = ["update"]
}}
path "auth/token/renew-self" {{
  capabilities = ["update"]
}}
path "auth/token/revoke-self" {{
  capabilities = ["update"]
}}
"""


class SigningRole:
    """The AppRole by which the service `name` gets at its signing key `key`; all calls block.

    `client` may do everything. A secret id of the role can be used once, and soon; the token it is used for lives as
    long as it is renewed.
    """

    def __init__(self, client: hvac.Client, name: str, key: str, *, mount: str = MOUNT) -> None:
        self._client = client
        self._name = name
        self._key = key
        self._mount = mount

    def set_up(self) -> None:
        """Makes the engine, the policy and the role as they should be, whether or not they are there."""
        sys, role = self._client.sys, self._client.auth.approle
        if f"{self._mount}/" not in _data(sys.list_mounted_secrets_engines()):
            sys.enable_secrets_engine("transit", path=self._mount)
        if "approle/" not in _data(sys.list_auth_methods()):
            sys.enable_auth_method("approle")
        sys.create_or_update_policy(self._policy_name, policy(self._key, self._mount))
        role.create_or_update_approle(
            self._name,
            bind_secret_id=True,
            secret_id_num_uses=1,
            secret_id_ttl=f"{SECRET_ID_SECONDS}s",
            token_policies=[self._policy_name],
            token_no_default_policy=True,
            token_period=f"{TOKEN_SECONDS}s",
            token_type="service",  # noqa: S106  # a kind of token
        )

    @property
    def _policy_name(self) -> str:
        return f"{self._name}-signs"

    def role_id(self) -> str:
        """What the service says it is: no secret, and worth nothing without a secret id."""
        return str(_data(self._client.auth.approle.read_role_id(self._name))["role_id"])

    def wrapped_secret_id(self) -> str:
        """A token that gives out a new secret id once: who gets nothing for it has been robbed."""
        answer = self._client.auth.approle.generate_secret_id(self._name, wrap_ttl=f"{SECRET_ID_SECONDS}s")
        return str(answer["wrap_info"]["token"])

    def hand_over(self, file: Path) -> None:
        """Puts such a token into a file only we may read."""
        write_secret(file, self.wrapped_secret_id())


def _data(answer: Mapping[str, Any]) -> Mapping[str, Any]:
    found: Mapping[str, Any] = answer["data"]
    return found
