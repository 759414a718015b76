"""Reading constraints out of options so that none is overlooked."""

from typing import Any, Final, Self

from google.protobuf.message import Message
from google.protobuf.unknown_fields import UnknownFieldSet

# What only documents a constraint.
_SAYS_NOTHING: Final = frozenset({"example"})


class UnsupportedConstraintError(Exception):
    """A proto has a constraint that this package would not enforce: a fault of the program, found as it starts."""


class Constraints:
    """The fields that are set in one message of options; each is taken once, and none may be left over.

    `where` names the field (or oneof, or message) they stand at.
    """

    def __init__(self, where: str, kind: str, left: dict[str, Any]) -> None:
        self.where: Final = where
        self.kind: Final = kind
        self._left = left

    @classmethod
    def of(cls, where: str, options: Message) -> Self:
        """Read `options`, a message of the package `buf.validate`.

        Raises:
            UnsupportedConstraintError: it has fields that the generated code of `buf.validate` does not know.
        """
        kind = options.DESCRIPTOR.name
        if len(UnknownFieldSet(options)):
            raise UnsupportedConstraintError(
                f"{where} has a constraint in {kind} which this program does not know, perhaps an extension of "
                "buf.validate or one of a later version: take it out, or check this in the handler"
            )
        left = {
            f"({field.full_name})" if field.is_extension else field.name: value
            for field, value in options.ListFields()
            if field.name not in _SAYS_NOTHING
        }
        return cls(where, kind, left)

    def take(self, name: str, default: Any = None) -> Any:
        """Return the constraint `name`, or `default` when it is not set."""
        return self._left.pop(name, default)

    def take_any(self, *names: str) -> tuple[str, Any] | None:
        """Return the first of `names` that is set, with its value."""
        return next(((name, self.take(name)) for name in names if name in self._left), None)

    def finish(self) -> None:
        """Refuse what nobody took.

        Raises:
            UnsupportedConstraintError: naming the constraints.
        """
        if self._left:
            names = ", ".join(sorted(self._left))
            raise self.refusal(f"{names} (of {self.kind}), which is not supported here")

    def refusal(self, reason: str) -> UnsupportedConstraintError:
        """Return the error that says of this place: it has `reason`."""
        return UnsupportedConstraintError(f"{self.where} has {reason}: take it out, or check this in the handler")
