"""The fault catalogue: every kind of fault, what it does, and what can be chosen about it.

Durations and timeouts are seconds (float). A fault strikes one worker (the event's target) unless it says that it strikes
the server: then all workers suffer it, and the target only chooses a session.
"""

from typing import Literal

import msgspec

Direction = Literal["both", "to-server", "to-worker"]
CommitPoint = Literal[
    "before-forward", "forwarded", "applied-reply-held", "mid-CommandComplete", "before-ReadyForQuery"
]


class Fault(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="kind"):
    """Base of all faults; `kind` names the fault as the catalogue does."""

    def words(self) -> tuple[str, str]:
        """Its sentence: what stands before the trigger, with {} for the worker, and what after it."""
        raise NotImplementedError


# Processes


class KillWorker(Fault, frozen=True, kw_only=True, tag="kill-worker"):
    """SIGKILL to the worker's process group; started again after `restart_after` seconds, or never (None)."""

    restart_after: float | None = 0.3

    def words(self) -> tuple[str, str]:
        return "kill {}", _return_of_worker(self.restart_after)


class PauseWorker(Fault, frozen=True, kw_only=True, tag="pause-worker"):
    """SIGSTOP, then SIGCONT after `duration` seconds. Longer than the lease makes a zombie."""

    duration: float

    def words(self) -> tuple[str, str]:
        return "pause {}", f" for {self.duration:g} s"


class StopWorker(Fault, frozen=True, kw_only=True, tag="stop-worker"):
    """SIGTERM: the worker drains and hands over; started again after `restart_after` seconds, or never (None)."""

    restart_after: float | None = 0.3

    def words(self) -> tuple[str, str]:
        return "stop {} gracefully", _return_of_worker(self.restart_after)


# Networks, between one worker and the server


class DropConnection(Fault, frozen=True, kw_only=True, tag="drop-connection"):
    """All connections of the worker are closed under it, orderly (`fin`) or not (`rst`); it may make new ones at once."""

    how: Literal["fin", "rst"] = "rst"

    def words(self) -> tuple[str, str]:
        return f"drop the connections ({self.how}) of {{}}", ""


class RefuseConnections(Fault, frozen=True, kw_only=True, tag="refuse-connections"):
    """The worker's connections are reset, and new ones refused (ECONNREFUSED) for `duration` seconds."""

    duration: float

    def words(self) -> tuple[str, str]:
        return "refuse the connections of {}", f" for {self.duration:g} s"


class Partition(Fault, frozen=True, kw_only=True, tag="partition"):
    """For `duration` seconds what the worker sends (`to-server`), what it is sent (`to-worker`), or both is withheld.

    Connections stay up and sessions keep their locks. It heals with them `alive` (what was withheld arrives, in order) or
    `dead` (they are reset). `dropped` packets are not even acknowledged, which needs root among real processes.
    """

    duration: float
    direction: Direction = "both"
    heals: Literal["alive", "dead"] = "alive"
    packets: Literal["withheld", "dropped"] = "withheld"

    def words(self) -> tuple[str, str]:
        side = "" if self.direction == "both" else f" ({self.direction})"
        side += " by dropping packets" if self.packets == "dropped" else ""
        dead = "; its connections are dead then" if self.heals == "dead" else ""
        return f"partition {{}} from PostgreSQL{side}", f" for {self.duration:g} s{dead}"


class SlowLink(Fault, frozen=True, kw_only=True, tag="slow-link"):
    """For `duration` seconds all between the worker and the server takes `latency` to `latency` + `jitter` seconds longer
    each way, and no more than `bandwidth` bytes a second pass (None: any number).
    """

    duration: float
    latency: float = 0.05
    jitter: float = 0.0
    bandwidth: int | None = None

    def words(self) -> tuple[str, str]:
        upper = f" to {self.latency + self.jitter:g}" if self.jitter else ""
        pipe = f" and to {self.bandwidth} bytes/s" if self.bandwidth is not None else ""
        return "slow the link of {}", f" by {self.latency:g}{upper} s{pipe} for {self.duration:g} s"


class CutCommit(Fault, frozen=True, kw_only=True, tag="cut-commit"):
    """The connection is lost at the worker's next COMMIT, which is not applied at `before-forward` only.

    `forwarded`: lost as soon as the server has it; the other three: lost when the server has answered, and the worker got
    nothing of it, half of CommandComplete, or all but ReadyForQuery.
    """

    at: CommitPoint

    def words(self) -> tuple[str, str]:
        return f"cut the COMMIT ({self.at}) of {{}}", ""


