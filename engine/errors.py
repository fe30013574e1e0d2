"""All errors of the engine: one root, one class for each thing that a caller can act on.

Control flow that user code must not swallow with `except Exception` derives from `BaseException` and stands at the end.
"""


class DuressError(Exception):
    """Root of all errors raised by duress on purpose."""


class ConfigurationError(DuressError):
    """An option has a value that cannot work; the message names it and says what would."""


class DefinitionError(DuressError):
    """A workflow or step is defined wrongly: two of one name, not a coroutine function, annotations that cannot be read."""


class DatabaseUnavailable(DuressError):
    """The database did not answer, or refused us, when the engine was opened."""


class SchemaError(DuressError):
    """The schema is missing, older than the code needs, or newer than the code knows. The message says what to run."""


class WorkerNameTaken(DuressError):
    """A living worker already has this name."""


class WorkflowConflict(DuressError):
    """A workflow with this id exists, with another name or input."""


class WorkflowNotFound(DuressError):
    """No workflow has this id."""


class WorkflowUnfinished(DuressError, TimeoutError):
    """`result(timeout=…)` ran out before the workflow ended; the workflow goes on."""


class WorkflowFailed(DuressError):
    """The workflow ended with an error: `type` and `message` are those of the exception that it raised."""

    def __init__(self, workflow: str, type: str, message: str) -> None:
        super().__init__(f"workflow {workflow!r} failed: {type}: {message}")
        self.workflow = workflow
        self.type = type
        self.message = message


class WorkflowCancelled(DuressError):
    """The workflow was cancelled."""


class WorkflowDead(DuressError):
    """The workflow was given up, because its claims kept ending in a dead worker."""


class StepFailed(DuressError):
    """A step's recorded failure, the same when it happens and at every replay."""

    def __init__(self, type: str, message: str) -> None:
        super().__init__(type, message)
        self.type = type
        self.message = message

    def __str__(self) -> str:
        return f"{self.type}: {self.message}"


class StepTimeout(DuressError):
    """A step's body took longer than its `timeout`."""


class NonDeterminism(DuressError):
    """A replay asked for another step than the one recorded at that place."""


class NotInWorkflow(DuressError):
    """A durable call that needs a workflow was made outside one, or inside a step's body."""


class ValueNotSerializable(DuressError):
    """A value cannot be stored as JSON, or not read back as its annotated type; the message says where."""


class TransactionContended(DuressError):
    """A transaction step lost against other transactions (serialization failures, deadlocks) too many times in a row."""


class TransactionMisuse(DuressError):
    """A transaction step tried to end its own transaction: the engine commits it together with the checkpoint."""


class Unwind(BaseException):
    """Leaves a workflow's code without an outcome: it sleeps, was fenced, or is handed over. Not for user code."""
