"""Mutants of writes: the fence, what is repeated, what is committed beside it."""

from typing import Final

from duress.scenarios.mutants.mutant import Mutant
from duress.scenarios.mutation import Substitution

CHECKPOINT: Final = "engine/sql/0004_checkpoint.sql"
FINISH: Final = "engine/sql/0005_finish.sql"

WRITES: Final = (
    Mutant(
        name="check-after-write",
        doc="a write that waits for its row is made, and then the fence is looked at",
        like="crash between dequeue and status write",
        grade="one fault",
        takes="a paused worker's checkpoint before its successor has written the same step",
        breaks=("F1", "S1", "S2"),
        substitutions=(
            Substitution(
                CHECKPOINT,
                "    if not p_wait then\n        return null;\n    end if;\n",
                "    if not p_wait then\n        return null;\n    end if;\n"
                "    insert into {schema}.checkpoint (number, step, name, kind, failed, value, owner, epoch)\n"
                "    values (p_number, p_step, p_name, p_kind, p_failed, p_value::json, p_owner, p_epoch)\n"
                "    on conflict (number, step) do nothing;\n",
            ),
        ),
    ),
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
)
