"""What a fault-free run passes, each place of it as something to strike at, and what came of striking there."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Final, Literal

import msgspec

from duress.engine import observer
from duress.faults.plan import (
    AnyFault,
    AtPoint,
    AtStatement,
    CrashBackend,
    DropConnection,
    Event,
    KillWorker,
    PauseWorker,
    TerminateBackend,
    kind,
)
from duress.scenarios import history
from duress.scenarios.observed import Observed

Where = Literal["before", "inside", "after", "point"]
WHERE: Final[tuple[Where, ...]] = ("point", "before", "inside", "after")
RESTART: Final = 0.05  # seconds until a killed worker is started again
POINTS: Final = frozenset(value for name, value in vars(observer).items() if name.isupper() and isinstance(value, str))


class Target(msgspec.Struct, frozen=True, kw_only=True):
    """One fault at one place. `text` is the statement or the engine point there."""

    where: Where
    text: str
    event: Event

    @property
    def place(self) -> tuple[object, ...]:
        """The place, whatever strikes there."""
        return self.event.worker, self.event.trigger


class Swept(msgspec.Struct, frozen=True, kw_only=True):
    """What came of one run. `led_away`: the second fault of a pair found no place any more, because of the first."""

    targets: tuple[Target, ...]
    verdict: Literal["pass", "fail", "unexplained"]
    struck: int  # how many of the faults took effect
    why: tuple[str, ...] = ()
    broken: tuple[str, ...] = ()  # ids of invariants
    message: str = ""
    token: str = ""  # of a run that did not pass
    led_away: bool = False


def faults(lease: float) -> Mapping[Where, tuple[AnyFault, ...]]:
    """What strikes where. A pause outlasts the lease; a reply is lost by a dropped connection after the statement."""
    kill, drop, terminate, crash = (
        KillWorker(restart_after=RESTART),
        DropConnection(how="rst"),
        TerminateBackend(),
        CrashBackend(),
    )
    pause = PauseWorker(duration=round(2 * lease, 3))
    return {
        "point": (kill, pause, terminate, crash),
        "before": (kill, drop, terminate),
        "inside": (terminate,),
        "after": (kill, drop, pause, crash),
    }


def targets(base: Observed, strikes: Mapping[Where, Sequence[AnyFault]]) -> list[Target]:
    """Every place of a fault-free run under every fault that strikes there, in the order of the run."""
    places = [*_points(base), *_statements(base)]
    return [
        Target(where=where, text=text, event=Event(trigger=trigger, fault=fault, worker=worker))
        for where, text, trigger, worker in places
        for fault in strikes.get(where, ())
    ]


Place = tuple[Where, str, AtPoint | AtStatement, int]


def _points(base: Observed) -> Iterator[Place]:
    """Engine points, while the workload is under way; counted from the beginning, as triggers do."""
    reached: Counter[tuple[int, str, object]] = Counter()
    entries = base.evidence.history
    end = next((entry.at for entry in entries if entry.name == history.CALM_BEGAN), 0.0)
    for entry in entries:
        if not entry.source.startswith("worker ") or entry.name not in POINTS:
            continue
        worker = int(entry.source.removeprefix("worker "))
        step = entry.facts.get("name") if entry.name.startswith("step.") else None
        key = worker, entry.name, step
        reached[key] += 1
        if 0 <= entry.at < end:
            trigger = AtPoint(point=entry.name, step=step, occurrence=reached[key])
            yield "point", f"{entry.name} of {step}" if step else entry.name, trigger, worker


def _statements(base: Observed) -> Iterator[Place]:
    assert base.simulated is not None
    for _, process, number, text, points in base.simulated.exchanges:
        if not process.startswith("worker-"):
            continue
        worker, words = int(process.removeprefix("worker-")), statement(text)
        yield "before", words, AtStatement(number=number, where="before"), worker
        for point in range(1, points + 1):
            yield "inside", words, AtStatement(number=number, where="inside", point=point), worker
        yield "after", words, AtStatement(number=number, where="after"), worker


def statement(text: str) -> str:
    """The statement in one short line, without the digest that the simulator adds."""
    line = " ".join(text.rpartition(" /")[0].split() or text.split())
    return line if len(line) <= 60 else f"{line[:59]}…"


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """One kind of fault at one kind of place. `reached` by the fault-free run, `hit` by this fault."""

    where: Where
    fault: str
    reached: int
    hit: int
    passed: int
    failed: int
    unexplained: int


def table(wanted: Sequence[Target], results: Sequence[Swept]) -> list[Row]:
    """Coverage of single faults."""
    order = list(dict.fromkeys((one.where, kind(one.event.fault)) for one in wanted))
    rows = []
    for where, fault in order:
        own = [one for one in results if _is(one, where, fault)]
        counts = Counter(one.verdict for one in own)
        rows.append(
            Row(
                where=where,
                fault=fault,
                reached=sum(one.where == where and kind(one.event.fault) == fault for one in wanted),
                hit=sum(one.struck > 0 for one in own),
                passed=counts["pass"],
                failed=counts["fail"],
                unexplained=counts["unexplained"],
            )
        )
    return rows


def places_hit(results: Sequence[Swept]) -> int:
    """At how many places some fault took effect."""
    return len({one.targets[0].place for one in results if len(one.targets) == 1 and one.struck})


def _is(one: Swept, where: Where, fault: str) -> bool:
    return len(one.targets) == 1 and one.targets[0].where == where and kind(one.targets[0].event.fault) == fault
