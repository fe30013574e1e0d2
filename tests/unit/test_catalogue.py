"""Every kind of the catalogue has its fields, its sentence, its bounds, its way of being drawn, and its worlds."""

from random import Random
from typing import get_args

import msgspec
import pytest

from duress.faults import details, plan, worlds
from duress.faults.bounds import Bounds, lasts
from duress.faults.draw import Draw
from duress.faults.generate import generate
from duress.faults.plan import AtPoint, AtTime, Event, Plan, PlanError, describe
from duress.faults.planfile import loads
from duress.faults.validation import validate
from duress.scenarios.library.payments import payments

SOON = AtTime(seconds=0.4)


def at_once(fault: plan.AnyFault) -> Plan:
    return Plan(events=(Event(trigger=SOON, fault=fault),))


def test_every_kind_is_in_every_table_and_no_table_has_others() -> None:
    assert set(details.DRAWN) == set(worlds.ABLE) == set(payments.faults) == set(plan.KINDS)
    assert len(plan.KINDS) == 29


@pytest.mark.parametrize(
    ("fault", "sentence"),
    [
        (plan.DropConnection(how="fin"), "drop the connections (fin) of worker 1 at 0.4 s"),
        (plan.RefuseConnections(duration=1), "refuse the connections of worker 1 at 0.4 s for 1 s"),
        (plan.Partition(duration=2), "partition worker 1 from PostgreSQL at 0.4 s for 2 s"),
        (
            plan.Partition(duration=2, direction="to-worker", heals="dead"),
            "partition worker 1 from PostgreSQL (to-worker) at 0.4 s for 2 s; its connections are dead then",
        ),
        (plan.SlowLink(duration=1), "slow the link of worker 1 at 0.4 s by 0.05 s for 1 s"),
        (
            plan.SlowLink(duration=1, latency=0.1, jitter=0.2, bandwidth=9000),
            "slow the link of worker 1 at 0.4 s by 0.1 to 0.3 s and to 9000 bytes/s for 1 s",
        ),
        (plan.CutCommit(at="forwarded"), "cut the COMMIT (forwarded) of worker 1 at 0.4 s"),
        (plan.CrashAtCommit(at="after-record"), "crash the server at the COMMIT (after-record) of worker 1 at 0.4 s"),
        (plan.LoseNotify(duration=0.5), "lose the notifications of worker 1 at 0.4 s for 0.5 s"),
        (plan.CancelStatement(), "cancel a statement of worker 1 at 0.4 s"),
        (
            plan.StatementTimeout(),
            "let a statement of worker 1 run out of time at 0.4 s, with a statement_timeout of 0.05 s",
        ),
        (plan.LockTimeout(), "let worker 1 wait in vain for a lock at 0.4 s, with a lock_timeout of 0.05 s"),
        (plan.Deadlock(), "deadlock a transaction of worker 1 at 0.4 s"),
        (plan.SerializationFailure(), "change what a transaction of worker 1 is about to change at 0.4 s"),
        (plan.IdleInTransactionTimeout(), "let worker 1 idle in a transaction at 0.4 s, with a timeout of 0.05 s"),
        (plan.ReadOnly(duration=1), "let worker 1 only read at 0.4 s for 1 s"),
        (
            plan.TooManyConnections(duration=1),
            "take all connections of PostgreSQL, those of worker 1 too, at 0.4 s for 1 s",
        ),
        (plan.PausePostgres(duration=1), "pause PostgreSQL at 0.4 s for 1 s"),
        (plan.KillPostmaster(), "kill the postmaster at 0.4 s"),
        (plan.Failover(mode="async"), "fail over to the async standby at 0.4 s"),
        (plan.DiskFull(duration=1), "fill the disk of PostgreSQL at 0.4 s for 1 s"),
        (plan.FsyncFails(), "let an fsync of PostgreSQL fail at 0.4 s"),
        (
            plan.ClockSkew(duration=1, seconds=-5, drift=0.02),
            "set the clock of worker 1 wrong by -5 s, +2.0% a second at 0.4 s for 1 s",
        ),
        (plan.ClockJump(seconds=60), "move the clock of worker 1 by +60 s at 0.4 s"),
        (plan.ClockJump(seconds=60, of="server"), "move the clock of PostgreSQL by +60 s at 0.4 s"),
        (plan.Pooler(duration=1), "lead worker 1 through a transaction pooler at 0.4 s for 1 s"),
    ],
)
def test_a_fault_reads_as_a_sentence(fault: plan.AnyFault, sentence: str) -> None:
    assert describe(Event(trigger=SOON, fault=fault, worker=1)) == sentence


