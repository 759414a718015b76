"""What went wrong, said in a sentence for the person at the keyboard."""


class MeshError(Exception):
    """A fault a person can act on: `str(error)` is the sentence, `detail` the lines that prove it."""

    def __init__(self, sentence: str, *, detail: str = "", exit_status: int = 1) -> None:
        super().__init__(sentence)
        self.detail = detail
        self.exit_status = exit_status


def of_system(error: OSError) -> str:
    """What the operating system has refused, as a sentence."""
    return f"{error.filename or 'the system'}: {error.strerror or error}"


class UsageError(MeshError):
    """The command line, the environment or the topology says something that makes no sense."""

    def __init__(self, sentence: str) -> None:
        super().__init__(sentence, exit_status=2)
