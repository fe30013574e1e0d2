"""The world of a simulated program: while a run lasts, time and randomness are virtual and escapes are refused."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from .escapes import refusals, refuse_methods
from .inside import entered
from .loop import SimLoop
from .patches import rebound
from .virtual import change_classes, replacements


@contextmanager
def simulated(loop: SimLoop) -> Iterator[None]:
    """Inside, this thread lives in the loop's world; afterwards everything is as before. Runs cannot be nested."""
    with ExitStack() as stack:
        stack.enter_context(entered(loop))
        stack.enter_context(rebound(replacements() | refusals()))
        change_classes(stack)
        refuse_methods(stack)
        yield
