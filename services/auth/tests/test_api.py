"""What the API of auth promises: who may call what, what is checked, and that no secret of it gets into a log."""

import pytest
from google.protobuf.descriptor import Descriptor
from google.protobuf.message_factory import GetMessageClass

from grpc_common.message_view import MessageView
from grpc_common.policy import service_policies
from grpc_common.validation.validator import validator_of
from meshwork.auth.v1 import auth_service_pb2 as api

SERVICE = api.DESCRIPTOR.services_by_name["AuthService"]
POLICIES = {path.rpartition("/")[2]: policy for path, policy in service_policies(SERVICE).items()}
KINDS = list(api.DESCRIPTOR.message_types_by_name.values())

SECRETS = {
    *("password", "current_password", "new_password"),
    *("access_token", "refresh_token", "token", "client_secret", "secret"),
}
PROOFS = {"BootstrapAdmin", "Login", "Register", "Refresh", "Logout", "IssueServiceToken"}
"""What must be open to callers without an access token: most of it is how they get one."""


def test_a_token_is_needed_but_where_there_cannot_be_one_yet() -> None:
    assert {name for name, policy in POLICIES.items() if policy.access.anonymous} == PROOFS


def test_only_administrators_see_all_users_and_change_others() -> None:
    assert {name for name, policy in POLICIES.items() if policy.access.roles == ("admin",)} == {
        "ListUsers",
        "CreateUser",
        "SetRoles",
        "SetDisabled",
        "CreateClient",
        "DeleteClient",
        "RotateSigningKey",
    }


def test_guessing_is_slowed_down_and_so_is_making_keys() -> None:
    slow = PROOFS | {"ChangePassword", "RotateSigningKey"}

    assert {name for name, policy in POLICIES.items() if policy.rate is not None} == slow


def test_what_counts_attempts_or_makes_something_is_repeated_by_nobody() -> None:
    assert {name for name, policy in POLICIES.items() if policy.retry is None} == {
        "BootstrapAdmin",
        "Register",
        "CreateUser",
        "CreateClient",
        "Login",
        "ChangePassword",
        "RotateSigningKey",
    }


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_a_secret_is_not_shown_in_a_log(kind: Descriptor) -> None:
    secret = [field for field in kind.fields if field.name in SECRETS]

    shown = str(MessageView().of(GetMessageClass(kind)(**{field.name: "correct horse" for field in secret})))

    assert all(field.GetOptions().debug_redact for field in secret)
    assert "correct horse" not in shown


def test_there_are_secrets() -> None:
    assert {field.name for kind in KINDS for field in kind.fields} >= SECRETS


@pytest.mark.parametrize(
    "kind", [kind for kind in KINDS if kind.name.endswith("Request") and kind.fields], ids=lambda kind: kind.name
)
def test_an_empty_request_is_refused_unless_it_asks_for_a_list(kind: Descriptor) -> None:
    validator = validator_of(kind)

    assert validator is not None
    assert bool(validator.violations(GetMessageClass(kind)())) == (kind.name != "ListUsersRequest")


@pytest.mark.parametrize(
    "request_",
    [
        api.RegisterRequest(username="alice@example.org", password="correct horse battery"),
        api.LoginRequest(username="Alice", password="x", scopes=["items:read", "items:write"]),
        api.RefreshRequest(refresh_token="x"),
        api.RevokeFamilyRequest(family_id="0123456789abcdef" * 2),
        api.IssueServiceTokenRequest(client_id="items", client_secret="x"),
        api.ChangePasswordRequest(current_password="x", new_password="y"),
        api.SetRolesRequest(id="1", roles=["admin", "editor"], etag='"1"'),
        api.SetRolesRequest(id="1"),
        api.SetDisabledRequest(id="1"),
        api.BootstrapAdminRequest(secret="x", username="root", password="y"),
        api.CreateUserRequest(username="bob", password="x", roles=["editor"]),
        api.CreateClientRequest(client_id="importer", roles=["editor"], scopes=["items:write"]),
        api.DeleteClientRequest(client_id="importer"),
    ],
    ids=lambda request: type(request).__name__,
)
def test_a_good_request_is_let_through(request_) -> None:
    assert validator_of(request_.DESCRIPTOR).violations(request_) == []


@pytest.mark.parametrize(
    ("request_", "field"),
    [
        (api.RegisterRequest(username="-rf", password="x"), "username"),
        (api.RegisterRequest(username="a\n", password="x"), "username"),
        (api.RegisterRequest(username="a", password="x" * 257), "password"),
        (api.LoginRequest(username="a" * 65, password="x"), "username"),
        (api.LoginRequest(username="a", password="x", scopes=['"']), "scopes[0]"),
        (api.LoginRequest(username="a", password="x", scopes=["a", "a"]), "scopes"),
        (api.RefreshRequest(refresh_token="x" * 257), "refresh_token"),
        (api.RevokeFamilyRequest(family_id="../users"), "family_id"),
        (api.IntrospectRequest(token="x" * 8193), "token"),
        (api.SetRolesRequest(id="1", roles=["Admin"]), "roles[0]"),
        (api.ListUsersRequest(page_size=-1), "page_size"),
        (api.SetDisabledRequest(id="1", etag="\n"), "etag"),
        (api.BootstrapAdminRequest(secret="x" * 257, username="root", password="y"), "secret"),
        (api.CreateUserRequest(username="bob", password="x", roles=["editor", "editor"]), "roles"),
        (api.CreateClientRequest(client_id="im porter"), "client_id"),
        (api.CreateClientRequest(client_id="importer", scopes=[" "]), "scopes[0]"),
        (api.DeleteClientRequest(client_id="../users"), "client_id"),
    ],
)
def test_a_bad_request_is_refused_by_field(request_, field: str) -> None:
    (violation,) = validator_of(request_.DESCRIPTOR).violations(request_)

    assert violation.field == field
    assert "xxx" not in violation.message
