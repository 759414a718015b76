"""What the service does, put together once for gRPC and for HTTP."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Self

from pydantic import SecretBytes

from auth.access_token import AccessTokens
from auth.accounts import Accounts
from auth.administrators import Administrators
from auth.clients import ClientAccounts
from auth.credentials import Credentials
from auth.guard import LoginGuard
from auth.introspection import Tokens
from auth.key_ring import KeyRing
from auth.keys import Keys
from auth.password import PasswordHasher
from auth.recorder import Recorder
from auth.refresh import RefreshTokens
from auth.service_tokens import ServiceTokens
from auth.sessions import Sessions
from auth.settings import AuthServiceSettings
from auth.stores import Stores
from auth.turns import Turns
from grpc_common.new_id import new_id
from grpc_common.token_verifier import TokenVerifier


@dataclass(frozen=True, slots=True)
class UseCases:
    """Each of them, as they share what they stand on."""

    accounts: Accounts
    clients: ClientAccounts
    sessions: Sessions
    service_tokens: ServiceTokens
    tokens: Tokens
    keys: Keys
    administrators: Administrators

    @classmethod
    def of(
        cls,
        settings: AuthServiceSettings,
        stores: Stores,
        ring: KeyRing,
        verifier: TokenVerifier,
        hasher: PasswordHasher,
        guard: LoginGuard,
        server_secrets: Sequence[SecretBytes],
    ) -> Self:
        """Put them together."""
        clock = partial(datetime.now, UTC)
        recorder = Recorder(stores.audit, clock)
        access = AccessTokens(
            ring,
            issuer=settings.issuer,
            audience=settings.auth.audience,
            lifetime=settings.token_lifetime,
            taken_back_until=lambda: verifier.revocations.issued_until,
        )
        refresh = RefreshTokens(stores.families, server_secrets, settings.lifetimes, clock=stores.clock)
        turns = Turns(at_once=2 * settings.password_at_once, waiting=settings.password_waiting)
        credentials = Credentials(stores.users, hasher, turns, guard, recorder)
        return cls(
            accounts=Accounts(
                stores.users,
                hasher,
                settings.password_policy,
                credentials,
                recorder,
                bootstrap=settings.bootstrap_secret,
                registration=settings.registration,
                clock=clock,
                new_id=new_id,
            ),
            clients=ClientAccounts(stores.clients, recorder, clock),
            sessions=Sessions(
                stores.users, credentials, access, refresh, recorder, scopes=frozenset(settings.user_scopes)
            ),
            service_tokens=ServiceTokens(stores.clients, access, guard, recorder),
            tokens=Tokens(verifier, stores.revocations, refresh, recorder),
            keys=Keys(ring, recorder),
            administrators=Administrators(stores.users, stores.clients, stores.revocations),
        )
