"""A token names a whole scenario run: nothing of it is lost, a usual one is short, and what does not fit is refused."""

import base64
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from duress.faults import strategies
from duress.faults.plan import Plan
from duress.scenarios.sim import token
from duress.scenarios.sim.token import Reproduction, Unusual
from duress.simulator import TokenError, tokens

PYTHON = f"{sys.version_info.major}{sys.version_info.minor}"
HASH, CODE = "977a978a71e2", "f41dbac7"
# If this changes, every token that somebody kept is refused as damaged: give the new form another version instead.
GOLDEN = f"s1.{PYTHON}.shop.orders:orders.17"

unusual = st.builds(
    Unusual,
    canary=st.none() | st.just("key-of-the-epoch"),
    options=st.dictionaries(st.sampled_from(["transfers", "lanes"]), st.integers(1, 500)),
    settings=st.dictionaries(st.sampled_from(["workers", "max_time"]), st.integers(1, 60) | st.just(0.25)),
    kinds=st.none() | st.lists(st.sampled_from(["kill-worker", "pause-worker"]), unique=True).map(tuple),
    plan=st.none() | strategies.plans(),
    scheduler=st.sampled_from(["random", "fifo", "pct", "pos"]),
    choices=st.none() | st.just(tokens.pack(17, {"schedule": [1, 0, 2], "network": [795217]})),
    postgres=st.integers(15, 18),
)
runs = st.builds(
    Reproduction,
    reference=st.sampled_from(["payments", "shop.orders:orders", "a.b.c:d"]),
    seed=st.integers(0, 2**64),
    unusual=unusual,
    hash=st.none() | st.just(HASH),
    code=st.none() | st.just(CODE),
)


@given(runs)
def test_a_token_is_the_run(run: Reproduction) -> None:
    assert token.decode(token.encode(run)) == run
    assert token.decode(f" {token.encode(run)}\n") == run


def test_a_usual_run_has_a_short_token_that_can_be_read() -> None:
    word = token.encode(Reproduction(reference="shop.orders:orders", seed=17, hash=HASH + "aaaaaaaa", code=CODE + "bb"))
    assert word.startswith(f"{GOLDEN}.") and word.endswith("5d6l4px4vQdusc")
    assert len(word) == len(GOLDEN) + 20
    assert token.decode(word).hash == HASH


def test_a_recorded_run_is_packed() -> None:
    recorded = tokens.pack(3, {"schedule": [0, 1, 0, 2, 0, 0, 1] * 200})
    word = token.encode(Reproduction(reference="payments", seed=3, unusual=Unusual(choices=recorded)))
    assert len(word) < 150


def test_a_hash_tells_whether_a_run_is_the_same() -> None:
    seen = Reproduction(reference="payments", seed=3, hash=HASH)
    assert seen.same(HASH + "00") and seen.same("00" + HASH) is False
    assert Reproduction(reference="payments", seed=3).same(HASH) is None


@pytest.mark.parametrize("at", range(len(GOLDEN) + 1, len(GOLDEN) + 19))
def test_one_letter_that_is_another_is_noticed(at: int) -> None:
    word = token.encode(Reproduction(reference="shop.orders:orders", seed=17, hash=HASH, code=CODE))
    wrong = f"{word[:at]}{'A' if word[at] != 'A' else 'B'}{word[at + 1 :]}"
    with pytest.raises(TokenError, match="damaged"):
        token.decode(wrong)


USUAL = token.encode(Reproduction(reference="payments", seed=17, unusual=Unusual(plan=Plan()), hash=HASH, code=CODE))


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("hello", "is not a reproduction token; one looks like s1"),
        (f"s1.{PYTHON}.payments", "is not a reproduction token"),
        (USUAL.replace("s1", "s2", 1), "is of version s2, and only s1"),
        (USUAL.replace(PYTHON, "39", 1), r"is of Python 3\.9, whose asyncio schedules differently"),
        (f"d1.{PYTHON}.s.17", r"names a run of a program.*Simulation\.run"),
        (USUAL[:-1], "damaged"),
        (USUAL[:-7], "damaged"),
        (USUAL + "AAAA", "damaged"),
        (USUAL.replace(".17.", ".18."), "damaged"),
        (USUAL.replace("payments", "payment"), "damaged"),
        (f"s1.{PYTHON}.payments.17.", "damaged"),
    ],
)
def test_what_cannot_be_repeated_is_refused_by_name(word: str, said: str) -> None:
    with pytest.raises(TokenError, match=said):
        token.decode(word)


def test_a_field_that_this_version_does_not_know_is_no_silent_loss() -> None:
    head, _, content = USUAL.rpartition(".")
    raw = base64.urlsafe_b64decode(content + "=" * (-len(content) % 4))
    with pytest.raises(TokenError, match="damaged"):
        token.decode(f"{head}.{base64.urlsafe_b64encode(raw[:14] + b'xx').decode()}")
