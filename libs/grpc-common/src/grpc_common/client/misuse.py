"""Faults of the program itself: a channel used where it cannot work. Raised at once, before anything can hang."""


class ChannelMisuseError(RuntimeError):
    """A channel used where it does not work."""


class ForeignLoopError(ChannelMisuseError):
    """A channel used from another event loop than the one it was made in, or from none."""


class ForkedChannelError(ChannelMisuseError):
    """A channel used in another process than the one it was made in."""


class ChannelClosedError(ChannelMisuseError):
    """A channel used after it was closed."""
