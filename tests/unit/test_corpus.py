"""The corpus keeps each failing run once, in a file that says what it is, and refuses what it does not understand."""

from pathlib import Path

import msgspec
import pytest
from synthetic_campaign import campaign

from duress.scenarios.conclusion import conclude
from duress.scenarios.corpus import Corpus, Kept, Unreadable, read
from duress.scenarios.result import Campaign, Remembered, Run, Shrunk, Size, Violation
from duress.scenarios.sim import token
from duress.scenarios.sim.token import Reproduction

SIZE = Size(faults=1, workflows=1, workers=1, events=20, choices=0)


def word(seed: int, digest: str = "ab12cd34ef56") -> str:
    return token.encode(Reproduction(reference="payments", seed=seed, hash=digest, code="12345678"))


def shrunk(invariant: str, seed: int, digest: str) -> Shrunk:
    return Shrunk(
        invariant=invariant,
        seed=seed,
        message="twice",
        before=SIZE,
        after=SIZE,
        faults=("kill worker 1",),
        story=(" 1.  0.1 s  worker 1  starts",),
        token=word(seed, digest),
        reproduce="duress replay small",
        runs=3,
        seconds=1.0,
        complete=True,
    )


def failing(*violations: Violation, seed: int = 1, digest: str = "ab12cd34ef56") -> Campaign:
    run = Run(seed=seed, verdict="fail", violations=violations, token=word(seed, digest), hash=digest)
    whole = msgspec.structs.replace(campaign(runs=0), world="sim")
    return conclude(whole, [run])


def violation(invariant: str, small: Shrunk | None = None) -> Violation:
    return Violation(invariant=invariant, title="t", seed=1, message="once too often", reproduce="", shrunk=small)


def test_the_first_run_of_each_invariant_is_kept_once(tmp_path: Path) -> None:
    corpus = Corpus(tmp_path)
    found = failing(violation("S3"), violation("S3"), violation("D1"))
    assert [path.name.partition("-")[0] for path in corpus.keep(found)] == ["S3", "D1"]
    assert corpus.keep(found) == []
    assert {type(kept) for _, kept in corpus.of("payments", None)} == {Kept}
    assert list(corpus.of("payments", "some-canary")) == []
    assert list(corpus.of("orders", None)) == []


def test_what_is_kept_is_the_small_run_whatever_it_was_found_in(tmp_path: Path) -> None:
    corpus = Corpus(tmp_path)
    small = shrunk("S3", 1, "001122334455")
    [path] = corpus.keep(failing(violation("S3", small)))
    kept = read(path)
    assert kept.shrunk and kept.token == small.token and kept.message == "twice"
    assert corpus.keep(failing(violation("S3", small), digest="ffeeddccbbaa")) == []
    assert len(corpus.keep(failing(violation("S3", shrunk("S3", 1, "665544332211"))))) == 1


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "is no kept run"),
        ('{"version": 9}', "version 9"),
        ('{"version": 1, "scenario": "payments"}', "is no kept run"),
        ("[1]", "version None"),
    ],
)
def test_what_cannot_be_read_says_so_and_is_not_left_out(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "payments").mkdir()
    path = tmp_path / "payments" / "S3-1.json"
    path.write_text(text)
    with pytest.raises(Unreadable, match=said):
        read(path)
    [(where, kept)] = Corpus(tmp_path).of("payments", None)
    assert where == path and isinstance(kept, Unreadable)


def test_a_kept_run_that_still_fails_fails_the_campaign_and_another_does_not() -> None:
    green = campaign(runs=30)
    about = {"file": "S3-1.json", "invariant": "S3", "message": "twice", "reproduce": "duress replay it"}
    unfit = Remembered(state="does not fit", **about)
    passes = Remembered(state="passes", **about)
    again = conclude(msgspec.structs.replace(green, corpus=(unfit, passes)), green.runs)
    assert again.verdict == conclude(green, green.runs).verdict
    red = conclude(msgspec.structs.replace(green, corpus=(passes, Remembered(state="fails", **about))), green.runs)
    assert red.verdict == "fail"
    assert "1 of 2 runs of the corpus still fail" in red.reasons[0]
