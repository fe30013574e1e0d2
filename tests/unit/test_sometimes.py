"""What code says of itself is heard only where somebody listens, and what never happened is not passed over."""

import ast
from pathlib import Path

import pytest
from stories import Story

from duress.engine.assertions import Kind, always, listening, reachable, sometimes
from duress.faults.plan import KINDS
from duress.scenarios import history, measure, rare, registry, verdict
from duress.scenarios.asserted import Once
from duress.scenarios.invariants import judge
from duress.scenarios.rare import ENOUGH, Rare
from duress.scenarios.result import FaultRecord, Run
from duress.scenarios.work import World

ENGINE = Path(__file__).parents[2] / "engine"
SAYING = {"sometimes": 1, "reachable": 0}  # function → the place of the text


def said_by(file: Path) -> list[str]:
    """The texts of a file's `sometimes` and `reachable`; each must be a constant, for a table to name it."""
    found = []
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in SAYING:
            text = node.args[SAYING[node.func.id]]
            assert isinstance(text, ast.Constant) and isinstance(text.value, str), f"{file.name}:{node.lineno}"
            found.append(text.value)
    return found


def test_the_table_lists_what_the_engine_says_and_nothing_else() -> None:
    """One that is listed and gone would be missed for ever, and one that is not listed would never be missed."""
    said = [what for file in sorted(ENGINE.glob("*.py")) if file.name != "assertions.py" for what in said_by(file)]
    assert sorted(said) == sorted(one.what for one in rare.ENGINE)
    assert len(set(said)) == len(said)


@pytest.mark.parametrize("scenario", registry.names())
def test_a_scenario_lists_what_its_workflows_say(scenario: str) -> None:
    found = registry.find(scenario)
    module = Path(__import__(found.module, fromlist=["_"]).__file__)
    own = {one.what for one in found.sometimes} - {one.what for one in rare.ENGINE}
    assert own == set(said_by(module))
    for one in found.sometimes:
        assert set(one.faults) <= KINDS.keys() & found.faults.keys() and one.runs >= ENOUGH, one.what


def test_nobody_listening_nothing_is_said() -> None:
    heard: list[tuple[Kind, str, bool]] = []

    def listener(kind: Kind, what: str, holds: bool) -> None:
        heard.append((kind, what, holds))

    with listening(listener):
        always(1, "one")
        always([], "two")
        sometimes("yes", "three")
        sometimes(None, "four")
        reachable("five")
        with listening(lambda *_: None):
            reachable("somebody else's")
    always(False, "nobody's")
    sometimes(True, "nobody's")
    reachable("nobody's")
    assert heard == [
        ("always", "one", True),
        ("always", "two", False),
        ("sometimes", "three", True),
        ("sometimes", "five", True),
    ]


def test_a_text_is_told_once_but_every_broken_always() -> None:
    told: list[tuple[str, bool]] = []
    once = Once(lambda name, facts: told.append((f"{name} {facts['what']}", bool(facts["holds"]))))
    with listening(once):
        for holds in (True, True, False, False):
            always(holds, "it holds")
            sometimes(True, "it holds")
    assert told == [
        ("code.always it holds", True),
        ("code.sometimes it holds", True),
        ("code.always it holds", False),
        ("code.always it holds", False),
    ]


def test_a_broken_always_is_a_violation_of_every_scenario() -> None:
    story = Story()
    story.tell(1.0, "worker 0", history.ALWAYS, what="the sky is up", holds=True)
    story.tell(1.1, "worker 1", history.SOMETIMES, what="rain", holds=True)
    assert judge(story.evidence(), []) == []
    for at in (2.0, 3.0):
        story.tell(at, "worker 1", history.ALWAYS, what="the sky is up", holds=False)
    [finding] = judge(story.evidence(), ["W1"])
    assert finding.invariant == "A1"
    assert finding.message == "worker 1 found at 2.0000 s that this does not hold: the sky is up."
    assert measure.sometimes(story.evidence()) == ("rain",)


def ran(*what: str, kind: str | None = None, fired: bool = True) -> Run:
    record = FaultRecord(kind=kind or "", worker=0, trigger="at 1 s", effect=1.0 if fired else None)
    return Run(seed=1, verdict="pass", sometimes=what, faults=(record,) if kind else ())


PAUSED = Rare(what="a zombie was fenced", faults=("pause-worker", "stop-worker"), runs=3)


@pytest.mark.parametrize(
    ("runs", "world", "workers", "missed"),
    [
        ([ran(kind="pause-worker")] * 3, "sim", 2, True),
        ([ran(kind="pause-worker")] * 2, "sim", 2, False),  # too few
        ([ran(kind="pause-worker")] * 2 + [ran(kind="stop-worker")], "sim", 2, True),
        ([ran(kind="kill-worker")] * 9, "sim", 2, False),  # it could not happen
        ([ran(kind="pause-worker", fired=False)] * 9, "sim", 2, False),
        ([ran(kind="pause-worker")] * 9, "sim", 1, False),
        ([ran(kind="pause-worker")] * 9, "procs", 2, False),
    ],
)
def test_what_never_happened_is_missed_where_it_had_its_chances(
    runs: list[Run], world: World, workers: int, missed: bool
) -> None:
    reasons, too_few = rare.missed([PAUSED], runs, world, workers)
    assert (bool(reasons), bool(too_few)) == (missed, not missed)
    decided, why = verdict.of_campaign(runs, reasons)
    never = [reason for reason in why if "never happened" in reason]
    assert never == reasons
    if missed:
        assert decided == "inconclusive"
        assert never == ["never happened, in 3 runs under pause-worker or stop-worker: a zombie was fenced"]


def test_what_happened_once_is_not_missed_and_is_counted() -> None:
    runs = [ran(kind="pause-worker")] * 9 + [ran("a zombie was fenced", "mine")]
    assert rare.missed([PAUSED], runs, "sim", 2) == ([], [])
    other = Rare(what="other")
    assert rare.counts([PAUSED, other], runs) == {"a zombie was fenced": 1, "mine": 1, "other": 0}


def test_a_small_campaign_is_not_doubted_for_what_did_not_happen_in_it() -> None:
    payments = registry.find("payments")
    runs = [ran(kind=kind) for kind in payments.faults for _ in range(ENOUGH // len(payments.faults))]
    assert rare.missed(payments.sometimes, runs, "sim", 3)[0] == []
