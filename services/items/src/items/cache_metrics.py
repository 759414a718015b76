"""How much the cache is worth, for Prometheus."""

from enum import StrEnum
from typing import Final
from weakref import WeakKeyDictionary

from prometheus_client import CollectorRegistry, Counter


class Outcome(StrEnum):
    """What came of asking the cache."""

    HIT = "hit"
    MISS = "miss"
    WAITED_IN_VAIN = "waited_in_vain"
    CHANGING = "changing"
    ERROR = "error"
    PAUSED = "paused"


class CacheMetrics:
    """Counts what came of reading through the cache: `items_cache_reads_total{outcome}`."""

    @classmethod
    def of(cls, registry: CollectorRegistry) -> "CacheMetrics":
        """Returns the one that `registry` has; a process may have several caches."""
        if registry not in _of_registry:
            _of_registry[registry] = cls(registry)
        return _of_registry[registry]

    def __init__(self, registry: CollectorRegistry) -> None:
        counter = Counter(
            "items_cache_reads",
            "Items asked of the cache: found, or why the database was asked.",
            ["outcome"],
            registry=registry,
        )
        self._outcomes: Final = {outcome: counter.labels(outcome) for outcome in Outcome}

    def count(self, outcome: Outcome) -> None:
        """Counts one read."""
        self._outcomes[outcome].inc()


_of_registry: Final[WeakKeyDictionary[CollectorRegistry, CacheMetrics]] = WeakKeyDictionary()
