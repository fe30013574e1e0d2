"""The rows of the table: a fault, how its effect is seen from outside, and what the client must have seen."""

from dataclasses import dataclass
from typing import Final

from benchmarks.fault_table.observe import (
    Look,
    all_silent,
    ambiguous,
    another_server,
    both,
    either,
    fenced,
    killed,
    late_claims,
    said,
    silent,
    stopped,
)
from duress.faults import plan

LOST: Final = r"(OperationalError|InterfaceError) without sqlstate$"
# A session that is ended with the server is told so, or finds its connection lost.
ENDED: Final = rf"57P0[123]|administrator command|{LOST}"
HANGS: Final = "an answer take long"


@dataclass(frozen=True, slots=True)
class Row:
    """`sees` is a pattern of what some worker saw; None: of this fault no worker may see an error at all."""

    fault: plan.AnyFault
    struck: Look
    sees: str | Look | None = None
    needs_rest: bool = False  # one worker that is mostly idle

    @property
    def name(self) -> str:
        at = getattr(self.fault, "at", None) or getattr(self.fault, "mode", None)
        return plan.kind(self.fault) + (f" {at}" if isinstance(at, str) else "")


ROWS: Final = (
    Row(plan.KillWorker(restart_after=0.1), killed),
    Row(plan.PauseWorker(duration=1.5), silent(1.4), fenced),
    Row(plan.StopWorker(restart_after=0.1), stopped),
    Row(plan.DropConnection(how="fin"), said(LOST), LOST),
    Row(plan.RefuseConnections(duration=0.6), said("Connection refused"), "Connection refused"),
    Row(plan.Partition(duration=1.5), both(silent(0.8), said(HANGS)), HANGS),
    Row(plan.SlowLink(duration=1.5, latency=0.2), said(HANGS), HANGS),
    Row(plan.CutCommit(at="before-forward"), ambiguous(False), LOST),
    Row(plan.CutCommit(at="forwarded"), ambiguous(True), LOST),
    Row(plan.CutCommit(at="applied-reply-held"), ambiguous(True), LOST),
    Row(plan.CutCommit(at="mid-CommandComplete"), ambiguous(True), LOST),
    Row(plan.CutCommit(at="before-ReadyForQuery"), ambiguous(True), LOST),
    Row(plan.CrashAtCommit(at="before-record"), both(another_server, ambiguous(False)), ENDED),
    Row(plan.CrashAtCommit(at="after-record"), both(another_server, ambiguous(True)), ENDED),
    Row(plan.LoseNotify(duration=3.0), late_claims(0.4), needs_rest=True),
    # A session that only listens has asked nothing, and finds its connection lost: psycopg has no sqlstate then.
    Row(plan.TerminateBackend(), said(rf"57P01|{LOST}"), rf"57P01|{LOST}"),
    Row(plan.CancelStatement(), said("57014"), "57014"),
    Row(plan.StatementTimeout(timeout=0.05), said("57014"), "57014"),
    Row(plan.LockTimeout(timeout=0.05), said("55P03"), "55P03"),
    Row(plan.Deadlock(), said("40P01"), "40P01"),
    Row(plan.SerializationFailure(), said("40001"), "40001"),
    Row(plan.IdleInTransactionTimeout(timeout=0.05), said("25P03"), "25P03"),
    Row(plan.ReadOnly(duration=0.5), said("25006"), "25006"),
    Row(plan.TooManyConnections(duration=0.5), said("too many|slots|53300"), "too many|slots|53300"),
    Row(plan.CrashBackend(), another_server, ENDED),
    Row(plan.PausePostgres(duration=0.8), all_silent(0.7), HANGS),
    Row(plan.RestartPostgres(mode="fast", down=0.2), another_server, ENDED),
    Row(plan.RestartPostgres(mode="immediate", down=0.2), another_server, ENDED),
    Row(plan.KillPostmaster(), another_server, ENDED),
    Row(plan.Failover(mode="sync"), said("timeline 2"), ENDED),
    Row(plan.Failover(mode="async"), said("timeline 2"), ENDED),
    Row(plan.DiskFull(duration=0.5), either(said("53100"), another_server), rf"53100|{ENDED}"),
    Row(plan.FsyncFails(), another_server, ENDED),
    Row(plan.ClockSkew(duration=1.0, seconds=30.0), said("its clock off")),
    Row(plan.ClockJump(seconds=-30.0), said("its clock off")),
    Row(plan.Pooler(duration=1.0), said("a pooler"), "a pooler"),
)
