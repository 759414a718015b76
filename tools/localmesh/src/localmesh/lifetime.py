"""What is started and stopped, as a context."""

from abc import ABC, abstractmethod
from types import TracebackType
from typing import Self


class Lifetime(ABC):
    """`async with` starts it and stops it at the end; what a failed start left behind is stopped as well."""

    @abstractmethod
    async def start(self) -> None:
        """Returns when it does its work; raises when it cannot."""

    @abstractmethod
    async def stop(self) -> None:
        """Ends it, however far it came."""

    async def __aenter__(self) -> Self:
        try:
            await self.start()
        except BaseException:
            await self.stop()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()
