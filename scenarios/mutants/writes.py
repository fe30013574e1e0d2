"""Mutants of writes: the fence, what is repeated, what is committed beside it."""

from typing import Final

from duress.scenarios.mutants.mutant import Mutant
from duress.scenarios.mutation import Substitution

CHECKPOINT: Final = "engine/sql/0004_checkpoint.sql"
FINISH: Final = "engine/sql/0005_finish.sql"

WRITES: Final = (
    Mutant(
        name="second-race-is-failure",
        doc="a transaction that loses two races in a row against others has failed, and that is recorded",
        like="serialization failure stored as a permanent step error",
        grade="rare",
        takes="two serialization failures in a row, the second just after the first",
        breaks=("S7",),
        substitutions=(Substitution("engine/transactions.py", "_MOST_CONTENTION = 100", "_MOST_CONTENTION = 2"),),
    ),
    Mutant(
        name="shutdown-is-failure",
        doc="a session that is told to end counts as lost only once its socket is seen closed",
        like="serialization failure stored as a permanent step error",
        grade="one fault",
        takes="a session is terminated between two statements of a transaction step",
        breaks=("S7",),
        substitutions=(
            Substitution("engine/transactions.py", "        if lost(culprit, conn):\n", "        if conn.closed:\n"),
        ),
    ),
    Mutant(
        name="start-revives",
        doc="starting an id again puts its workflow back to work if it has ended meanwhile",
        like="stale list of pending work re-run by a second recoverer",
        grade="rare",
        takes="a start's answer is lost, and the workflow has ended before it is sent again",
        breaks=("W2",),
        substitutions=(
            Substitution(
                "engine/sql/0002_start.sql",
                "select f.number, f.queue, f.name, clock_timestamp() from fresh f\n",
                "select f.number, f.queue, f.name, clock_timestamp() from fresh f\n"
                "        union all select w.number, w.queue, w.name, clock_timestamp() from {schema}.workflow w\n"
                "        where w.id = any (p_ids) and w.status <> 'open'\n",
            ),
        ),
    ),
    Mutant(
        name="start-before-the-log",
        doc="a start is acknowledged before the log of it is written",
        like="acknowledged commits that a crash loses",
        grade="one fault",
        takes="a crash of the server just after a start",
        breaks=("W3", "W2", "S1"),
        substitutions=(
            Substitution(
                "engine/sql/0002_start.sql",
                "    insert into {schema}.queue (name)\n",
                "    perform set_config('synchronous_commit', 'off', true);\n    insert into {schema}.queue (name)\n",
            ),
        ),
    ),
    Mutant(
        name="outcome-before-the-log",
        doc="an outcome is acknowledged before the log of it is written",
        like="acknowledged commits that a crash loses",
        grade="one fault",
        takes="a crash of the server just after the end of a workflow",
        breaks=("W2", "F1"),
        substitutions=(
            Substitution(
                FINISH,
                "    v_finished boolean[];\nbegin\n",
                "    v_finished boolean[];\nbegin\n    perform set_config('synchronous_commit', 'off', true);\n",
            ),
        ),
    ),
    Mutant(
        name="checkpoint-before-the-log",
        doc="a checkpoint that is written alone, and what commits with it, is acknowledged before the log of it is written",
        like="acknowledged commits that a crash loses",
        grade="one fault",
        takes="a crash of the server just after a step",
        breaks=("S1", "S2", "S5", "D1"),
        substitutions=(
            Substitution(
                CHECKPOINT,
                "    -- The common case: nobody holds the lock, and at most one checkpoint is named.\n",
                "    perform set_config('synchronous_commit', 'off', true);\n",
            ),
        ),
    ),
    Mutant(
        name="checkpoint-unlocked",
        doc="a checkpoint looks at the fence and does not hold it to its commit",
        like="fencing by an unlocked read of the run's id",
        grade="rare",
        takes="a workflow changes hands between a write's look at the fence and its commit",
        breaks=("F1", "S1"),
        substitutions=(
            Substitution(
                CHECKPOINT,
                'c.step = p_known[1] collate "C"))\n    for share skip locked;',
                'c.step = p_known[1] collate "C"));',
            ),
        ),
    ),
    Mutant(
        name="outcome-unlocked",
        doc="outcomes in a batch look at the fence without locking it",
        like="fencing by an unlocked read of the run's id",
        grade="rare",
        takes="a workflow changes hands between a batch's look at the fence and its write",
        breaks=("F1", "W2"),
        substitutions=(
            Substitution(
                FINISH,
                "where l.number = a.number and l.owner = p_owner and l.epoch = a.epoch\n            for update skip locked",
                "where l.number = a.number and l.owner = p_owner and l.epoch = a.epoch",
            ),
        ),
    ),
)
