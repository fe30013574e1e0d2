"""Mutants of a worker's life, of sleeps, and of what the server does to all."""

from typing import Final

from duress.scenarios.mutants.mutant import Mutant
from duress.scenarios.mutation import Substitution

TABLES: Final = "engine/sql/0001_tables.sql"
STORED: Final = "serialization failure stored as a permanent step error"

LIVES: Final = (
    Mutant(
        name="leaves-with-work",
        doc="a worker that leaves hands back what it runs, and not what it has claimed without knowing",
        like="crash between dequeue and status write",
        grade="rare",
        takes="a graceful stop while the answer to a claim is on its way",
        breaks=("W3", "L1"),
        substitutions=(
            Substitution(
                "engine/sql/0006_worker.sql",
                "update {schema}.live l set owner = null, ready_at = clock_timestamp() where l.owner = p_incarnation;",
                "null;",
            ),
        ),
    ),
    Mutant(
        name="notifications-trusted",
        doc="a worker that was told nothing asks again only after a minute",
        like="NOTIFY lost when PostgreSQL crashes",
        grade="two faults",
        takes="all workers lose a notification, and no other comes",
        breaks=("L1", "W3"),
        substitutions=(
            Substitution("engine/worker.py", "next_poll = now + options.poll\n", "next_poll = now + 60.0\n"),
            Substitution(
                "engine/worker.py", "next_full = loop.time() + options.poll * _FULL", "next_full = loop.time() + 60.0"
            ),
        ),
    ),
    Mutant(
        name="sleep-by-own-clock",
        doc="a sleep in memory ends by the worker's clock, and does not ask the database's",
        like="sleep scheduled on a skewed worker clock",
        grade="one fault",
        takes="a worker's clock that runs ahead",
        breaks=("T1",),
        substitutions=(
            Substitution("engine/sleeping.py", "now_at = await execution.runtime.store.now()", "now_at = due_at"),
        ),
    ),
    Mutant(
        name="sessions-of-an-old-life",
        doc="a worker that comes back keeps its sessions for transactions, under the name of its old incarnation",
        like="paused executor inside an open transaction blocking its successor",
        grade="two faults",
        takes="a worker is paused, comes back, and is paused again inside a transaction",
        breaks=("F3",),
        substitutions=(
            Substitution(
                "engine/worker.py",
                "        sessions = Sessions(connector, options.transactions, (lock_class(self._schema), incarnation))\n",
                "        key = (lock_class(self._schema), incarnation)\n"
                "        sessions = self._sessions = self._sessions or Sessions(connector, options.transactions, key)\n",
            ),
            Substitution(
                "engine/worker.py",
                "        self._in_haste = False\n        self._running:",
                "        self._in_haste = False\n        self._sessions: Sessions | None = None\n        self._running:",
            ),
            Substitution("engine/worker.py", "            await sessions.close()\n", ""),
        ),
    ),
    Mutant(
        name="unlogged-queue",
        doc="the table of queues is unlogged: it is only about waking sooner",
        like="NOTIFY lost when PostgreSQL crashes",
        grade="one fault",
        takes="a crash of the server after the last start",
        breaks=("L1", "W3"),
        substitutions=(
            Substitution(TABLES, "create table {schema}.queue (", "create unlogged table {schema}.queue ("),
        ),
    ),
    Mutant(
        name="unlogged-workers",
        doc="the table of workers is unlogged: leases are over after a crash anyway",
        like="orphan never reclaimed",
        grade="one fault",
        takes="a crash of the server while work is under way",
        breaks=("W3", "L1", "F1", "F2"),
        substitutions=(
            Substitution(TABLES, "create table {schema}.worker (", "create unlogged table {schema}.worker ("),
        ),
    ),
    Mutant(
        name="lock-timeout-is-failure",
        doc="a transaction that waited for a lock for too long has failed, and that is recorded",
        like=STORED,
        grade="one fault",
        takes="a lock that somebody else holds for longer than lock_timeout",
        breaks=("S7",),
        substitutions=(
            Substitution(
                "engine/link.py",
                "_CONTENTION = (pg.SerializationFailure, pg.DeadlockDetected, pg.LockNotAvailable)",
                "_CONTENTION = (pg.SerializationFailure, pg.DeadlockDetected)",
            ),
        ),
    ),
    Mutant(
        name="read-only-is-failure",
        doc="a transaction on a server that is read-only for now has failed, and that is recorded",
        like=STORED,
        grade="one fault",
        takes="a server that takes no writes for a while",
        breaks=("S7",),
        substitutions=(Substitution("engine/link.py", "    pg.ReadOnlySqlTransaction,\n", ""),),
    ),
    Mutant(
        name="idle-timeout-is-failure",
        doc="a transaction that PostgreSQL ended for being idle has failed, and that is recorded",
        like=STORED,
        grade="one fault",
        takes="idle_in_transaction_session_timeout within a step",
        breaks=("S7",),
        substitutions=(Substitution("engine/link.py", "    pg.IdleInTransactionSessionTimeout,\n", ""),),
    ),
    Mutant(
        name="deadlock-is-failure",
        doc="a transaction that PostgreSQL ended to break a deadlock has failed, and that is recorded",
        like=STORED,
        grade="one fault",
        takes="a deadlock with a session of somebody else",
        breaks=("S7",),
        substitutions=(
            Substitution(
                "engine/link.py",
                "_CONTENTION = (pg.SerializationFailure, pg.DeadlockDetected, pg.LockNotAvailable)",
                "_CONTENTION = (pg.SerializationFailure, pg.LockNotAvailable)",
            ),
        ),
    ),
    Mutant(
        name="late-snapshot-is-failure",
        doc="a transaction that came too late for its snapshot has failed, and that is recorded",
        like=STORED,
        grade="one fault",
        takes="rows that somebody else changes after a repeatable read transaction has begun",
        breaks=("S7",),
        substitutions=(
            Substitution(
                "engine/link.py",
                "_CONTENTION = (pg.SerializationFailure, pg.DeadlockDetected, pg.LockNotAvailable)",
                "_CONTENTION = (pg.DeadlockDetected, pg.LockNotAvailable)",
            ),
        ),
    ),
    Mutant(
        name="sleep-by-wall-clock",
        doc="a sleep in memory asks the worker's own clock whether it is over, not the database's",
        like="sleep scheduled on a skewed worker clock",
        grade="one fault",
        takes="a worker's clock that is set forward while one of its workflows sleeps",
        breaks=("T1", "W3", "L1"),
        substitutions=(
            Substitution("engine/sleeping.py", "import asyncio\n", "import asyncio\nimport time\n"),
            Substitution(
                "engine/sleeping.py",
                "due_at, now_at = answer.due_at, answer.now_at\n",
                "due_at, now_at = answer.due_at, time.time()\n",
            ),
            Substitution("engine/sleeping.py", "now_at = await execution.runtime.store.now()", "now_at = time.time()"),
        ),
    ),
    Mutant(
        name="slow-write-is-written",
        doc="a checkpoint whose answer takes more than 50 ms is taken for written, and the workflow goes on",
        like="checkpoint buffered, and lost with its worker",
        grade="one fault",
        takes="a link to the server that is slow",
        breaks=("S5",),
        substitutions=(
            Substitution(
                "engine/execution.py",
                "            answer, token = await self.runtime.store.checkpoint(self.fence(), checkpoint)\n",
                "            writing = asyncio.ensure_future(self.runtime.store.checkpoint(self.fence(), checkpoint))\n"
                "            if not (await asyncio.wait([writing], timeout=0.05))[0]:\n"
                '                return "written"\n'
                "            answer, token = writing.result()\n",
            ),
        ),
    ),
)
