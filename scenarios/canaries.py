"""Canaries: deliberately broken variants that the invariants must catch.

Each changes a few lines of the engine or of the workload, adds no delay and no randomness, and passes without faults
with one worker, unless `exception` says why it cannot. It is caught when an invariant that it breaks is reported.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from duress.scenarios import mutation
from duress.scenarios.mutants import MUTANTS, Mutant
from duress.scenarios.mutation import Substitution

Place = tuple[str, str | None]  # an engine point, and the step's name that narrows it or None

PAUSES: Final = {"pause-worker": 1.0}


class UnknownCanary(LookupError):
    """There is no canary of that name; the message says which there are."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Canary:
    """One broken variant. `faults` and `places` say what provokes it, where the scenario's own would rarely do."""

    name: str
    doc: str  # one line: what it does wrong
    breaks: tuple[str, ...]  # ids of invariants, the one that it stands for first
    substitutions: tuple[Substitution, ...]
    faults: Mapping[str, float] = field(default_factory=dict)  # kind → weight, instead of the scenario's
    places: tuple[Place, ...] = ()  # where faults are aimed at, instead of the usual places and the scenario's
    exception: str | None = None  # why it shows without faults


# A replay that has forgotten the last thing it did; shared by two canaries.
FORGETFUL: Final = Substitution(
    "engine/execution.py",
    "for checkpoint in claimed.checkpoints}",
    'for checkpoint in claimed.checkpoints if checkpoint is not claimed.checkpoints[-1] or checkpoint.kind != "step"}',
)

