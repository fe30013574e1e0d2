"""Ctrl-C once: what runs is finished, and the report is written. Twice, or SIGTERM: everything stops at once."""

import asyncio
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager


class Interruption:
    """Whether somebody wants the campaign to end."""

    def __init__(self) -> None:
        self.asked = False

    def going(self) -> bool:
        """Whether to begin another run."""
        return not self.asked

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Within, signals mean that; to stop at once cancels the task that entered."""
        task, loop = asyncio.current_task(), asyncio.get_running_loop()
        assert task is not None

        def interrupted() -> None:
            if self.asked:
                task.cancel()
            else:
                self.asked = True
                # Not by click, which writes past the view that stands on a terminal, and leaves a line of it behind.
                print("finishing what runs, then the report; Ctrl-C again stops at once", file=sys.stderr, flush=True)

        loop.add_signal_handler(signal.SIGINT, interrupted)
        loop.add_signal_handler(signal.SIGTERM, task.cancel)
        try:
            yield
        finally:
            loop.remove_signal_handler(signal.SIGTERM)
            loop.remove_signal_handler(signal.SIGINT)
