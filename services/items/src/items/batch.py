"""Creates items by the hundred."""

from collections.abc import AsyncIterator, Sequence
from copy import copy
from dataclasses import dataclass, field

from grpc_common.errors import AppException, FieldViolation, ValidationError
from items.item import Item
from items.repository import Addition, ItemRepository


class BatchTooLongError(ValidationError):
    """The call has more items than one may have."""

    reason = "BATCH_TOO_LONG"


@dataclass(slots=True)
class BatchOutcome:
    """The ids of the items that are there now, and what was wrong with the others: fields are such as `[17].name`."""

    ids: list[str] = field(default_factory=list)
    errors: list[AppException] = field(default_factory=list)


type Asked = Addition | ValidationError
"""One item of the call, or the error that stands in its place."""


class BatchCreation:
    """Adds the items of one call, in transactions of bounded size: a transaction is done whole or not at all."""

    def __init__(self, repository: ItemRepository, *, most: int) -> None:
        self._repository = repository
        self._most = most

    async def run(self, batches: AsyncIterator[Sequence[Asked]]) -> BatchOutcome:
        """Adds one batch after the other, and returns what came of all.

        Raises:
            BatchTooLongError: naming the first item too many; those before it are added.
        """
        outcome, place = BatchOutcome(), 0
        async for batch in batches:
            taken = batch[: self._most - place]
            await self._add(taken, place, outcome)
            place += len(taken)
            if len(taken) < len(batch):
                raise BatchTooLongError(
                    f"a call may create {self._most} items: those before this one are created, send the rest in others",
                    field=f"[{place}]",
                    metadata={"created_count": str(len(outcome.ids))},
                )
        return outcome

    async def _add(self, batch: Sequence[Asked], start: int, outcome: BatchOutcome) -> None:
        additions = [each for each in batch if isinstance(each, Addition)]
        added = iter(await self._repository.add_many(additions))
        for place, each in enumerate(batch, start):
            result = next(added) if isinstance(each, Addition) else each
            if isinstance(result, Item):
                outcome.ids.append(result.id)
            else:
                outcome.errors.append(_placed(result, place))


def _placed(error: AppException, place: int) -> AppException:
    """Returns the error with the place of its item before the names of its fields."""
    error = copy(error)  # several may have come to the same
    if isinstance(error, ValidationError):
        error.violations = tuple(
            FieldViolation(_path(violation.field, place), violation.message) for violation in error.violations
        )
    error.field = _path(error.field, place)
    return error


def _path(name: str, place: int) -> str:
    return name if name.startswith("[") else f"[{place}].{name}".removesuffix(".")
