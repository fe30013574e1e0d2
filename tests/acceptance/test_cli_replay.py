"""`duress replay`: what leads to a run, and what is said when it is another one."""

import shutil
from pathlib import Path

import pytest
from command_line import Said, duress

from duress.scenarios.sim.token import Reproduction, encode

ORDERS = """
from duress import step, workflow
from duress.scenarios import Scenario, World

CUPS = 1

@step
async def pour(cups: int) -> int:
    return cups

@workflow
async def tea(cups: int) -> int:
    return await pour(cups)

async def setup(connection) -> None:
    await connection.execute("create table cup (id int primary key)")

async def workload(world: World) -> None:
    for number in range(3):
        handle = await world.engine.start(f"tea-{number}", tea, CUPS + number)
        await handle.result()

async def spill(world: World) -> None:
    await (await world.engine.start("tea-0", tea, CUPS)).result()
    raise RuntimeError("spilt")

spilt = Scenario(name="spilt", doc="tea", module=__name__, setup=setup, workload=spill, faults={}, invariants=("W1",))
orders = Scenario(name="orders", doc="tea", module=__name__, setup=setup, workload=workload, faults={},
                  invariants=("W1", "S1"))
"""

KILL = '{"events": [{"trigger": {"at": "point", "point": "step.started"}, "fault": {"kind": "kill-worker"}}]}'


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A result of two runs of a user's own scenario, under a scheduler and sizes that are not the usual ones."""
    folder = tmp_path_factory.mktemp("replay")
    (folder / "tea.py").write_text(ORDERS)
    said = duress(
        folder,
        *("run", "tea:orders", "--world", "sim", "--seeds", "2", "--scheduler", "pct", "--workers", "2"),
        *("--max-time", "3", "--out", "out"),
    )
    assert said.code == 0, said.err
    return folder


def token(folder: Path, seed: int) -> str:
    return next(run["token"] for run in replay(folder, f"out/seed-{seed}.plan.json").document["replays"])


def replay(folder: Path, target: str) -> Said:
    return duress(folder, "replay", target, "--json")


def test_a_token_in_a_file_and_an_edited_plan_are_replayed(folder: Path) -> None:
    word = token(folder, 1)
    (folder / "mail.txt").write_text(f"please look at this:\n  duress replay {word}\nthanks\n")
    said = replay(folder, "mail.txt")
    assert (said.code, said.document["replays"][0]["same"]) == (0, True), said.err
    assert said.document["replays"][0]["token"] == word
    plan = folder / "out" / "seed-2.plan.json"
    before = plan.read_text()
    plan.write_text(KILL)
    other = replay(folder, "out/seed-2.plan.json")
    plan.write_text(before)
    assert other.code == 0 and other.document["faults"] == {"kill-worker": {"planned": 1, "fired": 1}}
    assert other.document["replays"][0]["same"] is None
    assert "run twice, and was the same" in other.document["replays"][0]["said"]


def test_code_that_has_changed_is_told_from_a_run_that_cannot_be_repeated(folder: Path, tmp_path: Path) -> None:
    word = token(folder, 1)
    changed = tmp_path / "changed"
    shutil.copytree(folder, changed)
    (changed / "tea.py").write_text(ORDERS.replace("CUPS = 1", "CUPS = 2"))
    said = duress(changed, "replay", word)
    assert said.code == 0, said.err
    assert "another run than the token names: the code, or a version of what it stands on, has changed" in said.out


def test_a_trace_is_shown_written_and_compared(folder: Path) -> None:
    shown = duress(folder, "replay", "out/seed-1.plan.json", "--trace")
    assert shown.code == 0, shown.err
    assert "duress replay s1." in shown.out and "* step.started" in shown.out and "asks #1  connect" in shown.out
    assert duress(folder, "replay", "out/seed-1.plan.json", "--trace", "one.json").code == 0
    assert duress(folder, "diff", "one.json", "one.json").code == 0
    other = duress(folder, "diff", "one.json", "out/seed-2.plan.json")
    assert other.code == 1, other.err
    assert "the runs part at" in other.out and "B  pass" in other.out
    again = replay(folder, "one.json")
    assert [one["same"] for one in again.document["replays"]] == [True]


def test_a_run_that_does_not_come_to_its_end_has_a_trace_too(folder: Path) -> None:
    failed = duress(folder, "run", "tea:spilt", "--world", "sim", "--seed", "2")
    assert failed.code == 3
    assert "RuntimeError: spilt" in failed.err
    word = failed.err.partition("reproduce with: duress replay ")[2].split()[0]
    shown = duress(folder, "replay", word, "--trace")
    assert shown.code == 3
    assert "the harness failed: RuntimeError: spilt" in shown.out and "* client.read workflow=tea-0" in shown.out


def test_one_file_cannot_hold_the_traces_of_two_runs(folder: Path) -> None:
    words = [encode(Reproduction(reference="tea:orders", seed=seed)) for seed in (1, 2)]
    (folder / "both.txt").write_text(" and ".join(words))
    refused = duress(folder, "replay", "both.txt", "--trace", "one.json")
    assert refused.code == 2
    assert "both.txt names 2 runs, and --trace one.json is one file" in refused.err


@pytest.mark.parametrize(
    ("target", "said"),
    [
        ("out", "all 2 runs passed; say which one is meant, by its plan (seed-1.plan.json) or by its token"),
        ("tea.py", "there is no reproduction token in it"),
        ("lost.json", "there is no such file"),
        ("alone/seed-3.plan.json", "duress run SCENARIO --world sim --seed 3 --plan alone/seed-3.plan.json"),
        ("s1.311", "is not a reproduction token"),
    ],
)
def test_what_leads_to_no_run_is_said_by_name(folder: Path, target: str, said: str) -> None:
    (folder / "alone").mkdir(exist_ok=True)
    (folder / "alone" / "seed-3.plan.json").write_text("{}")
    refused = duress(folder, "replay", target)
    assert refused.code == 2
    assert said in refused.err
