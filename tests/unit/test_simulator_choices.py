"""A seed's decisions, their record and the token are one and the same run; another stream's questions change nothing."""

import sys
from random import Random

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from duress.simulator import tokens
from duress.simulator.choices import Choices
from duress.simulator.errors import TokenError

# Of 20 decisions of seed 17 in two streams. If this changes, every token that somebody kept means another run: do not
# change it, give the new way of drawing another version in tokens.py.
GOLDEN = {
    "network": (7, 7, 2, 4, 8, 3, 2, 9, 9, 7),
    "schedule": (1, 0, 2, 0, 2, 2, 1, 2, 0, 1),
}
PYTHON = f"{sys.version_info.major}{sys.version_info.minor}"
streams = st.dictionaries(st.text(max_size=8), st.lists(st.integers(0, 2**32 - 1), max_size=40), max_size=5)


def asked(choices: Choices) -> dict[str, tuple[int, ...]]:
    for _ in range(10):
        choices.draw("schedule", 3)
        choices.draw("network", 10)
    return choices.recorded


def test_a_seed_gives_the_same_decisions_for_ever() -> None:
    assert asked(Choices.of_seed(17)) == GOLDEN


def test_streams_do_not_disturb_each_other() -> None:
    choices = Choices.of_seed(17)
    for _ in range(10):
        choices.draw("schedule", 3)
    assert choices.recorded == {"schedule": GOLDEN["schedule"]}


def test_a_replay_repeats_and_then_draws_zero() -> None:
    assert asked(Choices.replay(GOLDEN)) == GOLDEN
    short = Choices.replay({"schedule": GOLDEN["schedule"][:4], "network": [7]})
    assert asked(short) == {"schedule": (*GOLDEN["schedule"][:4], *[0] * 6), "network": (7, *[0] * 9)}


def test_one_possibility_is_no_decision() -> None:
    choices = Choices.of_seed(1)
    assert choices.draw("schedule", 1) == 0
    assert choices.recorded == {}


def test_a_recorded_answer_that_does_not_fit_any_more_becomes_the_nearest() -> None:
    assert Choices.replay({"schedule": [9]}).draw("schedule", 4) == 3


@pytest.mark.parametrize("bound", [0, -1, 2**32 + 1])
def test_a_question_without_possible_answers_is_an_error(bound: int) -> None:
    for choices in (Choices.of_seed(1), Choices.replay({})):
        with pytest.raises(ValueError, match="possibilities"):
            choices.draw("schedule", bound)


def test_a_uniform_number_is_recorded_and_within_bounds() -> None:
    choices = Choices.of_seed(3)
    numbers = [choices.uniform("network", 2.0, 5.0) for _ in range(1000)]
    assert all(2 <= number < 5 for number in numbers)
    assert 3.4 < sum(numbers) / 1000 < 3.6
    again = Choices.replay(choices.recorded)
    assert [again.uniform("network", 2.0, 5.0) for _ in range(1001)] == [*numbers, 2.0]


def test_watchers_hear_what_was_decided() -> None:
    heard: list[tuple[str, int, int, str]] = []
    choices = Choices.replay({"faults": [2]})
    choices.watch(lambda *decision: heard.append(decision))
    choices.draw("faults", 5, "whom to kill")
    choices.draw("faults", 1, "nothing")
    assert heard == [("faults", 5, 2, "whom to kill")]


@given(st.integers(), streams)
@example(-5, {"schedule": [0, 0]})
def test_a_token_is_the_run(seed: int, recorded: dict[str, list[int]]) -> None:
    again, streams = tokens.decode(tokens.encode(seed, recorded))
    assert again == seed
    assert streams is not None
    for name, values in recorded.items():
        got = streams[name]
        assert [*got, *[0] * (len(values) - len(got))] == values
    assert tokens.decode(tokens.encode(seed, None)) == (seed, None)


def test_tokens_are_short_and_say_which_python() -> None:
    assert Choices.of_seed(4711).token() == f"d1.{PYTHON}.s.4711"
    source = Random(1)
    choices = Choices.replay({"schedule": [int(source.random() ** 4 * 5) for _ in range(1000)]}, seed=9)
    for _ in range(1000):
        choices.draw("schedule", 5)
    token = choices.token()
    assert token.startswith(f"d1.{PYTHON}.c.")
    assert len(token) < 500
    again = Choices.from_token(token)
    assert (again.seed, again.replaying) == (9, True)
    for _ in range(1000):
        again.draw("schedule", 5)
    assert again.recorded == choices.recorded


def test_from_a_seed_the_whole_record_can_be_had() -> None:
    choices = Choices.of_seed(17)
    asked(choices)
    assert asked(Choices.from_token(choices.token(whole=True))) == GOLDEN
    assert asked(Choices.from_token(choices.token())) == GOLDEN


@pytest.mark.parametrize(
    ("token", "said"),
    [
        ("hello", "is not a reproduction token"),
        ("d1.311.x.5", "is not a reproduction token"),
        (f"d2.{PYTHON}.s.5", "is of version d2, and only d1"),
        ("d1.39.s.5", r"is of Python 3\.9, whose asyncio schedules differently"),
        (f"d1.{PYTHON}.s.five", "is damaged"),
        (f"d1.{PYTHON}.c.AAAA", "is damaged"),
        (f"d1.{PYTHON}.c.!", "is damaged"),
        (tokens.encode(3, {"schedule": [1, 2, 3]})[:-4], "is damaged"),
    ],
)
def test_what_cannot_be_repeated_is_refused_by_name(token: str, said: str) -> None:
    with pytest.raises(TokenError, match=said):
        Choices.from_token(token)
