"""Random programs of several sessions that get in each other's way in every manner PostgreSQL knows, one step at a time.

A run follows from its seed alone: which session goes next, which statement it sends, at which inner point it is held,
which of the woken goes on, when time passes. Its steps say all that could be seen, so two runs can be compared.
"""

import random
from collections import Counter
from dataclasses import dataclass, field
from typing import Final

from duress.simulator.server import EPOCH_US, Blocked, Cell, Event, HarnessError, Held, Outcome, Session

SESSIONS: Final = 6
STATEMENTS: Final = 14  # a session, a run
HELD_SHARE: Final = 0.3  # of the statements are armed to be held at one of their first points
ROLLBACK_SHARE: Final = 0.7  # of the statements in a failed transaction, where all others would fail
TIMER_SHARE: Final = 0.04  # of the steps let time pass although something else could be done

SCHEMA: Final = (
    "create table t (id int primary key, v int not null)",
    "create table u (k int primary key, who int)",
    "create table f (id int references t (id), w int)",
    "create table q (id int primary key, state text not null)",
    """create function claim(who int) returns int language plpgsql as $$
    declare running int; mine int;
    begin
        select count(*) into running from q where state = 'r';
        if running >= 2 then return null; end if;
        update q set state = 'r'
        where id = (select id from q where state = 'n' order by id for update skip locked limit 1) returning id into mine;
        return mine;
    end $$""",
    """create function shift(a int, b int) returns void language plpgsql as $$
    begin
        update t set v = v + 1 where id = a;
        perform pg_advisory_xact_lock(b);
        update t set v = v - 1 where id = b;
    end $$""",
    """create function audit() returns trigger language plpgsql as $$
    begin
        insert into u values (new.id + 100, new.w) on conflict (k) do update set who = excluded.who;
        return new;
    end $$""",
    "create trigger audited after insert on f for each row execute function audit()",
)
FILLING: Final = (
    "insert into t select g, 0 from generate_series(1, 4) g; insert into q select g, 'n' from generate_series(1, 5) g"
)
STATEMENT_KINDS: Final = (
    "update t set v = v + 1 where id = {a}",
    "update t set v = v + 1 where id in ({a}, {b})",
    "select * from t where id = {a} for share",
    "select * from t where id = {a} for update",
    "select * from t where id = {a} for no key update",
    "select * from t where id = {a} for key share",
    "select * from t where id = {a} for update nowait",
    "select id from t where v < 100 order by id for update skip locked limit 1",
    "select sum(v) from t",
    "insert into u values ({a}, {s})",
    "insert into u values ({a}, {s}) on conflict do nothing",
    "insert into u values ({a}, {s}) on conflict (k) do update set who = u.who + 1",
    "delete from u where k = {a}",
    "insert into f values ({a}, {s})",
    "delete from f where id = {a}",
    "update t set id = id where id = {a}",
    "delete from t where id = {a}",
    "insert into t values ({a}, 0)",
    "select pg_advisory_xact_lock({a})",
    "select pg_advisory_xact_lock_shared({a})",
    "lock table f in share mode",
    "lock table u in access exclusive mode",
    "select claim({s})",
    "select shift({a}, {b})",
    "set local lock_timeout = '{a}s'",
    "set local statement_timeout = '{b}s'",
    "select pg_sleep({a} / 2.0)",
    "savepoint s",
    "rollback to s",
    "begin",
    "begin",
    "begin isolation level repeatable read",
    "begin isolation level serializable",
    "begin isolation level serializable",
    "begin isolation level serializable read only deferrable",
    "commit",
    "commit",
    "commit",
    "rollback",
    "select pg_cancel_backend(pid) from pg_stat_activity where application_name = 'session {a}'",
    "notify c, '{a}'",
    "listen c",
    "select random() < 2, gen_random_uuid()",
)

Step = tuple[object, ...]


@dataclass(slots=True)
class Counts:
    """What happened in all runs so far."""

    statements: int = 0
    waits: Counter[str] = field(default_factory=Counter)  # by PostgreSQL's name of the wait
    holds: int = 0
    timers: int = 0
    errors: Counter[str] = field(default_factory=Counter)  # by sqlstate


class Contest:
    """Six sessions on one database of a cell, kept from run to run."""

    def __init__(self, cell: Cell) -> None:
        self.cell = cell
        self.counts = Counts()
        cell.create_database("contest")
        self.observer = cell.open_session("contest")
        for statement in SCHEMA:
            self.observer.run(statement)
        self.sessions = [cell.open_session("contest", seed=number) for number in range(SESSIONS)]
        for number, session in enumerate(self.sessions, 1):
            session.run(f"set application_name = 'session {number}'")

    def close(self) -> None:
        """End the sessions and drop the database."""
        for session in (self.observer, *self.sessions):
            session.close()
        self.cell.drop_database("contest")

    def run(self, seed: int) -> list[Step]:
        """One run; all that was seen of it."""
        self._prepare(seed)
        return _Run(self, random.Random(seed)).steps

    def _prepare(self, seed: int) -> None:
        """The same physical state and the same sessions as before every other run."""
        for number, session in enumerate(self.sessions, 1):
            session.run("discard all")
            session.run(f"set application_name = 'session {number}'")
            session.notifications()
        self.cell.begin()
        kept = [session.pgconn for session in (self.observer, *self.sessions)]
        for session in (self.observer, *self.sessions):
            session.backend.release()
        self.cell.begin()
        self.observer, *self.sessions = (
            Session(pgconn, self.cell.adopt(pgconn, seed * 8 + number, fresh=False))
            for number, pgconn in enumerate(kept)
        )
        self.cell.reset("contest")
        self.observer.run(FILLING)


