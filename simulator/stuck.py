"""Where every task waits: the report of a run that cannot go on."""

import asyncio
import linecache
from collections.abc import Iterable
from types import FrameType
from typing import Any

from .handles import AnyTask, Chain

_ASYNCIO = asyncio.__name__ + "."


def describe_tasks(chains: Iterable[tuple[AnyTask, Chain]]) -> list[str]:
    """A line for each task that waits: its process, where it waits in its own code, inside what, and for which task."""
    lines = []
    for task, chain in chains:
        frames = awaiting(task)
        where = _place(frames)
        awaited = getattr(task, "_fut_waiter", None)
        line = f"  {chain.process or 'harness'}: {chain.label} ({task.get_name()}) waits {where}"
        if isinstance(awaited, asyncio.Task):
            line += f", for {awaited.get_name()}"
        if chain.owner is not None and chain.owner.paused:
            line += "; its process is paused"
        lines.append(line)
    return lines


def awaiting(task: AnyTask) -> list[FrameType]:
    """The frames that a task is suspended in, the innermost last."""
    frames = []
    inner: Any = task.get_coro()
    while inner is not None:
        for prefix, link in (("cr", "cr_await"), ("gi", "gi_yieldfrom"), ("ag", "ag_await")):
            if hasattr(inner, link):
                frame = getattr(inner, f"{prefix}_frame")
                if frame is not None:
                    frames.append(frame)
                inner = getattr(inner, link)
                break
        else:
            break
    return frames


def _place(frames: list[FrameType]) -> str:
    if not frames:
        return "to begin"
    outer = [frame for frame in frames if not frame.f_globals.get("__name__", "").startswith(_ASYNCIO)]
    own = outer[-1] if outer else frames[-1]
    text = f"at {_at(own)}"
    source = linecache.getline(own.f_code.co_filename, own.f_lineno).strip()
    if source:
        text += f" `{source}`"
    if own is not frames[-1]:
        text += f", in {_at(frames[-1])}"
    return text


def _at(frame: FrameType) -> str:
    return f"{frame.f_code.co_filename}:{frame.f_lineno} {frame.f_code.co_qualname}"
