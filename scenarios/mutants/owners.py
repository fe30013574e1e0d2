"""Mutants of ownership: claims, takeovers, leases, and who is dead."""

from typing import Final

from duress.scenarios.mutants.mutant import Mutant
from duress.scenarios.mutation import Substitution

CLAIM: Final = "engine/sql/0003_claim.sql"
WORKER: Final = "engine/sql/0006_worker.sql"
FREED: Final = "set owner = null, ready_at = v_ready, takeovers = l.takeovers + 1\n        where l.owner = victim;"

OWNERS: Final = (
    Mutant(
        name="claim-beside-takeover",
        doc="a claim looks whether its worker is alive, and does not keep it from being declared dead meanwhile",
        like="stale list of pending work re-run by a second recoverer",
        grade="interleaving",
        takes="a paused worker comes back and claims between the two halves of its own takeover",
        breaks=("F1", "W3"),
        substitutions=(Substitution(CLAIM, "w.ended_at is null for key share;", "w.ended_at is null;"),),
    ),
    Mutant(
        name="dead-may-claim",
        doc="a claim asks whether its worker was ever a member, not whether it still is",
        like="recovery bypassing the check of who is alive",
        grade="two faults",
        takes="a worker is declared dead by its lock, lives, and claims before its next heartbeat",
        breaks=("F1", "W3"),
        substitutions=(
            Substitution(
                CLAIM,
                "w.incarnation = p_owner and w.ended_at is null for key share;",
                "w.incarnation = p_owner for key share;",
            ),
        ),
    ),
    Mutant(
        name="claim-unlocked",
        doc="a claim reads what is free without locking it",
        like="stale list of pending work re-run by a second recoverer",
        grade="interleaving",
        takes="two workers claim at once, one of them held between reading and writing",
        breaks=("F2", "S1"),
        substitutions=(
            Substitution(
                CLAIM,
                "limit greatest(0, p_room - cardinality(v_taken))\n            for update skip locked",
                "limit greatest(0, p_room - cardinality(v_taken))",
            ),
        ),
    ),
    Mutant(
        name="claim-of-the-past",
        doc="a claim brings the checkpoints that were there when it began, not when it got the row",
        like="branch flip between runs consuming another step's checkpoint",
        grade="interleaving",
        takes="a claim is held at its beginning while another worker writes a checkpoint and lets go",
        breaks=("S2", "D1"),
        substitutions=(
            Substitution(
                CLAIM,
                "checkpoint c where c.number = l.number) else 0 end",
                "checkpoint c where c.number = l.number and c.at <= v_now) else 0 end",
            ),
            Substitution(
                CLAIM,
                "checkpoint c on c.number = t.number\n        ) s",
                "checkpoint c on c.number = t.number and c.at <= v_now\n        ) s",
            ),
        ),
    ),
    Mutant(
        name="no-look-below-the-floor",
        doc="the floor of a queue is raised to now, and nobody ever looks below it",
        like="lost wake-up: registered after the check",
        grade="interleaving",
        takes="a start is held before its commit while another worker polls",
        breaks=("W3", "L1"),
        substitutions=(
            Substitution(CLAIM, "least(v_next, v_now - interval '1 s')", "least(v_next, v_now)"),
            Substitution("engine/worker.py", "room, held, now >= next_full)", "room, held, False)"),
        ),
    ),
    Mutant(
        name="newest-never-expires",
        doc="a heartbeat sees the ended leases of workers that joined before it, not of those that joined after",
        like="orphan never reclaimed",
        grade="one fault",
        takes="the worker that joined last is paused for longer than a lease and a second",
        breaks=("F3", "L1", "W3"),
        substitutions=(
            Substitution(
                WORKER,
                "from {schema}.worker w where w.ended_at is null and w.incarnation <> p_incarnation;",
                "from {schema}.worker w where w.ended_at is null and w.incarnation < p_incarnation;",
            ),
        ),
    ),
    Mutant(
        name="neighbour-unexamined",
        doc="workers that die together are taken over by their locks; only of the first are the sessions looked for",
        like="lease watchdog killing a healthy worker",
        grade="two faults",
        takes="a worker is killed while its neighbour has lost the session that holds its lock",
        breaks=("F2",),
        substitutions=(
            Substitution(
                WORKER,
                "when p_reason = 'lock' and v_sessions <> '{}' then 'sessions'",
                "when p_reason = 'lock' and v_sessions <> '{}' and victim = p_victim then 'sessions'",
            ),
        ),
    ),
    Mutant(
        name="sessions-unexamined",
        doc="a free lock is proof enough of a worker's death, whatever sessions it has",
        like="lease watchdog killing a healthy worker",
        grade="one fault",
        takes="just the session that holds a worker's lock is terminated",
        breaks=("F2",),
        substitutions=(
            Substitution(
                WORKER,
                "answer := case when p_reason = 'lock' and v_sessions <> '{}' then 'sessions' else 'taken' end;",
                "answer := 'taken';",
            ),
        ),
    ),
    Mutant(
        name="lease-not-looked-at-again",
        doc="a takeover by lease trusts what the heartbeat saw before it",
        like="lease watchdog killing a healthy worker",
        grade="interleaving",
        takes="a paused worker renews its lease between the heartbeat that saw it ended and the takeover",
        breaks=("F2",),
        substitutions=(
            Substitution(
                WORKER,
                "elsif p_reason = 'lease' and v_worker.lease_until > clock_timestamp() then",
                "elsif p_reason = 'lease' and v_worker.lease_until is null then",
            ),
        ),
    ),
    Mutant(
        name="takeover-unlocked",
        doc="a takeover reads the lease without locking the worker's row",
        like="lease watchdog killing a healthy worker",
        grade="interleaving",
        takes="a paused worker renews its lease between the reading of it and the end of its sessions",
        breaks=("F2", "F1"),
        substitutions=(
            Substitution(
                WORKER,
                "from {schema}.worker w where w.incarnation = victim for update;",
                "from {schema}.worker w where w.incarnation = victim;",
            ),
        ),
    ),
    Mutant(
        name="takeover-spares-fresh",
        doc="a takeover leaves alone what was claimed in the last 20 ms: that is still under way",
        like="orphan never reclaimed",
        grade="one fault",
        takes="a worker dies just after a claim",
        breaks=("W3", "L1"),
        substitutions=(
            Substitution(
                WORKER, FREED, FREED.replace("victim;", "victim and l.claimed_at < v_ready - interval '20 ms';")
            ),
        ),
    ),
    Mutant(
        name="takeover-within-room",
        doc="a takeover sets free only as many workflows as the one who takes over has room for",
        like="orphan never reclaimed at the concurrency limit",
        grade="one fault",
        takes="a worker with much work dies while its successor has much of its own",
        breaks=("W3", "L1"),
        substitutions=(
            Substitution(
                WORKER,
                FREED,
                FREED.replace(
                    "l.owner = victim;",
                    "l.number in (select o.number from {schema}.live o where o.owner = victim"
                    " order by o.number limit greatest(p_room, 1));",
                ),
            ),
        ),
    ),
    Mutant(
        name="namesake-buried-alone",
        doc="a worker that finds an expired one of its name strikes it off, and leaves its workflows to it",
        like="work pending for ever after a transient error in recovery",
        grade="two faults",
        takes="a worker is killed and the server goes away before anybody has taken it over",
        breaks=("W3", "L1"),
        substitutions=(
            Substitution(
                WORKER,
                "select t.answer into v_answer from {schema}.take_over_v1(v_other.incarnation, 'lease', p_limit) t;",
                "update {schema}.worker w set ended_at = clock_timestamp() where w.incarnation = v_other.incarnation;\n"
                "            v_answer := 'taken';",
            ),
        ),
    ),
    Mutant(
        name="takeover-spares-locked",
        doc="a takeover sets free what nobody has locked just then",
        like="orphan never reclaimed",
        grade="rare",
        takes="a paused worker comes back and writes between the end of its sessions and the end of its takeover",
        breaks=("W3", "L1"),
        substitutions=(
            Substitution(
                WORKER,
                FREED,
                FREED.replace(
                    "l.owner = victim;",
                    "l.number in (select o.number from {schema}.live o where o.owner = victim for update skip locked);",
                ),
            ),
        ),
    ),
)