class LoseNotify(Fault, frozen=True, kw_only=True, tag="lose-notify"):
    """For `duration` seconds notifications do not reach the worker."""

    duration: float

    def words(self) -> tuple[str, str]:
        return "lose the notifications of {}", f" for {self.duration:g} s"


class Pooler(Fault, frozen=True, kw_only=True, tag="pooler"):
    """For `duration` seconds the worker is led through PgBouncer in transaction mode: its connections are reset, and those
    that it makes then share server sessions with others. Afterwards they are reset once more.
    """

    duration: float

    def words(self) -> tuple[str, str]:
        return "lead {} through a transaction pooler", f" for {self.duration:g} s"


# Sessions and statements of one worker


class TerminateBackend(Fault, frozen=True, kw_only=True, tag="terminate-backend"):
    """pg_terminate_backend on one session of the worker: in a transaction if there is one, else any of its sessions."""

    def words(self) -> tuple[str, str]:
        return "terminate a session of {}", ""


class CancelStatement(Fault, frozen=True, kw_only=True, tag="cancel-statement"):
    """pg_cancel_backend on a session of the worker while it runs a statement."""

    def words(self) -> tuple[str, str]:
        return "cancel a statement of {}", ""


class StatementTimeout(Fault, frozen=True, kw_only=True, tag="statement-timeout"):
    """A statement of the worker is under a statement_timeout of `timeout` seconds, and takes longer."""

    timeout: float = 0.05

    def words(self) -> tuple[str, str]:
        return "let a statement of {} run out of time", f", with a statement_timeout of {self.timeout:g} s"


class LockTimeout(Fault, frozen=True, kw_only=True, tag="lock-timeout"):
    """A session of the worker is under a lock_timeout of `timeout` seconds, and a stranger holds for longer what it wants."""

    timeout: float = 0.05

    def words(self) -> tuple[str, str]:
        return "let {} wait in vain for a lock", f", with a lock_timeout of {self.timeout:g} s"


class Deadlock(Fault, frozen=True, kw_only=True, tag="deadlock"):
    """A stranger and a transaction of the worker each wait for what the other holds; PostgreSQL ends the worker's."""

    def words(self) -> tuple[str, str]:
        return "deadlock a transaction of {}", ""


class SerializationFailure(Fault, frozen=True, kw_only=True, tag="serialization-failure"):
    """A stranger commits a change of rows that a repeatable read transaction of the worker is about to change."""

    def words(self) -> tuple[str, str]:
        return "change what a transaction of {} is about to change", ""


class IdleInTransactionTimeout(Fault, frozen=True, kw_only=True, tag="idle-in-transaction-timeout"):
    """The worker stands still in an open transaction for longer than an idle_in_transaction_session_timeout of `timeout`."""

    timeout: float = 0.05

    def words(self) -> tuple[str, str]:
        return "let {} idle in a transaction", f", with a timeout of {self.timeout:g} s"


class ReadOnly(Fault, frozen=True, kw_only=True, tag="read-only"):
    """For `duration` seconds all sessions of the worker may only read, as on a standby."""

    duration: float

    def words(self) -> tuple[str, str]:
        return "let {} only read", f" for {self.duration:g} s"


# The server, for everybody


class TooManyConnections(Fault, frozen=True, kw_only=True, tag="too-many-connections"):
    """For `duration` seconds strangers hold all of the server's connections that are free; the worker's are reset, so that it
    needs new ones.
    """

    duration: float

    def words(self) -> tuple[str, str]:
        return "take all connections of PostgreSQL, those of {} too,", f" for {self.duration:g} s"


class CrashBackend(Fault, frozen=True, kw_only=True, tag="crash-backend"):
    """SIGKILL to one backend of the worker: PostgreSQL goes through crash recovery and all sessions are lost."""

    def words(self) -> tuple[str, str]:
        return "crash the server by a SIGKILL to a backend of {}", ""


class CrashAtCommit(Fault, frozen=True, kw_only=True, tag="crash-at-commit"):
    """The same to the backend that runs the worker's next COMMIT: before its commit record is written, or after it, with
    the locks still held and the answer not sent.
    """

    at: Literal["before-record", "after-record"]

    def words(self) -> tuple[str, str]:
        return f"crash the server at the COMMIT ({self.at}) of {{}}", ""


