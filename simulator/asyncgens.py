"""Async generators that are being iterated, by the process that does: it closes its own, and a killed one closes none."""

import asyncio
from collections.abc import AsyncGenerator
from typing import TYPE_CHECKING, Any

from .life import Life, bury

if TYPE_CHECKING:
    from .loop import SimLoop


class AsyncGenerators:
    """Of all processes in a loop; the harness's are asyncio's own business."""

    def __init__(self, loop: "SimLoop") -> None:
        self._loop = loop
        # By id, for a weak reference would be gone when the finaliser is called. In the order in which they began.
        self._lives: dict[int, Life] = {}

    def begun(self, life: Life, agen: AsyncGenerator[Any, Any]) -> None:
        life.asyncgens.add(agen)
        self._lives.pop(id(agen), None)  # of one that ended long ago
        self._lives[id(agen)] = life

    def dropped(self, agen: AsyncGenerator[Any, Any]) -> bool:
        """Nobody refers to it any more: close it in its own process. False if it is the harness's."""
        life = self._lives.pop(id(agen), None)
        if life is None:
            return False
        if life.dead:
            bury(agen)
        elif not self._loop.is_closed():
            self._loop.call_soon(self._loop.create_task, agen.aclose(), context=life.context.copy())
        return True

    async def shutdown(self, life: Life) -> None:
        """Close those that are left."""
        by_id = {
            id(agen): agen for agen in life.asyncgens
        }  # that set's order is one of addresses: no two runs share it
        left = [by_id[number] for number in self._lives if number in by_id]
        life.asyncgens.clear()
        for agen, result in zip(left, await asyncio.gather(*map(_closing, left), return_exceptions=True), strict=True):
            if isinstance(result, Exception):
                self._loop.call_exception_handler(
                    {
                        "message": f"an error occurred during closing of asynchronous generator {agen!r}",
                        "exception": result,
                        "asyncgen": agen,
                    }
                )


async def _closing(agen: AsyncGenerator[Any, Any]) -> None:
    await agen.aclose()
