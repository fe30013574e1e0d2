"""The page and the plots: self-contained, escaped, always the same bytes, with the answers in reading order."""

import itertools
import re
import subprocess
import sys
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path

import msgspec
import pytest
from synthetic_campaign import campaign

from duress.reports import load, plot_run, plotting, write
from duress.reports.summary import summarise
from duress.scenarios.result import Campaign, FaultRecord, Recovery, Run, Span, Violation

NASTY = "<script>alert(1)</script> $x_{ & \"q\" 'p' ${7*7} {{ 7*7 }}"


class Reader(HTMLParser):
    """Collects what a browser would see."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text.append(data)

    @property
    def words(self) -> str:
        """The text with single spaces."""
        return " ".join(" ".join(self.text).split())


@pytest.fixture(scope="module")
def red(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a red campaign's report."""
    folder = tmp_path_factory.mktemp("red")
    write(campaign(red=True), folder)
    return folder


def html(folder: Path) -> str:
    """The page in `folder`."""
    return (folder / "report.html").read_text(encoding="utf-8")


def test_all_views_are_written_and_listed(red: Path) -> None:
    plots = [
        f"plots/{name}.png" for name in ("recovery-phases", "recovery-ecdf", "run-seed-2", "run-seed-4", "run-seed-0")
    ]
    names = ["result.json", "result.schema.json", "report.html", "junit.xml", "summary.md", *plots]
    assert sorted(str(path.relative_to(red)) for path in red.rglob("*") if path.is_file()) == sorted(names)
    for plot in plots:
        assert (red / plot).read_bytes().startswith(b"\x89PNG")


def test_the_page_answers_in_this_order(red: Path) -> None:
    words = Reader(html(red)).words
    line = summarise(load(red)).reproduce
    assert line is not None
    slowest = "953 ms after pause-worker"
    answers = [
        "Fail",
        "S2 no-rerun and D1 conserved broken in 8 of 30 runs",
        slowest,
        "n = 11",
        line,
        "failover to a standby",
    ]
    places = [words.index(answer) for answer in answers]
    assert places == sorted(places)


def test_the_page_needs_nothing_else(red: Path) -> None:
    reader = Reader(html(red))
    assert not {"script", "link", "img", "iframe", "object"} & {tag for tag, _ in reader.tags}
    links = [value for _, attrs in reader.tags for key, value in attrs.items() if key in ("href", "src", "xlink:href")]
    assert links
    assert all(link is not None and link.startswith("#") for link in links)
    assert "://" not in re.sub(r'xmlns(:\w+)?="[^"]*"', "", html(red))


def test_ids_are_unique_and_every_reference_has_one(red: Path) -> None:
    reader = Reader(html(red))
    ids = Counter(attrs["id"] for _, attrs in reader.tags if "id" in attrs)
    assert [key for key, times in ids.items() if times > 1] == []
    labels = [attrs[key] or "" for _, attrs in reader.tags for key in ("aria-labelledby",) if key in attrs]
    referred = set(re.findall(r'(?:url\(#|href="#)([^")]+)', html(red))) | {
        part for label in labels for part in label.split()
    }
    assert referred <= set(ids)


def test_who_cannot_see_gets_headings_captions_and_descriptions(red: Path) -> None:
    reader = Reader(html(red))
    levels = [int(tag[1]) for tag, _ in reader.tags if tag in ("h1", "h2", "h3")]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in itertools.pairwise(levels))
    drawings = [attrs for tag, attrs in reader.tags if tag == "svg"]
    assert drawings
    assert all(attrs.get("role") == "img" and len(attrs.get("aria-label") or "") > 60 for attrs in drawings)
    tags = Counter(tag for tag, _ in reader.tags)
    assert tags["caption"] == tags["table"]
    assert all("scope" in attrs for tag, attrs in reader.tags if tag == "th")


def test_drawings_take_their_colours_from_the_page(red: Path) -> None:
    drawings = "".join(re.findall(r"<svg.*?</svg>", html(red), flags=re.DOTALL))
    assert set(re.findall(r"#[0-9a-f]{6}", drawings)) == set()
    style = html(red)[: html(red).index("</style>")]
    for role in re.findall(r"var\((--[a-z-]+)\)", drawings):
        assert f"{role}:" in style


