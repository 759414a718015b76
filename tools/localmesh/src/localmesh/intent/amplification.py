"""How often one call of a client can reach a server, at worst: everybody's retries on the way, multiplied."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import prod

from grpc_common.policy import MethodPolicy

CLIENT = "client"


@dataclass(frozen=True)
class Layer:
    """Something on the way that may repeat a call: its name, and how many attempts it makes of a call to a path.

    The numbers are to come from what really runs, such as a generated configuration, not from the policy again.
    """

    name: str
    attempts: Callable[[str], int]


@dataclass(frozen=True)
class Amplification:
    """The worst case of one RPC: attempts by layer for the worst way to it, and whether the policy means it so."""

    path: str
    way: str
    layers: Mapping[str, int]
    meant: int

    @property
    def attempts(self) -> int:
        """All together."""
        return prod(self.layers.values())

    @property
    def sum(self) -> str:
        """How they come about."""
        return " * ".join(f"{name} {attempts}" for name, attempts in self.layers.items())


def amplifications(policies: Iterable[MethodPolicy], ways: Mapping[str, Sequence[Layer]]) -> Iterable[Amplification]:
    """The worst case of each RPC over all `ways` to it: the layers after the client, by where the client stands."""
    for policy in policies:
        retry = policy.retry
        client = retry.max_attempts if retry is not None and retry.owner == "client" else 1
        meant = 1 if retry is None else retry.max_attempts
        cases = [
            Amplification(
                policy.path, way, {CLIENT: client} | {each.name: each.attempts(policy.path) for each in layers}, meant
            )
            for way, layers in ways.items()
        ]
        yield max(cases, key=lambda case: case.attempts)


def faults(found: Iterable[Amplification], budget: int) -> Iterable[str]:
    """A sentence for each RPC that can reach a server more often than its policy says, or than the budget allows."""
    for each in found:
        if each.attempts > each.meant:
            yield f"{each.path} is tried {each.attempts} times ({each.sum}, {each.way}); its policy says {each.meant}"
        elif each.attempts > budget:
            yield f"{each.path} is tried {each.attempts} times ({each.sum}, {each.way}); the budget is {budget}"
