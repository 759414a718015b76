"""What the proto says a field may hold, for the parameter over HTTP that is the same."""

from buf.validate import validate_pb2

from meshwork.auth.v1 import auth_service_pb2


def field_rules(message: str, field: str) -> validate_pb2.FieldRules:
    """Return the rules of a field, by its name, of a message of AuthService."""
    described = auth_service_pb2.DESCRIPTOR.message_types_by_name[message].fields_by_name[field]
    return described.GetOptions().Extensions[validate_pb2.field]


def longest(message: str, field: str) -> int:
    """Return how many characters a field may have."""
    return field_rules(message, field).string.max_len
