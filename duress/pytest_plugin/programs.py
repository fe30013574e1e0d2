"""Tests of programs: run under seed after seed in the simulator; the first that fails fails the test, with its story."""

import itertools
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

import pytest

from duress import pytest_plugin
from duress.pytest_plugin import seeds
from duress.pytest_plugin.subject import ProgramTest
from duress.simulator import Entry, Simulation, TokenError, has_fixed_hash_seed
from duress.simulator.choices import Choices
from duress.simulator.run import Program
from duress.simulator.shrinking import Shrunk, shrink
from duress.simulator.simulation import Attempt

TOLD: Final = frozenset({"send", "answer", "server", "process", "network"})  # kinds of entries that a reader follows
MOST_LINES: Final = 40
MOST_INSTEAD: Final = 10  # lines of the run that passes
UNFIXED: Final = (
    "The order of sets differs from one start of Python to the next, and so may this run: start pytest with\n"
    "PYTHONHASHSEED=0 in the environment, here and there."
)


def check(request: pytest.FixtureRequest, about: ProgramTest, program: Program) -> None:
    """Raises what the program raises under the first seed under which it fails."""
    config, item = request.config, request.node
    token = config.getoption("duress_replay")
    if config.getoption("duress_world") != "sim":
        pytest.skip("a program runs in the simulator only: --duress-world is for scenarios")
    if token is not None:
        _check_token(token)
    with pytest_plugin.stage_of(config).on_core() as cell:
        with Simulation(about.setup, data=about.data, cell=cell, **about.simulated) as simulation:
            failed: Attempt | None
            if token is not None:
                tried, failed = 1, simulation.attempt(program, token=token)
            else:
                tried, failed = _first_failure(simulation, program, seeds.chosen(config, about.seeds))
            if failed is None or failed.error is None:
                return
            again = simulation.attempt(program, token=failed.token, trace=True)
            small = _smaller(simulation, program, failed, config.getoption("duress_shrink"))
        item.stash[pytest_plugin.STORY] = _story(item, tried, failed, again, small)
        raise failed.error


def _check_token(token: str) -> None:
    if token.startswith("s"):
        pytest.skip("--duress-replay names a run of a scenario, and this test is of a program")
    try:
        Choices.from_token(token)
    except TokenError as error:
        pytest.fail(f"--duress-replay: {error}", pytrace=False)


def _first_failure(simulation: Simulation, program: Program, tried: Iterable[int]) -> tuple[int, Attempt | None]:
    """How many seeds were tried, and what came of the last if that failed. The first is run twice: it must be the same."""
    number = 0
    for number, seed in enumerate(tried, 1):
        attempt = simulation.attempt(program, seed=seed)
        if attempt.error is not None:
            return number, attempt
        if number == 1 and has_fixed_hash_seed():
            simulation.check_twice(program, seed=seed)
    if not number:
        pytest.fail("no seed was run", pytrace=False)
    return number, None


@dataclass(frozen=True, slots=True)
class _Small:
    """A run that was made smaller, and traced; and the nearest that passes, if one was found."""

    found: Shrunk
    traced: Attempt
    near: Attempt | None

    @property
    def head(self) -> str:
        found = self.found
        ended = "" if found.complete else "; the time was up: it may get smaller"
        return (
            f"Made smaller: {found.before} → {found.after} decisions off asyncio's order and least latency, in {found.runs} "
            f"runs{ended}."
        )


def _smaller(simulation: Simulation, program: Program, failed: Attempt, seconds: float) -> _Small | None:
    """None if that is not wanted, or nothing comes of it."""
    if seconds <= 0:
        return None
    found = shrink(simulation, program, failed, seconds=seconds)
    if found.after >= found.before:
        return None
    traced = simulation.attempt(program, token=found.attempt.token, trace=True)
    near = None if found.near is None else simulation.attempt(program, token=found.near.token, trace=True)
    return _Small(found, traced, near)


def _instead(small: Attempt, near: Attempt) -> list[str]:
    """What the nearest run that passes does, from where it goes another way."""
    ours, theirs = (_lines([entry for entry in one.entries if entry.kind in TOLD]) for one in (small, near))
    same = sum(1 for _ in itertools.takewhile(lambda pair: pair[0] == pair[1], zip(ours, theirs, strict=False)))
    return [
        "With one decision less off asyncio's order it passes; from there on it goes:",
        *theirs[same : same + MOST_INSTEAD],
        "",
    ]


def _story(item: pytest.Item, tried: int, failed: Attempt, again: Attempt, small: _Small | None) -> str:
    passed = f"; the {tried - 1} before it passed" if tried > 1 else ""
    what = f"{type(failed.error).__name__}: {failed.error}".splitlines()[0]
    lines = [f"run {failed.token} fails{passed}: {what}", ""]
    if small is not None:
        lines += [small.head, ""]
    lines += [*_told((again if small is None else small.traced).entries), ""]
    if small is not None and small.near is not None:
        lines += _instead(small.traced, small.near)
    if failed.signature != again.signature:
        lines += ["This run was NOT the same when it was run again: something decides it that is not simulated.", ""]
    if not has_fixed_hash_seed():
        lines += [UNFIXED, ""]
    again_line = seeds.line(item, f"--duress-replay={failed.token}")
    if has_fixed_hash_seed():
        again_line = f"PYTHONHASHSEED={os.environ['PYTHONHASHSEED']} {again_line}"
    if small is not None:
        lines += ["The small run again:", seeds.line(item, f"--duress-replay={small.found.attempt.token}"), ""]
    return "\n".join([*lines, "To run it again:", again_line])


def _told(entries: Sequence[Entry]) -> list[str]:
    """What happened, for a reader: who said and heard what, when. The bytes' hashes are for comparing runs."""
    told = [entry for entry in entries if entry.kind in TOLD]
    shown = told[-MOST_LINES:]
    left_out = f", the last {len(shown)} of {len(told)} events" if len(told) > len(shown) else ""
    return [
        f"What happened (virtual seconds{left_out}):",
        *_lines(shown),
    ]


def _lines(shown: Sequence[Entry]) -> list[str]:
    width = max((len(entry.process) for entry in shown), default=0)
    return [f"  {entry.at / 1e9:.6f}  {entry.process or '-':<{width}}  {_plain(entry)}" for entry in shown]


def _plain(entry: Entry) -> str:
    text, _, digest = entry.text.rpartition(" /")
    said = text if digest and len(digest) == 8 else entry.text
    return f"{entry.kind:<7}  {said}".rstrip()