def test_the_same_campaign_gives_the_same_bytes_in_another_process(red: Path, tmp_path: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from duress.reports import load, write;"
        "write(load(Path(sys.argv[1])), Path(sys.argv[2]))"
    )
    (tmp_path / "matplotlibrc").write_text("axes.titlepad: 40\nlines.linewidth: 9\n")
    there = tmp_path / "there"
    environment = {"PYTHONHASHSEED": "1234", "PATH": "", "HOME": str(tmp_path), "PYTHONPATH": ":".join(sys.path)}
    subprocess.run([sys.executable, "-c", program, red, there], check=True, cwd=tmp_path, env=environment)
    files = sorted(path.relative_to(red) for path in red.rglob("*") if path.is_file())
    assert files == sorted(path.relative_to(there) for path in there.rglob("*") if path.is_file())
    for file in files:
        assert (red / file).read_bytes() == (there / file).read_bytes(), file


def test_no_text_of_a_campaign_becomes_markup(tmp_path: Path) -> None:
    seen = Recovery(noticed=0.01, first=0.02, affected=1)
    fault = FaultRecord(
        kind=NASTY, worker=0, trigger=NASTY, asked=0.1, effect=0.2, healed=0.3, confirmed_by=NASTY, recovery=seen
    )
    violation = Violation(invariant="S9", title=NASTY, seed=3, message=NASTY + "\x00", reproduce=NASTY)
    spans = (
        Span(worker=0, what="owns", start=0.0, end=1.0, label=NASTY),
        Span(worker=0, what="alive", start=0.0, end=1.0),
    )
    run = Run(
        seed=3,
        verdict="fail",
        faults=(fault,),
        violations=(violation,),
        progress=(0.1, 0.4),
        spans=spans,
        reproduce=NASTY,
    )
    base = campaign(runs=1)
    nasty = msgspec.structs.replace(
        base, verdict="fail", scenario=NASTY, canary=NASTY, not_covered=(NASTY,), runs=(run,), settings={NASTY: NASTY}
    )
    write(nasty, tmp_path)
    page = html(tmp_path)
    assert "<script" not in page
    assert "\x00" not in page
    assert "49" not in Reader(page[page.index("<main") :]).words.split()
    assert Reader(page).words.count("<script>alert(1)</script> $x_{") >= 8


@pytest.mark.parametrize(
    ("runs", "verdict"),
    [
        ((), "inconclusive"),
        ((Run(seed=0, verdict="inconclusive", reasons=("nothing ran",), reproduce="duress run x"),), "inconclusive"),
        ((Run(seed=0, verdict="pass", progress=(0.0, 2.0), seconds=1.0),), "pass"),
        ((Run(seed=0, verdict="pass", spans=(Span(worker=9, what="step", start=0.0, end=0.0),)),), "pass"),
        ((Run(seed=0, verdict="fail", faults=(FaultRecord(kind="x", worker=None, trigger="t", effect=0.0),)),), "fail"),
    ],
    ids=["nothing", "inconclusive", "progress only", "an empty span", "no violation recorded"],
)
def test_poor_campaigns_have_reports_too(tmp_path: Path, runs: tuple[Run, ...], verdict: str) -> None:
    poor: Campaign = msgspec.structs.replace(
        campaign(runs=1), runs=runs, verdict=verdict, reasons=("too thin a campaign",)
    )
    write(poor, tmp_path)
    words = Reader(html(tmp_path)).words
    assert verdict.capitalize() in words
    assert ("too thin a campaign" in words) is (verdict != "pass")


def test_a_new_report_leaves_no_plot_of_the_old_one(tmp_path: Path) -> None:
    (tmp_path / "plots").mkdir()
    (tmp_path / "plots" / "run-seed-999.png").write_bytes(b"old")
    write(msgspec.structs.replace(campaign(runs=1), runs=()), tmp_path)
    assert list((tmp_path / "plots").iterdir()) == []


def test_failing_runs_are_drawn_first_and_one_that_passed_beside_them() -> None:
    assert [run.verdict for run in plot_run.chosen(campaign(red=True))] == ["fail", "fail", "pass"]
    assert [bool(run.spans) for run in plot_run.chosen(campaign())] == [True, True]


def test_matplotlib_is_not_imported_before_a_report_is_written() -> None:
    program = "import sys, duress.reports.terminal; sys.exit('matplotlib' in sys.modules or 'scipy' in sys.modules)"
    environment = {"PATH": "", "PYTHONPATH": ":".join(sys.path)}
    subprocess.run([sys.executable, "-c", program], check=True, env=environment)


