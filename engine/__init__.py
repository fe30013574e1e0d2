"""Durable execution on PostgreSQL: workflows whose steps are checkpointed, survive crashes and take effect exactly once.

This package knows nothing of testing: it announces its points to an `Observer`, if somebody injects one.
"""

from . import errors
from .assertions import always, reachable, sometimes
from .codec import Codec
from .definitions import Registry, Retry, step, transaction, workflow
from .durable import race, sleep
from .engine import Engine, Handle, Queue
from .failures import durable_error
from .inspection import Details, Recorded, Summary
from .observer import Observer
from .runtime import WorkerOptions
from .scope import StepContext, current

__all__ = [
    "Codec",
    "Details",
    "Engine",
    "Handle",
    "Observer",
    "Queue",
    "Recorded",
    "Registry",
    "Retry",
    "StepContext",
    "Summary",
    "WorkerOptions",
    "always",
    "current",
    "durable_error",
    "errors",
    "race",
    "reachable",
    "sleep",
    "sometimes",
    "step",
    "transaction",
    "workflow",
]
