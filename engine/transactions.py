"""Transaction steps: the user's SQL and the checkpoint in one PostgreSQL transaction.

Beside its own SQL such a step costs BEGIN, one call that checkpoints and fences, and COMMIT. Whatever becomes of the
connection, the primary key of the checkpoint decides: a second commit of one step cannot happen. A COMMIT without an answer
is resolved by reading the checkpoint.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import psycopg

from . import failures, observer
from .assertions import sometimes
from .definitions import StepDefinition
from .errors import StepTimeout, TransactionContended, TransactionMisuse
from .link import backoff, close, contended, hindered, interrupted, lost
from .scope import body
from .sessions import ENDED, IS_OURS, Lent, StepConnection
from .steps import begin_body, running, time_limit
from .store import Checkpoint, Fence, checkpoint_arguments, checkpoint_statement

if TYPE_CHECKING:
    from .execution import Execution

_MOST_CONTENTION = 100  # lost races against other transactions, before it counts as the step's own failure


@dataclass(frozen=True, slots=True)
class _Again:
    """This try had no effect, through no fault of the step."""

    contended: bool


@dataclass(frozen=True, slots=True)
class _Failed:
    """The body failed, and nothing of it remains."""

    error: BaseException


async def run_transaction(
    execution: "Execution", step: StepDefinition[..., Any], id_: str, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Checkpoint:
    """Run the transaction until it is committed, or its attempts are used up and the failure is recorded."""
    attempt, passing, contention = 1, 0, 0
    while True:
        outcome = await _try(execution, step, id_, attempt, args, kwargs)
        if isinstance(outcome, Checkpoint):
            return outcome
        if isinstance(outcome, _Again):
            sometimes(outcome.contended, "a transaction lost a race and was run again")
            sometimes(not outcome.contended, "a transaction lost its connection and was run again")
            passing += 1
            contention = contention + 1 if outcome.contended else 0
            if contention < _MOST_CONTENTION:
                await execution.rest(backoff(min(passing, 7), execution.runtime.entropy))
                continue
            lost_races = f"transaction {step.name!r} lost against others {contention} times in a row"
            outcome = _Failed(TransactionContended(lost_races))
            contention = 0
        if attempt >= step.retry.attempts or not isinstance(outcome.error, step.retry.on):
            break
        await execution.rest(step.retry.delay(attempt, execution.runtime.entropy))
        attempt += 1
    checkpoint = Checkpoint(id_, step.name, step.kind, True, failures.record(outcome.error, execution.runtime.values))
    if await execution.write(checkpoint) == "already":
        # Not for certain this failure: a COMMIT of an earlier try, taken for lost, may have been under way all the time.
        return await _recorded(execution, step, id_, "already")
    return checkpoint


async def _try(
    execution: "Execution",
    step: StepDefinition[..., Any],
    id_: str,
    attempt: int,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
) -> Checkpoint | _Again | _Failed:
    """One transaction: committed, failed by its body's doing, or to be tried again."""
    sessions = execution.runtime.sessions
    conn: StepConnection | None = None
    try:
        async with sessions.lend() as conn:
            before, fence = execution.frontier(), execution.fence()
            await sessions.begin(conn, step.isolation)
            checkpoint: Checkpoint | None = None
            try:
                checkpoint = await _body(execution, step, id_, attempt, conn, args, kwargs)
                if step.isolation == "read committed":  # elsewhere the checkpoint sees what was there when it all began
                    before, fence = execution.frontier(), execution.fence()
                answer = await _checkpoint(execution, conn, fence, checkpoint)
            except BaseException as error:
                return await _after(execution, conn, error, ours=checkpoint is not None)
            if answer != "written":
                await _roll_back(conn)
                return await _recorded(execution, step, id_, answer)
            if execution.observed:
                await execution.point(observer.COMMITTING, step=id_, name=step.name)
            try:
                if not await _commit(execution, step, conn, id_):
                    return _Again(contended=False)
            except psycopg.Error as error:  # found at COMMIT: a deferred constraint, a serialization failure
                if contended(error) or hindered(error):
                    return _Again(contended=contended(error))
                return _Failed(error)
        await execution.settle("written", id_, step.name, before, object())
        return checkpoint
    except (psycopg.Error, TimeoutError, OSError) as error:
        if lost(error, conn) or not isinstance(error, psycopg.Error):
            return _Again(contended=False)
        raise


