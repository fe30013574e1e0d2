"""The story of a small run: few numbered events, what each worker believed, the fault, and where it went wrong."""

from duress.engine import observer
from duress.scenarios import history
from duress.scenarios.history import Entry, Evidence, Facts, FinalState
from duress.scenarios.observed import Observed, Simulated
from duress.scenarios.shrinking.neighbours import Neighbour
from duress.scenarios.shrinking.story import LONGEST, instead, numbered, story

CLOCK = 1_900_000_000.0
MESSAGE = "The effects of step 1 (debit) of w are in the ledger 2 times."


def observed(*entries: Entry) -> Observed:
    simulated = Simulated(
        hash="ab", code="cd", twice=False, exchanges=((0.12, "worker-0", 1, "commit /6626f7d2", 2),), began=0.0
    )
    nothing = FinalState(workflows=(), checkpoints=(), workers=())
    evidence = Evidence(seed=1, history=entries, final=nothing, clock_offset=CLOCK, lease=0.3, workers=2)
    return Observed(evidence, (), 0.1, (), simulated)


def step(at: float, worker: int, name: str, epoch: int, **more: str | int) -> Entry:
    facts: Facts = {"workflow": "w", "epoch": epoch, "step": "1", "name": "debit", **more}
    return Entry(at, f"worker {worker}", name, facts)


JOINED = Entry(0.0, "worker 0", observer.WORKER_JOINED, {"lease_until": CLOCK + 0.3})
CLAIMED = Entry(0.1, "worker 0", observer.CLAIMED, {"workflow": "w", "epoch": 1, "checkpoints": 0})
OWN = (step(0.11, 0, observer.STARTED, 1, attempt=1), step(0.12, 0, observer.COMMITTING, 1))
KILLED = Entry(
    0.13, "harness", history.FAULT_EFFECT, {"kind": "kill-worker", "worker": 0, "confirmed_by": "it is gone"}
)
AGAIN = (step(0.5, 1, observer.STARTED, 2, attempt=1), step(0.6, 1, observer.CHECKPOINTED, 2))


def test_each_event_says_who_did_what_under_which_epoch_and_lease_and_in_which_sql() -> None:
    told = story(observed(JOINED, CLAIMED, *OWN, KILLED, *AGAIN), "w", MESSAGE)
    assert numbered(told) == 4
    assert "worker 0   claims w" in told[0] and "[epoch 1, lease until 0.300 s]" in told[0]
    assert "debit (step 1): starts, sends COMMIT  [epoch 1" in told[1] and told[2].strip() == "commit"
    assert "kill-worker of worker 0 takes effect: it is gone" in told[3]
    assert "worker 1   debit (step 1): starts, the checkpoint is durable  [epoch 2]" in told[4]
    assert told[-1].strip() == f"broken: {MESSAGE}"


def test_of_too_many_events_those_of_the_fault_and_of_the_broken_step_stay() -> None:
    others = [
        Entry(
            0.2 + at / 1000,
            "worker 1",
            observer.STARTED,
            {"workflow": "w", "epoch": 2, "step": f"9/{at}", "name": "other"},
        )
        for at in range(50)
    ]
    told = story(observed(JOINED, CLAIMED, *OWN, KILLED, *others, *AGAIN), "w", MESSAGE)
    assert numbered(told) == LONGEST
    text = "\n".join(told)
    assert "kill-worker" in text and text.count("debit (step 1)") == 2


def test_what_code_itself_found_broken_is_told() -> None:
    broken = Entry(0.2, "worker 1", history.ALWAYS, {"what": "no order is lost", "holds": False})
    held = Entry(0.1, "worker 1", history.ALWAYS, {"what": "stock is positive", "holds": True})
    told = "\n".join(story(observed(held, broken), None, "a message"))
    assert "worker 1   finds that this does not hold: no order is lost" in told and "stock" not in told


def test_the_nearest_run_is_told_from_where_it_goes_another_way() -> None:
    ours = observed(JOINED, CLAIMED, *OWN, KILLED, *AGAIN)
    theirs = observed(
        JOINED, CLAIMED, *OWN, Entry(0.2, "worker 0", observer.FINISHED, {"workflow": "w", "status": "ok"})
    )
    head, *lines = instead(ours, Neighbour("the fault (kill worker 0)", theirs), "w")
    assert head == "without the fault (kill worker 0) nothing is broken; then, from event 3 on:"
    assert numbered(lines) == 1 and "w is finished: ok" in lines[0]