class PausePostgres(Fault, frozen=True, kw_only=True, tag="pause-postgres"):
    """SIGSTOP to the postmaster and all backends for `duration` seconds: nobody is answered."""

    duration: float

    def words(self) -> tuple[str, str]:
        return "pause PostgreSQL", f" for {self.duration:g} s"


class RestartPostgres(Fault, frozen=True, kw_only=True, tag="restart-postgres"):
    """Stop (`fast` or `immediate`) and start the server; it is away for about `down` seconds."""

    mode: Literal["fast", "immediate"] = "fast"
    down: float = 0.0

    def words(self) -> tuple[str, str]:
        return f"restart PostgreSQL ({self.mode})", f"; it stays away for {self.down:g} s" if self.down else ""


class KillPostmaster(Fault, frozen=True, kw_only=True, tag="kill-postmaster"):
    """SIGKILL to the postmaster alone: its sessions find out one by one; the server is started again when all are gone."""

    def words(self) -> tuple[str, str]:
        return "kill the postmaster", ""


class Failover(Fault, frozen=True, kw_only=True, tag="failover"):
    """The primary is killed and its standby promoted. An `async` standby may lack acknowledged commits; a `sync` one not."""

    mode: Literal["sync", "async"] = "sync"

    def words(self) -> tuple[str, str]:
        return f"fail over to the {self.mode} standby", ""


class DiskFull(Fault, frozen=True, kw_only=True, tag="disk-full"):
    """For `duration` seconds the server's writes fail with ENOSPC."""

    duration: float

    def words(self) -> tuple[str, str]:
        return "fill the disk of PostgreSQL", f" for {self.duration:g} s"


class FsyncFails(Fault, frozen=True, kw_only=True, tag="fsync-fails"):
    """An fsync of the server's fails with EIO: it must not go on as if its data were safe."""

    def words(self) -> tuple[str, str]:
        return "let an fsync of PostgreSQL fail", ""


# Clocks


class ClockSkew(Fault, frozen=True, kw_only=True, tag="clock-skew"):
    """For `duration` seconds the worker's wall clock is `seconds` ahead (or behind), and runs `drift` too fast (0.01: 1 %)."""

    duration: float
    seconds: float = 0.0
    drift: float = 0.0

    def words(self) -> tuple[str, str]:
        drift = f", {self.drift:+.1%} a second" if self.drift else ""
        return f"set the clock of {{}} wrong by {self.seconds:+g} s{drift}", f" for {self.duration:g} s"


class ClockJump(Fault, frozen=True, kw_only=True, tag="clock-jump"):
    """The wall clock of the worker is set forward (or back) by `seconds`, or that of the server forward, and stays so."""

    seconds: float
    of: Literal["worker", "server"] = "worker"

    def words(self) -> tuple[str, str]:
        whose = "{}" if self.of == "worker" else "PostgreSQL"
        return f"move the clock of {whose} by {self.seconds:+g} s", ""


AnyFault = (
    KillWorker
    | PauseWorker
    | StopWorker
    | DropConnection
    | RefuseConnections
    | Partition
    | SlowLink
    | CutCommit
    | CrashAtCommit
    | LoseNotify
    | TerminateBackend
    | CancelStatement
    | StatementTimeout
    | LockTimeout
    | Deadlock
    | SerializationFailure
    | IdleInTransactionTimeout
    | ReadOnly
    | TooManyConnections
    | CrashBackend
    | PausePostgres
    | RestartPostgres
    | KillPostmaster
    | Failover
    | DiskFull
    | FsyncFails
    | ClockSkew
    | ClockJump
    | Pooler
)

# By what they strike. The first take a worker away: it may do nothing until they are over.
WORKER_FAULTS = (KillWorker, PauseWorker, StopWorker, RefuseConnections, Partition, ReadOnly)
# An outage takes the server away from everybody, so it needs a server that is ours.
OUTAGES = (
    TooManyConnections,
    CrashBackend,
    CrashAtCommit,
    PausePostgres,
    RestartPostgres,
    KillPostmaster,
    Failover,
    DiskFull,
    FsyncFails,
)


def kind_of(part: type[msgspec.Struct]) -> str:
    """The name of a class of faults or triggers, as JSON and the catalogue have it."""
    tag = part.__struct_config__.tag
    assert isinstance(tag, str)
    return tag


KINDS: dict[str, type[Fault]] = {kind_of(fault): fault for fault in AnyFault.__args__}


def _return_of_worker(after: float | None) -> str:
    return "; it stays away" if after is None else f"; restart it after {after:g} s"
