"""Every view says how many simulated runs were made twice, and shows those that were not the same with both sides."""

import io

import msgspec
import pytest
from junitparser import Error, JUnitXml
from rich.console import Console
from synthetic_campaign import campaign

from duress.cli import terminal
from duress.reports.junit import junit
from duress.reports.markdown import markdown
from duress.reports.page import page
from duress.reports.summary import determinism, summarise
from duress.reports.terminal import show
from duress.scenarios.result import Campaign, Divergence

LINE = "duress replay s1.311.payments.31.2MZIzfy78058NqaLE0Y"
PARTED = Divergence(
    seed=31,
    message="the runs part at entry 7: 0.1 answer <1> / 0.1 answer <2>",
    entry=7,
    before=("0.1 send select ctid",),
    first="0.1 answer <1>",
    second="0.1 answer <2>",
    reproduce=LINE,
)


def simulated(*divergences: Divergence, twice: int = 3) -> Campaign:
    made = campaign(runs=30)
    runs = tuple(msgspec.structs.replace(run, twice=run.seed < twice) for run in made.runs)
    verdict = "inconclusive" if divergences else made.verdict
    return msgspec.structs.replace(made, world="sim", runs=runs, divergences=divergences, verdict=verdict)


def printed(of: Campaign) -> str:
    output = io.StringIO()
    show(of, Console(file=output, width=100))
    return output.getvalue()


def test_real_worlds_need_not_be_deterministic_and_one_run_proves_nothing() -> None:
    assert determinism(campaign(runs=3)) is None
    one = simulated(twice=0)
    assert determinism(msgspec.structs.replace(one, runs=one.runs[:1])) is None
    assert "deterministic" not in junit(summarise(campaign(runs=3))).decode()


@pytest.mark.parametrize(
    ("of", "said"),
    [
        (simulated(), "3 of 30 runs were made twice: all were the same to the byte"),
        (simulated(PARTED), "4 of 31 runs were made twice: 1 of them diverged"),
        (simulated(twice=0), "no run was made twice, so nothing says that they can be repeated"),
    ],
)
def test_the_mark_is_on_the_page_and_in_the_terminal(of: Campaign, said: str) -> None:
    assert said in printed(of)
    assert said in page(summarise(of), [], [])


def test_a_divergence_is_shown_with_both_sides_and_its_line() -> None:
    red = simulated(PARTED)
    html = page(summarise(red), [], [])
    assert "1st 0.1 answer &lt;1&gt;" in html and "2nd 0.1 answer &lt;2&gt;" in html and LINE in html
    assert printed(red).endswith(f"{LINE}\n")
    said = terminal.divergence(PARTED)
    assert "seed 31 cannot be repeated: its two runs part at entry 7" in said
    assert said.index("send select ctid") < said.index("1st run 0.1 answer <1>") < said.index("2nd run 0.1 answer <2>")
    cases = {case.name: case.result for suite in JUnitXml.fromstring(junit(summarise(red))) for case in suite}
    assert isinstance(cases["deterministic"][0], Error)
    assert LINE in (cases["deterministic"][0].text or "")
    green = {case.name: case.result for suite in JUnitXml.fromstring(junit(summarise(simulated()))) for case in suite}
    assert green["deterministic"] == []


def test_virtual_times_are_called_so_wherever_recovery_is_shown() -> None:
    said = "Times are virtual"
    for of, times in ((simulated(), 1), (campaign(runs=3), 0)):
        assert page(summarise(of), [], []).count(said) == times
        assert markdown(summarise(of)).count(said) == times