class _Run:
    """A run under way."""

    def __init__(self, contest: Contest, chance: random.Random) -> None:
        self.contest = contest
        self.cell = contest.cell
        self.chance = chance
        self.steps: list[Step] = []
        self.left = dict.fromkeys(contest.sessions, STATEMENTS)
        while self._step():
            pass
        for session in contest.sessions:
            if not session.busy:
                self._note(session, session.send("rollback"))
        tables = contest.observer.run(
            "table t order by 1; table u order by 1; table f order by 1, 2; table q order by 1"
        )
        self.steps.append(("end", *(reply.rows for reply in tables)))

    def _step(self) -> bool:
        """Do one thing of those that can be done; False when nothing is left to do."""
        can = self._choices()
        timers = [(b.number, self._after(b.timer_us)) for b in self.cell.backends if b.timer_us]
        self.steps.append(
            (
                "can",
                self.cell.now_us - EPOCH_US,
                *((session.backend.number, what) for session, what in can),
                "timers",
                timers,
            )
        )
        if can and self.chance.random() >= TIMER_SHARE:
            session, what = self.chance.choice(can)
            self._send(session) if what == "send" else self._note(session, session.grant())
            return True
        if can:
            self._pass_time()
            return True
        return self._end_a_transaction() or self._pass_time() or self._cancel_one()

    def _choices(self) -> list[tuple[Session, str]]:
        can = []
        for session, left in self.left.items():
            if not session.busy:
                if left:
                    can.append((session, "send"))
            elif session.backend.state == "held":
                can.append((session, "go on"))
            elif session.backend.woken:
                can.append((session, "wake"))
        return can

    def _send(self, session: Session) -> None:
        """The next statement of a session, perhaps held at one of its first points."""
        chance, backend = self.chance, session.backend
        self.left[session] -= 1
        kind = chance.choice(STATEMENT_KINDS)
        if session.in_failed_transaction and chance.random() < ROLLBACK_SHARE:
            kind = "rollback"
        statement = kind.format(a=chance.randint(1, 4), b=chance.randint(1, 4), s=backend.number)
        backend.arm(chance.randint(1, 6) if chance.random() < HELD_SHARE else None)
        self.contest.counts.statements += 1
        self.steps.append((backend.number, "sends", statement))
        self._note(session, session.send(statement))

    def _note(self, session: Session, outcome: Outcome | Event) -> None:
        """Write down what came of it, once everybody has taken in the signals that it may have caused."""
        self.cell.settle()
        number, counts = session.backend.number, self.contest.counts
        if isinstance(outcome, tuple):
            session.backend.arm(None)
            self.steps.append((number, "is answered", outcome, session.notifications()))
            counts.errors.update(reply.sqlstate for reply in outcome if reply.sqlstate)
        elif isinstance(outcome, Blocked):
            self.steps.append((number, "waits", outcome.wait_event, self._after(outcome.until_us)))
            counts.waits[outcome.wait_event] += 1
        elif isinstance(outcome, Held):
            self.steps.append((number, "is held", outcome.point.name, session.backend.points))
            counts.holds += 1
        else:
            raise HarnessError(f"session {number} of a contest has come to {outcome}: {session.backend.describe()}")

    def _pass_time(self) -> bool:
        """Go to the next moment at which a timer or a wait is due, and let one of them go off; False: there is none."""
        due = [
            (at, session, is_timer)
            for session in self.contest.sessions
            for at, is_timer in ((session.backend.timer_us, True), (session.backend.wait_until_us, False))
            if at is not None
        ]
        if not due:
            return False
        now = max(self.cell.now_us, min(at for at, _, _ in due))
        at, session, is_timer = self.chance.choice([one for one in due if one[0] <= now])
        self.cell.set_now(now)
        self.contest.counts.timers += 1
        self.steps.append((session.backend.number, "timer" if is_timer else "time is up", self._after(at)))
        if is_timer:
            session.backend.deliver_timer()
        else:
            self._note(session, session.grant(timed_out=True))
        return True

    def _end_a_transaction(self) -> bool:
        """Roll back the first transaction that has nothing more to do, for others may wait for it."""
        for session in self.contest.sessions:
            if not session.busy and session.in_transaction:
                self._note(session, session.send("rollback"))
                return True
        return False

    def _cancel_one(self) -> bool:
        """Cancel the first statement that waits, for those who wait do so for each other, and PostgreSQL does not see it.

        So it is when a deferrable transaction holds a table lock and waits for its safe snapshot.
        """
        for session in self.contest.sessions:
            if session.busy:
                self.steps.append((session.backend.number, "is cancelled"))
                self.contest.observer.run(f"select pg_cancel_backend({session.backend.pid})")
                self.cell.settle()
                return True
        return False

    def _after(self, at_us: int | None) -> int | None:
        return None if at_us is None else at_us - EPOCH_US
