"""What is drawn about a fault once its kind is chosen: how long, how slow, where exactly.

Lengths go by the lease: what is shorter must go unnoticed, what is longer makes somebody take over.
"""

from collections.abc import Callable, Mapping
from typing import Final, get_args

from duress.faults import plan
from duress.faults.bounds import Bounds
from duress.faults.draw import Draw


def _kill(draw: Draw, bounds: Bounds) -> plan.AnyFault:
    return plan.KillWorker(restart_after=_absence(draw, bounds))


def _pause(draw: Draw, bounds: Bounds) -> plan.AnyFault:
    return plan.PauseWorker(duration=_zombie(draw, bounds))


def _stop(draw: Draw, bounds: Bounds) -> plan.AnyFault:
    return plan.StopWorker(restart_after=_absence(draw, bounds))


def _drop(draw: Draw, bounds: Bounds) -> plan.AnyFault:
    return plan.DropConnection(how="fin" if draw.chance(0.5) else "rst")


def _partition(draw: Draw, bounds: Bounds) -> plan.AnyFault:
    return plan.Partition(
        duration=_zombie(draw, bounds),
        direction=draw.one_of(get_args(plan.Direction)),
        heals="alive" if draw.chance(0.5) else "dead",
    )


def _slow(draw: Draw, bounds: Bounds) -> plan.AnyFault:
    """Some links so slow that heartbeats come late."""
    return plan.SlowLink(
        duration=_while(draw, bounds),
        latency=max(0.001, draw.seconds(0.005, 0.3 * bounds.lease)),
        jitter=draw.seconds(0.0, 0.2 * bounds.lease) if draw.chance(0.5) else 0.0,
        bandwidth=1000 * (5 + draw.below(200)) if draw.chance(0.3) else None,
    )


def _cut(draw: Draw, bounds: Bounds) -> plan.AnyFault:
    return plan.CutCommit(at=draw.one_of(get_args(plan.CommitPoint)))


def _crash_at_commit(draw: Draw, bounds: Bounds) -> plan.AnyFault:
    return plan.CrashAtCommit(at="before-record" if draw.chance(0.5) else "after-record")


def _restart(draw: Draw, bounds: Bounds) -> plan.AnyFault:
    down = draw.seconds(0.1, 1.0) if draw.chance(0.5) else 0.0
    return plan.RestartPostgres(mode="fast" if draw.chance(0.5) else "immediate", down=down)


def _failover(draw: Draw, bounds: Bounds) -> plan.AnyFault:
    return plan.Failover(mode="sync" if draw.chance(0.5) else "async")


def _skew(draw: Draw, bounds: Bounds) -> plan.AnyFault:
    return plan.ClockSkew(
        duration=_while(draw, bounds),
        seconds=_off(draw, bounds),
        drift=round(draw.seconds(-0.1, 0.1), 2) if draw.chance(0.5) else 0.0,
    )


def _jump(draw: Draw, bounds: Bounds) -> plan.AnyFault:
    return plan.ClockJump(seconds=_off(draw, bounds))


def _lasting(
    kind: Callable[..., plan.AnyFault], length: Callable[[Draw, Bounds], float]
) -> Callable[[Draw, Bounds], plan.AnyFault]:
    return lambda draw, bounds: kind(duration=length(draw, bounds))


def _timed(kind: Callable[..., plan.AnyFault]) -> Callable[[Draw, Bounds], plan.AnyFault]:
    return lambda draw, bounds: kind(timeout=max(0.005, draw.seconds(0.01, 0.2 * bounds.lease)))


def _plain(kind: Callable[[], plan.AnyFault]) -> Callable[[Draw, Bounds], plan.AnyFault]:
    return lambda draw, bounds: kind()


def _zombie(draw: Draw, bounds: Bounds) -> float:
    """One in four is back in time. The others outlast the lease, so that what they then write must be fenced; one in four by
    so much that a transaction left open has held up its successor for longer than it may.
    """
    lease = bounds.lease
    fenced = (1.2 * lease, 2.5 * lease)
    low, high = draw.one_of(((0.1 * lease, 0.7 * lease), fenced, fenced, (lease + 1.05, bounds.longest)))
    return max(0.001, draw.seconds(low, high))


def _absence(draw: Draw, bounds: Bounds) -> float | None:
    """Mostly back before the lease is over, sometimes after it, now and then never."""
    if draw.chance(0.7):
        return draw.seconds(0.0, 0.5 * bounds.lease)
    return draw.seconds(bounds.lease, 2 * bounds.lease) if draw.chance(0.7) else None


def _while(draw: Draw, bounds: Bounds) -> float:
    return max(0.01, draw.seconds(0.2 * bounds.lease, 2.0 * bounds.lease))


def _off(draw: Draw, bounds: Bounds) -> float:
    """By a lease or so, or by a day: ahead or behind."""
    off = max(0.01, draw.seconds(0.3 * bounds.lease, 5.0 * bounds.lease)) if draw.chance(0.7) else 86400.0
    return off if draw.chance(0.5) else -off


# Kind → how it is drawn. A kind that changes how it is drawn changes the plan of every seed that somebody wrote down.
DRAWN: Final[Mapping[str, Callable[[Draw, Bounds], plan.AnyFault]]] = {
    "kill-worker": _kill,
    "pause-worker": _pause,
    "stop-worker": _stop,
    "drop-connection": _drop,
    "refuse-connections": _lasting(plan.RefuseConnections, _while),
    "partition": _partition,
    "slow-link": _slow,
    "cut-commit": _cut,
    "crash-at-commit": _crash_at_commit,
    "lose-notify": _lasting(plan.LoseNotify, _while),
    "terminate-backend": _plain(plan.TerminateBackend),
    "cancel-statement": _plain(plan.CancelStatement),
    "statement-timeout": _timed(plan.StatementTimeout),
    "lock-timeout": _timed(plan.LockTimeout),
    "deadlock": _plain(plan.Deadlock),
    "serialization-failure": _plain(plan.SerializationFailure),
    "idle-in-transaction-timeout": _timed(plan.IdleInTransactionTimeout),
    "read-only": _lasting(plan.ReadOnly, _while),
    "too-many-connections": _lasting(plan.TooManyConnections, _while),
    "crash-backend": _plain(plan.CrashBackend),
    "pause-postgres": _lasting(plan.PausePostgres, _while),
    "restart-postgres": _restart,
    "kill-postmaster": _plain(plan.KillPostmaster),
    "failover": _failover,
    "disk-full": _lasting(plan.DiskFull, _while),
    "fsync-fails": _plain(plan.FsyncFails),
    "clock-skew": _skew,
    "clock-jump": _jump,
    "pooler": _lasting(plan.Pooler, _while),
}
