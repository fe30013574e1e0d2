"""Events as sentences, for reports and errors."""

from .events import AtPoint, AtStatement, AtTime, Event


def describe(event: Event) -> str:
    """The event as a sentence: `kill worker 2 at its 3rd step.checkpointing of charge; restart it after 0.3 s`."""
    verb, rest = event.fault.words()
    return _deed(verb, event) + rest


def describe_trigger(event: Event) -> str:
    """When it happens: `at 0.4 s`, `at its 3rd step.checkpointing of charge`."""
    match event.trigger:
        case AtTime(seconds=seconds):
            return f"at {seconds:g} s"
        case AtPoint(point=point, occurrence=occurrence, step=step):
            of_step = f" of {step}" if step else ""
            return f"at its {_ordinal(occurrence)} {point}{of_step}"
        case AtStatement(number=number, where="inside", point=inner):
            return f"at the {_ordinal(inner)} point inside its {_ordinal(number)} statement"
        case AtStatement(number=number, where=where):
            return f"{where} its {_ordinal(number)} statement"


def _deed(verb: str, event: Event) -> str:
    """`its` refers to the worker, so a fault of the server has to name it beside the trigger."""
    point = isinstance(event.trigger, AtPoint | AtStatement)
    anyone = "the first worker" if point else "the busiest worker"
    who = anyone if event.worker is None else f"worker {event.worker}"
    if "{}" in verb:
        return f"{verb.format(who)} {describe_trigger(event)}"
    return f"{verb} when {who} is {describe_trigger(event)}" if point else f"{verb} {describe_trigger(event)}"


def _ordinal(number: int) -> str:
    teen = number % 100 in (11, 12, 13)
    return f"{number}{'th' if teen else {1: 'st', 2: 'nd', 3: 'rd'}.get(number % 10, 'th')}"
