"""Which traces are kept."""

from opentelemetry.sdk.trace.sampling import ParentBased, Sampler


class CallersChoice(ParentBased):
    """Samples what the caller samples and nothing that the caller does not; `root` decides where there is no caller."""

    def __init__(self, root: Sampler) -> None:
        super().__init__(root)