def test_a_fault_of_the_server_names_the_worker_whose_point_it_waits_for() -> None:
    event = Event(trigger=AtPoint(point="step.ended"), fault=plan.PausePostgres(duration=1), worker=2)
    assert describe(event) == "pause PostgreSQL when worker 2 is at its 1st step.ended for 1 s"


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        (plan.Partition(duration=0), "events[0].fault.duration is 0: must be more than 0"),
        (plan.SlowLink(duration=1, latency=-0.1), "events[0].fault.latency is -0.1: must be 0 or more"),
        (plan.SlowLink(duration=1, jitter=float("inf")), "events[0].fault.jitter is inf: must be 0 or more"),
        (plan.SlowLink(duration=1, bandwidth=0), "events[0].fault.bandwidth is 0: must be 1 or more bytes"),
        (plan.StatementTimeout(timeout=0.0001), "events[0].fault.timeout is 0.0001: must be 0.001 or more"),
        (plan.ClockSkew(duration=1), "events[0].fault.seconds is 0.0: a clock that is not moved is right"),
        (plan.ClockJump(seconds=0), "events[0].fault.seconds is 0: a clock that is not moved is right"),
        (
            plan.ClockJump(seconds=-1, of="server"),
            "events[0].fault.seconds is -1: the server's clock is set forward only",
        ),
        (plan.ClockJump(seconds=float("nan")), "events[0].fault.seconds is nan: must be seconds"),
        (plan.ClockSkew(duration=1, drift=2.0), "events[0].fault.drift is 2.0: must be a fraction"),
    ],
)
def test_what_cannot_be_is_refused_by_field(fault: plan.AnyFault, said: str) -> None:
    with pytest.raises(PlanError) as caught:
        validate(Plan(events=(Event(trigger=SOON, fault=fault),)))
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ('{"kind": "cut-commit"}', "events[0].fault.at is missing: one of before-forward, forwarded, "),
        ('{"kind": "cut-commit", "at": "forwaded"}', "is 'forwaded': must be one of before-forward, forwarded, "),
        ('{"kind": "cut-commit", "at": "forwaded"}', "did you mean 'forwarded'?"),
        ('{"kind": "crash-at-commit", "at": "forwarded"}', "must be one of before-record, after-record"),
        ('{"kind": "drop-connection", "how": "timeout"}', "events[0].fault.how is 'timeout': must be one of fin, rst"),
        (
            '{"kind": "partition", "duration": 1, "direction": "to-sever"}',
            "must be one of both, to-server, to-worker; did you mean 'to-server'?",
        ),
        ('{"kind": "partition", "duration": 1, "heals": "no"}', "must be one of alive, dead"),
        ('{"kind": "failover", "mode": "fast"}', "events[0].fault.mode is 'fast': must be one of sync, async"),
        ('{"kind": "clock-jump"}', "events[0].fault.seconds is missing: seconds"),
        ('{"kind": "clock-jump", "second": 1}', "allowed here are kind, seconds, of"),
    ],
)
def test_a_bad_file_is_refused_by_field_value_and_remedy(fault: str, said: str) -> None:
    with pytest.raises(PlanError) as caught:
        loads(f'{{"events": [{{"trigger": {{"at": "time", "seconds": 1}}, "fault": {fault}}}]}}')
    assert said in str(caught.value)