PAYMENTS: Final = (
    Canary(
        name="start-without-key",
        doc="start looks whether the id is there, then inserts; no unique key stands behind it",
        breaks=("W1",),
        substitutions=(
            Substitution(
                "engine/sql/0001_tables.sql",
                'id text collate "C" not null unique,',
                'id text collate "C" not null,',
            ),
            Substitution(
                "engine/sql/0002_start.sql",
                'order by a.id collate "C"\n        on conflict (id) do nothing',
                "where not exists (select from {schema}.workflow w where w.id = a.id)\n"
                '        order by a.id collate "C"',
            ),
            Substitution(
                "engine/sql/0002_start.sql",
                'join {schema}.workflow w on w.id = a.id collate "C"',
                "join {schema}.workflow w on w.number ="
                " (select max(v.number) from {schema}.workflow v where v.id = a.id)",
            ),
        ),
        exception="two starters race, which needs no fault",
    ),
    Canary(
        name="finish-without-epoch",
        doc="a worker ends a workflow whoever holds it now, and takes another's outcome for its own",
        breaks=("W2", "F1"),
        substitutions=(
            Substitution(
                "engine/sql/0005_finish.sql",
                "where l.number = p_number and l.owner = p_owner and l.epoch = p_epoch for update;",
                "where l.number = p_number for update;",
            ),
            Substitution(
                "engine/sql/0005_finish.sql",
                "where w.number = p_number and w.owner = p_owner and w.epoch = p_epoch and w.status = p_status;",
                "where w.number = p_number and w.status = p_status;",
            ),
            Substitution("engine/store.py", "Kind(self._finish_one, self._finish_many)", "Kind(self._finish_one)"),
        ),
        faults=PAUSES,
        places=(("workflow.finishing", None),),
    ),
    Canary(
        name="recovery-skips-new",
        doc="a takeover sets only those workflows free that have a checkpoint",
        breaks=("W3", "L1"),
        substitutions=(
            Substitution(
                "engine/sql/0006_worker.sql",
                "where l.owner = victim;",
                "where l.owner = victim and exists (select from {schema}.checkpoint c where c.number = l.number);",
            ),
        ),
        faults={"kill-worker": 1.0},
    ),
    Canary(
        name="upsert",
        doc="a replay that has forgotten its last step runs it again and replaces its checkpoint",
        breaks=("S1", "S2"),
        substitutions=(
            FORGETFUL,
            Substitution(
                "engine/sql/0004_checkpoint.sql",
                "on conflict (number, step) do nothing;\n"
                "    if found then\n"
                "        return 'written';\n"
                "    end if;\n"
                "    perform",
                "on conflict (number, step) do update\n"
                "    set value = excluded.value, owner = excluded.owner, epoch = excluded.epoch, at = excluded.at;\n"
                "    if found then\n"
                "        return 'written';\n"
                "    end if;\n"
                "    perform",
            ),
        ),
    ),
    Canary(
        name="replay-forgets-last-step",
        doc="a replay ignores the last checkpoint if a plain step wrote it",
        breaks=("S2",),
        substitutions=(FORGETFUL,),
    ),
    Canary(
        name="checkpoint-apart",
        doc="a transaction step commits its effects, then its checkpoint",
        breaks=("S3", "D1"),
        substitutions=(
            Substitution(
                "engine/transactions.py",
                "                answer = await _checkpoint(",
                '                await conn.execute(b"commit", prepare=False)\n'
                "                await sessions.begin(conn, step.isolation)\n"
                "                answer = await _checkpoint(",
            ),
        ),
    ),
    Canary(
        name="key-of-the-epoch",
        doc="the idempotency key has the epoch in it",
        breaks=("S4",),
        substitutions=(
            Substitution(
                "engine/steps.py", 'key = f"{claimed.id}:{id_}"', 'key = f"{claimed.id}:{id_}:{claimed.epoch}"'
            ),
        ),
    ),
    Canary(
        name="commit-guessed",
        doc="a COMMIT whose answer was lost is taken for done",
        breaks=("S5", "S1"),
        substitutions=(
            Substitution("engine/transactions.py", "return False  # or not yet", "return True  # or not yet"),
        ),
        faults={"terminate-backend": 2.0, "crash-backend": 1.0},
        places=(("step.committing", "debit"), ("step.committing", "credit")),
    ),
    Canary(
        name="path-unchecked",
        doc="a process decides for itself whether a transfer is screened, and a replay does not check its path",
        breaks=("S6",),
        substitutions=(
            Substitution(
                "scenarios/library/payments.py",
                "    await debit(source, cents)\n",
                "    await debit(source, cents)\n    if (os.getpid() + cents) % 2:\n        await screen(target, 1)\n",
            ),
            Substitution("scenarios/library/payments.py", "import itertools\n", "import itertools\nimport os\n"),
            Substitution(
                "engine/execution.py", "if (recorded.name, recorded.kind) != (name, kind):", "if recorded is None:"
            ),
        ),
    ),
    Canary(
        name="lost-connection-is-failure",
        doc="a transaction step whose connection is lost has failed, and that is recorded",
        breaks=("S7",),
        substitutions=(
            Substitution("engine/transactions.py", "if lost(culprit, conn):", "if isinstance(culprit, OSError):"),
        ),
        faults={"terminate-backend": 2.0, "crash-backend": 1.0},
        places=(("step.started", "debit"), ("step.ended", "credit")),
    ),
    Canary(
        name="fence-open",
        doc="a checkpoint is written whoever holds the workflow now, over another's if there is one",
        breaks=("F1", "S1", "S5"),
        substitutions=(
            Substitution("engine/sql/0004_checkpoint.sql", "if not p_wait then", "if false then"),
            Substitution(
                "engine/sql/0004_checkpoint.sql",
                "for share;\n    if not found then\n        return 'fenced';",
                "for share;\n    if false then\n        return 'fenced';",
            ),
            Substitution(
                "engine/sql/0004_checkpoint.sql",
                "on conflict (number, step) do nothing;\n"
                "    if found then\n"
                "        return 'written';\n"
                "    end if;\n"
                "    perform",
                "on conflict (number, step) do update\n"
                "    set value = excluded.value, owner = excluded.owner, epoch = excluded.epoch, at = excluded.at;\n"
                "    if found then\n"
                "        return 'written';\n"
                "    end if;\n"
                "    perform",
            ),
        ),
        faults=PAUSES,
        places=(("step.checkpointing", "charge"), ("step.started", "charge"), ("step.ended", "charge")),
    ),
    Canary(
        name="lease-cut-short",
        doc="a lease counts as over half a second before its end",
        breaks=("F2",),
        substitutions=(
            Substitution(
                "engine/sql/0006_worker.sql",
                "filter (where w.lease_until <= clock_timestamp())",
                "filter (where w.lease_until <= clock_timestamp() + interval '0.5 s')",
            ),
            Substitution(
                "engine/sql/0006_worker.sql",
                "elsif p_reason = 'lease' and v_worker.lease_until > clock_timestamp() then",
                "elsif p_reason = 'lease' and v_worker.lease_until > clock_timestamp() + interval '0.5 s' then",
            ),
        ),
        faults=PAUSES,
    ),
    Canary(
        name="sessions-left",
        doc="a takeover does not end the sessions of the worker that it declares dead",
        breaks=("F3",),
        substitutions=(
            Substitution(
                "engine/sql/0006_worker.sql",
                "perform pg_terminate_backend(s.pid) from unnest(v_sessions) as s (pid);",
                "null;",
            ),
        ),
        faults=PAUSES,
        places=(("step.committing", "debit"), ("step.committing", "credit")),
    ),
    Canary(
        name="sleep-over-in-replay",
        doc="a sleep that a replay finds recorded counts as over",
        breaks=("T1",),
        substitutions=(
            Substitution("engine/sleeping.py", "if due_at <= execution.claimed.claimed_at:", "if recorded.value:"),
        ),
        faults={"kill-worker": 1.0},
        places=(("step.checkpointed", "sleep"),),
    ),
    Canary(
        name="two-commits",
        doc="a balance is changed in a commit of its own, beside the one that enters the ledger",
        breaks=("D1",),
        substitutions=(
            Substitution(
                "scenarios/library/payments.py",
                "    changed = await tx.execute(\n"
                '        "update account set balance = balance + %s where id = %s returning balance",'
                " (cents, account)\n"
                "    )\n",
                "    async with await type(tx).connect(tx.info.dsn, autocommit=True) as apart:\n"
                "        changed = await apart.execute(\n"
                '            "update account set balance = balance + %s where id = %s returning balance",'
                " (cents, account)\n"
                "        )\n",
            ),
        ),
    ),
    Canary(
        name="dead-connection-kept",
        doc="a lost connection is not given up, and every later call is tried on it",
        breaks=("L1", "W3"),
        substitutions=(
            Substitution(
                "engine/link.py",
                "                            raise\n                        await self.drop()\n",
                "                            raise\n",
            ),
        ),
        faults={"crash-backend": 1.0, "restart-postgres": 1.0},
    ),
    Canary(
        name="asynchronous-commit",
        doc="sessions commit with synchronous_commit = off, which acknowledges what a crash may lose",
        breaks=("R1", "W3", "W2", "S5"),
        substitutions=(
            Substitution(
                "engine/link.py",
                "case when current_setting('synchronous_commit') = 'off' then"
                " set_config('synchronous_commit', 'on', false) end",
                "set_config('synchronous_commit', 'off', false)",
            ),
        ),
        faults={"crash-backend": 1.0},
    ),
)