def _luminance(colour: str) -> float:
    parts = [int(colour[start : start + 2], 16) / 255 for start in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def _contrast(first: str, second: str) -> float:
    lighter, darker = sorted((_luminance(first), _luminance(second)), reverse=True)
    return (lighter + 0.05) / (darker + 0.05)


def test_text_has_contrast_in_light_and_dark() -> None:
    style = (Path(plotting.__file__).parent / "templates" / "report.css").read_text(encoding="utf-8")
    for scheme in re.findall(r":root \{(.*?)\}", style, flags=re.DOTALL):
        colours = dict(re.findall(r"--([a-z-]+): (#[0-9a-f]{6})", scheme))
        assert len(colours) > 15
        for text in ("ink", "muted", "link", "pass", "fail", "inconclusive"):
            for ground in ("page", "raised"):
                assert _contrast(colours[text], colours[ground]) >= 4.5, (text, ground)
        for verdict in ("pass", "fail", "inconclusive"):
            for text in ("ink", "muted", verdict):
                assert _contrast(colours[text], colours[f"{verdict}-tint"]) >= 4.5, (text, verdict)
        assert _contrast(colours["plot-muted"], colours["page"]) >= 4.5
        assert _contrast(colours["plot-vermillion"], colours["page"]) >= 3


def test_the_time_axis_ends_where_the_run_did_whatever_it_took() -> None:
    """A simulated run of a second may take the harness a quarter of an hour."""
    fault = FaultRecord(kind="kill-worker", worker=0, trigger="t", effect=0.9, healed=1.5)
    lease = Span(worker=0, what="lease", start=0.0, end=9.0)
    run = Run(seed=1, verdict="pass", seconds=900.0, progress=(0.1, 1.2), faults=(fault,), spans=(lease,))
    drawn = plot_run.plot(run, 1).wide
    assert "checkpoints per 20 ms" in drawn
    assert ">1.4<" in drawn and ">2<" not in drawn and ">900<" not in drawn
    long = msgspec.structs.replace(run, progress=(0.1, 5.0))
    assert "checkpoints per 100 ms" in plot_run.plot(long, 1).wide


def test_latencies_and_bodies_are_drawn_where_they_are_known(tmp_path: Path) -> None:
    spans = (
        Span(worker=0, what="owns", start=0.0, end=1.0, label="w", epoch=1),
        Span(worker=0, what="step", start=0.2, end=0.4, label="charge", epoch=1),
    )
    run = Run(seed=1, verdict="pass", progress=(0.5,), spans=spans, latencies=((1.0, 0.25), (1.1, 0.3)))
    drawn = plot_run.plot(run, 1).wide
    assert "time from start to end of each workflow" in drawn and "bodies of steps that run" in drawn
    without = plot_run.plot(msgspec.structs.replace(run, latencies=(), spans=spans[:1]), 1).wide
    assert "time from start" not in without and "bodies of steps" not in without


def test_a_phase_that_was_never_seen_is_named_once_and_not_tabled(tmp_path: Path) -> None:
    base = campaign(runs=8)
    runs = tuple(
        msgspec.structs.replace(
            run,
            faults=tuple(
                msgspec.structs.replace(fault, recovery=msgspec.structs.replace(fault.recovery, steady=None))
                for fault in run.faults
            ),
        )
        for run in base.runs
    )
    write(msgspec.structs.replace(base, runs=runs), tmp_path)
    words = Reader(html(tmp_path)).words
    assert "Steady could not be told after any fault" in words
    table = html(tmp_path)[html(tmp_path).index("Faults and how long") :]
    assert 'data-label="Drained"' in table and 'data-label="Steady"' not in table


def test_violations_are_told_and_rare_branches_counted(tmp_path: Path) -> None:
    red = campaign(runs=3, red=True)
    run = next(run for run in red.runs if run.violations)
    first = msgspec.structs.replace(run.violations[0], story=("   0.1 s  client  client.starting", NASTY))
    told = msgspec.structs.replace(run, violations=(first,), history=f"seed-{run.seed}.history.jsonl")
    sometimes = {"a rare thing": 2, "a rarer thing": 0}
    write(msgspec.structs.replace(red, runs=(told,), sometimes=sometimes), tmp_path)
    page = html(tmp_path)
    words = Reader(page).words
    assert "What happened to it" in words and "client.starting" in words
    assert f'href="seed-{run.seed}.history.jsonl"' in page
    assert "1 of 2 rare branches of the code were reached" in words and "a rarer thing never" in words
    assert "<script" not in page