@pytest.mark.parametrize("kind", plan.KINDS)
def test_what_is_drawn_of_a_kind_is_valid_within_bounds_and_covers_its_choices(kind: str) -> None:
    for lease in (0.3, 1.0, 5.0):
        bounds = Bounds(lease=lease, kinds={kind: 1.0})
        drawn = [details.DRAWN[kind](Draw(Random(seed)), bounds) for seed in range(300)]
        assert {plan.kind(fault) for fault in drawn} == {kind}
        for fault in drawn:
            event = Event(trigger=SOON, fault=fault)
            validate(Plan(events=(event,)))
            assert lasts(event) <= bounds.longest
        for field in msgspec.structs.fields(plan.KINDS[kind]):
            choices = get_args(field.type) if isinstance(field.default, str) else ()
            # By hand only: a server's clock, and what needs root.
            if (kind, field.name) not in (("clock-jump", "of"), ("partition", "packets")):
                assert {getattr(fault, field.name) for fault in drawn} >= set(choices)


@pytest.mark.parametrize("kind", plan.KINDS)
def test_a_kind_is_drawn_where_it_is_the_only_one(kind: str) -> None:
    drawn = [generate(Random(seed), Bounds(kinds={kind: 1.0})) for seed in range(20)]
    assert all({plan.kind(event.fault) for event in one.events} == {kind} for one in drawn)


def test_a_world_refuses_by_name_what_it_cannot_do() -> None:
    impossible = Plan(events=(Event(trigger=SOON, fault=plan.Failover()),))
    with pytest.raises(PlanError, match=r"events\[0\]\.fault\.kind is 'failover': failover cannot be done in sim"):
        worlds.refuse(impossible, "sim")
    possible = Plan(events=(Event(trigger=SOON, fault=plan.KillWorker()),))
    worlds.refuse(possible, "sim")
    worlds.refuse(possible, "procs", "toxiproxy")


def test_only_a_simulated_servers_clock_is_moved() -> None:
    plan_ = Plan(events=(Event(trigger=SOON, fault=plan.ClockJump(seconds=1, of="server")),))
    worlds.refuse(plan_, "sim")
    with pytest.raises(
        PlanError, match=r"events\[0\]\.fault\.(of is 'server': the clock of a real|kind is 'clock-jump')"
    ):
        worlds.refuse(plan_, "procs")


def test_what_needs_another_network_is_refused_with_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(worlds.ABLE, "cut-commit", ("sim", "procs+proxy"))
    assert worlds.can("cut-commit", "sim")
    assert worlds.can("cut-commit", "procs", "proxy")
    assert worlds.objection("cut-commit", "procs", "toxiproxy") == (
        "cut-commit cannot be done in procs with --network toxiproxy; use --world sim or --world procs --network proxy"
    )
    assert worlds.objection("cut-commit", "docker") == (
        "cut-commit cannot be done in docker; use --world sim or --world procs --network proxy"
    )


def test_a_world_draws_from_what_it_can_do() -> None:
    assert worlds.drawable(["restart-postgres", "kill-worker"], "procs") == ["kill-worker", "restart-postgres"]
    assert worlds.drawable(["restart-postgres", "kill-worker"], "procs", own_server=False) == ["kill-worker"]


def test_one_way_partitions_are_cut_both_ways_in_containers_where_drawn_and_refused_where_asked_for() -> None:
    one_way = at_once(plan.Partition(duration=1.0, direction="to-worker"))
    with pytest.raises(PlanError, match=r"direction is 'to-worker'.*both directions; use both, or --world procs"):
        worlds.refuse(one_way, "docker")
    worlds.refuse(one_way, "procs")
    possible = worlds.as_possible(one_way, "docker", "proxy")
    worlds.refuse(possible, "docker")
    assert possible == at_once(plan.Partition(duration=1.0, direction="both"))
    assert worlds.as_possible(one_way, "procs", "toxiproxy") == one_way
    reset = at_once(plan.DropConnection(how="rst"))
    assert worlds.as_possible(reset, "procs", "proxy") == worlds.as_possible(reset, "sim", "toxiproxy") == reset
    assert worlds.as_possible(reset, "procs", "toxiproxy") == at_once(plan.DropConnection(how="fin"))