async def _checkpoint(execution: "Execution", conn: StepConnection, fence: Fence, checkpoint: Checkpoint) -> str:
    """Write the checkpoint in the step's own transaction; the answer of checkpoint_v1."""
    statement = checkpoint_statement(execution.runtime.store.schema) + f" where {IS_OURS}".encode()
    arguments = [*checkpoint_arguments(fence, checkpoint), True]
    cursor = await conn.execute(statement, arguments, prepare=not conn.pooled)
    rows = await cursor.fetchall()
    if not rows:
        raise TransactionMisuse(ENDED)
    return str(rows[0][0])


async def _after(execution: "Execution", conn: StepConnection, error: BaseException, *, ours: bool) -> _Again | _Failed:
    """What follows from an exception in the open transaction, which is rolled back.

    A lost connection or race, or a full disk, is not the step's failure, even if its code has put another exception in the
    place of that one; nor is what interrupts a statement of `ours`.
    """
    culprit = conn.culprit()
    await _roll_back(conn)
    if not execution.is_outcome(error):
        raise error
    if culprit is not None and not isinstance(error, StepTimeout):
        if contended(culprit):
            return _Again(contended=True)
        if hindered(culprit) or (ours and interrupted(culprit)):
            return _Again(contended=False)
        if lost(culprit, conn):
            await close(conn)  # it may lead to a server that will not write any more
            return _Again(contended=False)
        if isinstance(error, psycopg.errors.InFailedSqlTransaction):
            return _Failed(culprit)  # the body went on after an error
    return _Failed(error)


async def _body(
    execution: "Execution",
    step: StepDefinition[..., Any],
    id_: str,
    attempt: int,
    conn: StepConnection,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
) -> Checkpoint:
    """Run the user's SQL; the checkpoint that is to be committed with it."""
    values = execution.runtime.values
    context = await begin_body(execution, step, id_, attempt)
    try:
        with running(execution, context), Lent(conn) as tx, body(context):
            async with time_limit(step):
                result = await step.function(tx, *args, **kwargs)
        execution.check()
        if conn.info.transaction_status == psycopg.pq.TransactionStatus.IDLE and not conn.closed:
            raise TransactionMisuse(ENDED)
        text = values.encode(result, f"result of transaction {step.name!r}")
        values.decode(text, step.signature.returns, f"result of transaction {step.name!r}")
    except BaseException as error:
        if not execution.is_outcome(error):
            raise
        await execution.point(observer.ENDED, step=id_, name=step.name, attempt=attempt, outcome="error")
        raise
    await execution.point(observer.ENDED, step=id_, name=step.name, attempt=attempt, outcome="ok")
    return Checkpoint(id_, step.name, step.kind, False, text)


async def _commit(execution: "Execution", step: StepDefinition[..., Any], conn: StepConnection, id_: str) -> bool:
    """COMMIT; if the answer is lost, find out. False: it did not happen."""
    try:
        await conn.execute(b"commit", prepare=False)
        return True
    except psycopg.Error as error:
        if contended(error):
            raise  # a serialization failure found at COMMIT: nothing happened
        if not lost(error, conn):
            raise
    await execution.point(observer.AMBIGUOUS, step=id_, name=step.name)
    recorded = await execution.runtime.store.recorded(execution.claimed.number, id_)
    await execution.point(observer.RESOLVED, step=id_, name=step.name, present=recorded is not None)
    sometimes(recorded is not None, "an ambiguous COMMIT had happened")
    sometimes(recorded is None, "an ambiguous COMMIT had not happened")
    if recorded is None:
        return False  # or not yet: if the server still commits it, the next try finds it by the primary key
    if recorded[2:] != (execution.runtime.incarnation, execution.claimed.epoch):
        await execution.settle("fenced", id_, step.name, [], object())
    return True


async def _recorded(execution: "Execution", step: StepDefinition[..., Any], id_: str, answer: str) -> Checkpoint:
    """The checkpoint that stands where ours was refused."""
    await execution.settle(answer, id_, step.name, [], object())
    recorded = await execution.runtime.store.recorded(execution.claimed.number, id_)
    assert recorded is not None, "answered 'already', and nothing is there"
    return Checkpoint(id_, step.name, step.kind, recorded[0], recorded[1])


async def _roll_back(conn: StepConnection) -> None:
    """Leave the transaction; a connection that cannot is dropped when it is given back."""
    try:
        if not conn.closed:
            await conn.execute(b"rollback", prepare=False)
    except psycopg.Error:
        pass
