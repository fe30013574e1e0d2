"""What the proxy can be told, and what it tells: JSON lines over a socket, an order at a time, told things at any time."""

import re
from typing import Final, Literal, get_args

import msgspec

from duress.faults.proxy.messages import MESSAGE_NAMES, Direction

Ending = Literal["rst", "fin"]
Sides = Literal["both", "to-server", "to-worker"]
CommitPoint = Literal[
    "before-forward", "forwarded", "applied-reply-held", "mid-CommandComplete", "before-ReadyForQuery"
]
COMMIT_POINTS: Final[tuple[CommitPoint, ...]] = get_args(CommitPoint)
AT_REQUEST: Final = frozenset({"before-forward", "forwarded"})


class Pattern(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which message: the `occurrence`-th one (from 1) of a worker, from now on, that fits.

    `message` is its name in PostgreSQL's documentation, None for any. `statement` is a regular expression that has to be
    found in the SQL that the message runs or, towards the worker, that it answers.
    """

    direction: Direction
    message: str | None = None
    statement: str | None = None
    occurrence: int = 1

    def __post_init__(self) -> None:
        if self.message is not None and self.message not in MESSAGE_NAMES:
            raise ValueError(f"no message is called {self.message!r}; there is: {', '.join(sorted(MESSAGE_NAMES))}")
        if self.occurrence < 1:
            raise ValueError(f"occurrences are counted from 1, not from {self.occurrence}")
        if self.statement is not None:
            try:
                re.compile(self.statement)
            except re.error as error:
                raise ValueError(f"{self.statement!r} is no regular expression: {error}") from None


class Strike(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="strike"):
    """What to do to the messages that fit, `times` in a row (None: from then on all).

    `cut` ends the connection before the message, `cut-inside` after half of it, `cut-after` behind it, to the worker with
    `ending`; `hold` keeps this message and what follows for `seconds` (None: until the rule is withdrawn), `delay` this
    many seconds each, and `drop` passes them on to nobody.
    """

    pattern: Pattern
    deed: Literal["cut", "cut-inside", "cut-after", "hold", "delay", "drop"]
    times: int | None = 1
    seconds: float | None = None
    ending: Ending = "rst"

    def __post_init__(self) -> None:
        if self.deed == "delay" and self.seconds is None:
            raise ValueError("a delay needs seconds")


class CutCommit(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="cut-commit"):
    """End the worker's connection at its `occurrence`-th COMMIT from now, at `point`, whoever's connection it is on.

    A COMMIT is whatever makes work durable: COMMIT or END of a transaction, PREPARE TRANSACTION, COMMIT PREPARED, or
    (unless `explicit_only`) a write outside of a transaction block. `ending` None: RST at the points where nothing more
    is to reach the worker, FIN where something is.
    """

    point: CommitPoint
    occurrence: int = 1
    explicit_only: bool = False
    ending: Ending | None = None

    def __post_init__(self) -> None:
        if self.occurrence < 1:
            raise ValueError(f"COMMITs are counted from 1, not from {self.occurrence}")


class Interject(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="interject"):
    """Run a statement of ours in the worker's session before its next exchange, `times` in a row (None: before each), or
    (`each_connection`) once on every connection.

    `statement`: only before an exchange whose first message runs or parses SQL in which this regular expression is found;
    `inside`: only within an open transaction, or (False) only outside of one; `pause`: the exchange begins that many
    seconds later. The worker hears nothing of the answer to our statement, and a failed transaction is left alone.
    """

    sql: str
    times: int | None = 1
    each_connection: bool = False
    statement: str | None = None
    inside: bool | None = None
    pause: float = 0.0


Rule = Strike | CutCommit | Interject


class Shape(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How slow one direction is: seconds for what passes, plus up to `jitter` more, and bytes per second (None: any)."""

    latency: float = 0.0
    jitter: float = 0.0
    bandwidth: float | None = None

    def __post_init__(self) -> None:
        if self.latency < 0 or self.jitter < 0:
            raise ValueError(f"a latency of {self.latency} s with {self.jitter} s of jitter cannot be: 0 or more")
        if self.bandwidth is not None and self.bandwidth <= 0:
            raise ValueError(f"a bandwidth of {self.bandwidth} bytes per second lets nothing through; use a partition")


class Upstream(msgspec.Struct, frozen=True, kw_only=True):
    """Where the server listens: a unix socket's path, or a host and port."""

    path: str | None = None
    host: str = "127.0.0.1"
    port: int = 5432


# Orders. Each is answered by a `Reply` with its number.


class Order(msgspec.Struct, frozen=True, kw_only=True, tag_field="do"):
    """Base of all orders; `number` comes back with the reply, `worker` is whom it concerns."""

    number: int
    worker: int


class Listen(Order, frozen=True, kw_only=True, tag="listen"):
    """Open a port for the worker, beside those that it has, and reply with it. `port` 0: any that is free."""

    upstream: Upstream
    port: int = 0


class Close(Order, frozen=True, kw_only=True, tag="close"):
    """Reset the worker's connections and give its ports back."""


class Repoint(Order, frozen=True, kw_only=True, tag="repoint"):
    """From now on the worker's new connections go to another server."""

    upstream: Upstream


class Arm(Order, frozen=True, kw_only=True, tag="arm"):
    """Wait for a message; reply with the rule's number, tell `Fired` when it comes."""

    rule: Rule


class Withdraw(Order, frozen=True, kw_only=True, tag="withdraw"):
    """Forget a rule, and let go what it holds. Reply with whether it had not fired to the end."""

    rule: int


class Withhold(Order, frozen=True, kw_only=True, tag="withhold"):
    """Keep what passes in these directions, and new connections; all connections stay up."""

    sides: Sides


class Release(Order, frozen=True, kw_only=True, tag="release"):
    """End the withholding: what was kept arrives in order, or (not `alive`) the connections that had any are reset."""

    alive: bool = True


class Slow(Order, frozen=True, kw_only=True, tag="slow"):
    """Make both or one direction slow; None: as fast as can be."""

    sides: Sides
    shape: Shape | None


class Refuse(Order, frozen=True, kw_only=True, tag="refuse"):
    """Stop listening, or (not `on`) listen again; connections that are there stay."""

    on: bool


class DropConnections(Order, frozen=True, kw_only=True, tag="drop"):
    """End all connections of the worker, or one; reply with how many there were."""

    ending: Ending
    connection: int | None = None


class SaveLog(Order, frozen=True, kw_only=True, tag="log"):
    """Write the messages that have passed on the worker's port (-1: on all) to a file; reply with how many.

    Those from `since` on (CLOCK_MONOTONIC, seconds), with times from then.
    """

    path: str
    since: float = 0.0


AnyOrder = Listen | Close | Repoint | Arm | Withdraw | Withhold | Release | Slow | Refuse | DropConnections | SaveLog


class Reply(msgspec.Struct, frozen=True, kw_only=True, tag_field="tell", tag="reply"):
    """What an order came to, or why it could not be done."""

    number: int
    value: int = 0
    error: str | None = None


class Fired(msgspec.Struct, frozen=True, kw_only=True, tag_field="tell", tag="fired"):
    """A rule has struck. `at` is CLOCK_MONOTONIC in seconds, `peer` the port of the worker's end of the connection; `spent`:
    it will not strike again.
    """

    rule: int
    at: float
    worker: int
    peer: int
    what: str
    spent: bool


Told = Reply | Fired