BY_SCENARIO: Final = {"payments": PAYMENTS}


def canaries(scenario: str) -> dict[str, Canary]:
    """The canaries of a scenario by name; none for a scenario that has none."""
    return {canary.name: canary for canary in BY_SCENARIO.get(scenario, ())}


def find(name: str) -> Canary | Mutant:
    """The canary or mutant of that name, of whatever scenario. Raises UnknownCanary."""
    known = {canary.name: canary for group in BY_SCENARIO.values() for canary in group}
    if name not in known and name not in MUTANTS:
        raise UnknownCanary(
            f"there is no canary {name!r}; there is {', '.join(sorted(known))}, and {len(MUTANTS)} mutants"
        )
    return known[name] if name in known else MUTANTS[name]


def apply_canary(name: str) -> None:
    """Break this process: what the canary changes is imported changed. To be called before it is imported.

    Raises UnknownCanary, or SubstitutionError if the canary comes too late or does not fit the source.
    """
    mutation.install(find(name).substitutions)


async def apply_to_database(connection: Any, name: str, schema: str) -> None:
    """Break the SQL functions of a schema that was just migrated: it is made anew, and what was in it is gone.

    `connection` is a psycopg AsyncConnection in autocommit mode. Raises UnknownCanary and SubstitutionError.
    """
    await mutation.migrate_mutated(connection, schema, find(name).substitutions)
