"""Mutants of writes: the fence, what is repeated, what is committed beside it."""

from typing import Final

from duress.scenarios.mutants.mutant import Mutant
from duress.scenarios.mutation import Substitution

CHECKPOINT: Final = "engine/sql/0004_checkpoint.sql"
FINISH: Final = "engine/sql/0005_finish.sql"

WRITES: Final = (
    Mutant(
        name="checkpoint-by-the-dead",
        doc="a write that waits for its row compares the epoch and not the owner",
        like="re-enqueue overwriting a live owner",
        grade="interleaving",
        takes="a paused worker comes back after it was declared dead and before its workflow is claimed again",
        breaks=("F1", "S1", "S2"),
        substitutions=(
            Substitution(
                CHECKPOINT,
                "where l.number = p_number and l.owner = p_owner and l.epoch = p_epoch\n    for share;",
                "where l.number = p_number and l.epoch = p_epoch\n    for share;",
            ),
        ),
    ),
    Mutant(
        name="outcome-by-the-dead",
        doc="an outcome that is written alone compares the epoch and not the owner",
        like="re-enqueue overwriting a live owner",
        grade="interleaving",
        takes="a paused worker comes back with an outcome before its workflow is claimed again",
        breaks=("F1",),
        substitutions=(
            Substitution(
                FINISH,
                "where l.number = p_number and l.owner = p_owner and l.epoch = p_epoch for update;",
                "where l.number = p_number and l.epoch = p_epoch for update;",
            ),
        ),
    ),
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
        name="sleep-hands-back-anothers",
        doc="a long sleep sets its workflow free even where the fence has refused it",
        like="re-enqueue overwriting a live owner",
        grade="one fault",
        takes="a pause just before a suspending sleep, ended while the successor is at work",
        breaks=("F2",),
        substitutions=(
            Substitution(CHECKPOINT, "if p_suspend and answer in ('written', 'already') then", "if p_suspend then"),
        ),
    ),
    Mutant(
        name="committed-again",
        doc="a transaction whose checkpoint is there already is committed a second time",
        like="duplicate loser raising to the user, then continuing with later steps",
        grade="rare",
        takes="a COMMIT is taken for lost while its session is still on the way to it",
        breaks=("S3", "D1"),
        substitutions=(
            Substitution(
                "engine/transactions.py", '            if answer != "written":', '            if answer == "fenced":'
            ),
        ),
    ),
    Mutant(
        name="checkpoint-without-key",
        doc="no unique key stands behind a checkpoint: the function looks, then inserts",
        like="two starters of one id",
        grade="rare",
        takes="a COMMIT is taken for lost and repeated while its session is still on the way to it",
        breaks=("S1", "S3", "D1"),
        substitutions=(
            Substitution(
                "engine/sql/0001_tables.sql", "    primary key (number, step)\n);", "    check (number > 0)\n);"
            ),
            Substitution(
                "engine/sql/0001_tables.sql",
                "create table {schema}.worker (",
                "create index checkpoint_key on {schema}.checkpoint (number, step);\n\ncreate table {schema}.worker (",
            ),
            Substitution(
                CHECKPOINT,
                "values (p_number, p_step, p_name, p_kind, p_failed, p_value::json, p_owner, p_epoch)\n"
                "        on conflict (number, step) do nothing;",
                "select p_number, p_step, p_name, p_kind, p_failed, p_value::json, p_owner, p_epoch where not exists"
                " (select from {schema}.checkpoint c where c.number = p_number and c.step = p_step);",
            ),
            Substitution(
                CHECKPOINT,
                "values (p_number, p_step, p_name, p_kind, p_failed, p_value::json, p_owner, p_epoch)\n"
                "    on conflict (number, step) do nothing;",
                "select p_number, p_step, p_name, p_kind, p_failed, p_value::json, p_owner, p_epoch where not exists"
                " (select from {schema}.checkpoint c where c.number = p_number and c.step = p_step);",
            ),
            Substitution(
                CHECKPOINT,
                "p_owner, f.epoch from fenced f\n        on conflict (number, step) do nothing",
                "p_owner, f.epoch from fenced f\n        where not exists"
                " (select from {schema}.checkpoint c where c.number = f.number and c.step = f.step)",
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
    Mutant(
        name="asynchronous-commit",
        doc="the engine's sessions commit without waiting for the log to be written",
        like="acknowledged commits that a crash loses",
        grade="one fault",
        takes="a crash of the server just after a commit",
        breaks=("S1", "W2", "W3", "D1"),
        substitutions=(
            Substitution(
                "engine/link.py",
                "case when current_setting('synchronous_commit') = 'off' then set_config('synchronous_commit', 'on',",
                "case when true then set_config('synchronous_commit', 'off',",
            ),
        ),
    ),
)
