"""A shrunk run in words, the same wherever it is shown."""

from collections.abc import Iterator

from duress.scenarios.result import Shrunk


def lines(shrunk: Shrunk) -> Iterator[str]:
    """All of it, with the line that runs it again last."""
    yield f"{shrunk.invariant} in seed {shrunk.seed}, made smaller: {shrunk.message}"
    yield sizes(shrunk)
    for fault in shrunk.faults:
        yield f"fault: {fault}"
    yield ""
    yield from told(shrunk)
    yield ""
    yield "reproduce with:"
    yield shrunk.reproduce


def told(shrunk: Shrunk) -> Iterator[str]:
    """The story, and what the nearest run that breaks nothing does instead."""
    yield from shrunk.story
    if shrunk.instead:
        yield ""
        yield from shrunk.instead


def sizes(shrunk: Shrunk) -> str:
    """One line: how large it was and is, and what that took."""
    before, after = shrunk.before, shrunk.after
    parts = [
        f"{getattr(before, name)} → {getattr(after, name)} {words}"
        for name, words in (
            ("faults", "faults"),
            ("workflows", "workflows"),
            ("workers", "workers"),
            ("events", "events"),
            ("choices", "decisions off asyncio's order and least latency"),
        )
    ]
    ended = (
        "no fault and no workflow can be left out" if shrunk.complete else "the budget was used up: it may get smaller"
    )
    return f"{', '.join(parts)}; {shrunk.runs} runs in {shrunk.seconds:.1f} s; {ended}"
