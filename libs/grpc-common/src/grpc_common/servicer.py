"""Servicers that are given their use cases."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final, cast, is_protocol


class UnknownUseCaseError(LookupError):
    """A servicer asks for a use case it was not given: a fault of the composition root."""


class BaseServicer:
    """Holds the use cases a composition root made, by their types; nothing is global, nothing is made on the way.

    Put it before the generated class: `class ItemService(BaseServicer, ItemServiceServicer)`.
    """

    def __init__(self, use_cases: Mapping[type[Any], Any]) -> None:
        """Take each use case under its class, or under a class or Protocol it stands in for. Raise TypeError where a
        use case is not of the class it stands under.
        """
        for kind, use_case in use_cases.items():
            if not is_protocol(kind) and not isinstance(use_case, kind):
                raise TypeError(f"{type(use_case).__qualname__} is given as {kind.__qualname__}, which it is not")
        self._use_cases: Final = MappingProxyType(dict(use_cases))

    def get_use_case[T](self, use_case_type: type[T]) -> T:
        """Return the use case of that type. Raise UnknownUseCaseError, which says what there is instead."""
        try:
            return cast("T", self._use_cases[use_case_type])
        except KeyError:
            known = ", ".join(sorted(kind.__qualname__ for kind in self._use_cases)) or "none"
            asked = f"{type(self).__qualname__} was not given {use_case_type.__module__}.{use_case_type.__qualname__}"
            raise UnknownUseCaseError(f"{asked}; its use cases: {known}") from None
