"""What the injectors of the real worlds share: all that one has injected is healed when it is left."""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Coroutine
from types import TracebackType
from typing import Self

from duress.faults.injectors.injection import Injection
from duress.faults.injectors.sessions import Sessions
from duress.faults.plan import Event


class RealInjector(ABC):
    """An async context manager. What raises in the background is raised on leaving, after all has been healed."""

    def __init__(self, sessions: Sessions) -> None:
        self._sessions = sessions
        self._injections: list[Injection] = []

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind_: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        outcomes = await asyncio.gather(*(one.heal() for one in self._injections), return_exceptions=True)
        await self._sessions.close()
        failed = [outcome for outcome in outcomes if isinstance(outcome, Exception)]
        if failed and error is None:
            raise failed[0]

    async def settle(self) -> None:
        """Wait until every injection is known to have fired or not, and has healed if it ever does."""
        for injection in self._injections:
            await injection.done()

    async def _begin(self, event: Event, worker: int) -> Injection:
        """Begin one that is not refused; returns when the victim may go on."""
        injection = Injection(event, worker)
        self._injections.append(injection)
        injection.begin(self._life(injection))
        await injection.released()
        return injection

    @abstractmethod
    def _life(self, injection: Injection) -> Coroutine[None, None, None]:
        """What the world does for this fault, until it has healed."""
