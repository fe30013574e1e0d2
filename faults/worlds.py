"""Which kinds of faults each world can do, and on which network. The one table: what is not in it is neither drawn nor done.

A kind that was asked for by name, or stands in a plan, is refused by name; from kinds that are merely allowed a world draws
those that it can do.
"""

from collections.abc import Iterable, Iterator
from typing import Final, Literal

import msgspec

from duress.faults.needs import lacking, no_dropping
from duress.faults.plan import (
    KINDS,
    OUTAGES,
    AnyFault,
    AtStatement,
    ClockJump,
    DropConnection,
    Partition,
    Plan,
    PlanError,
    kind,
    kind_of,
)

World = Literal["sim", "procs", "docker"]
# Between real workers and the server; a simulated world has its own.
NetworkName = Literal["proxy", "toxiproxy", "none"]

# Places of the table: a world, or a world on one of its networks. `procs` and `docker` mean whatever the network is.
_SIM, _PROCS, _PROXY, _TOXIPROXY, _DOCKER = "sim", "procs", "procs+proxy", "procs+toxiproxy", "docker"

ABLE: Final[dict[str, tuple[str, ...]]] = {
    "kill-worker": (_SIM, _PROCS, _DOCKER),
    "pause-worker": (_SIM, _PROCS, _DOCKER),
    "stop-worker": (_SIM, _PROCS, _DOCKER),
    "drop-connection": (_SIM, _PROXY, _TOXIPROXY),
    "refuse-connections": (_SIM, _PROXY, _TOXIPROXY),
    "partition": (_SIM, _PROXY, _TOXIPROXY, _DOCKER),
    "slow-link": (_SIM, _PROXY, _TOXIPROXY),
    "cut-commit": (_SIM, _PROXY),
    "crash-at-commit": (_SIM,),
    "lose-notify": (_SIM, _PROXY),
    "terminate-backend": (_SIM, _PROCS, _DOCKER),
    "cancel-statement": (_SIM, _PROCS),
    "statement-timeout": (_SIM, _PROXY),
    "lock-timeout": (_SIM, _PROXY),
    "deadlock": (_SIM, _PROXY),
    "serialization-failure": (_SIM, _PROXY),
    "idle-in-transaction-timeout": (_SIM, _PROXY),
    "read-only": (_SIM, _PROXY),
    "too-many-connections": (_SIM, _PROCS),
    "crash-backend": (_SIM, _PROCS, _DOCKER),
    "pause-postgres": (_SIM, _PROCS, _DOCKER),
    "restart-postgres": (_SIM, _PROCS, _DOCKER),
    "kill-postmaster": (_PROCS, _DOCKER),
    "failover": (_PROCS,),
    "disk-full": (_SIM, _PROCS),
    "fsync-fails": (_SIM,),
    "clock-skew": (_SIM, _PROCS),
    "clock-jump": (_SIM, _PROCS),
    "pooler": (_PROXY,),
}
# What strikes a worker's way to the server.
NETWORK_KINDS: Final = frozenset(
    ("drop-connection", "refuse-connections", "partition", "slow-link", "cut-commit", "lose-notify")
)
# What only the server's log confirms, among real processes.
_LOGGED: Final = frozenset(
    {
        "cancel-statement",
        "statement-timeout",
        "lock-timeout",
        "deadlock",
        "serialization-failure",
        "idle-in-transaction-timeout",
        "read-only",
    }
)
# What would harm a server that is not ours, for everybody who uses it.
HARMFUL: Final = frozenset(kind_of(fault) for fault in OUTAGES)


def can(name: str, world: World, network: NetworkName = "proxy") -> bool:
    """Whether the world can do faults of this kind, on this network."""
    return any(place in (world, f"{world}+{network}") for place in ABLE[name])


def objection(name: str, world: World, network: NetworkName = "proxy", *, own_server: bool = True) -> str | None:
    """Why faults of this kind cannot be had there, and what to do; None if they can."""
    if not can(name, world, network):
        where = f"{world} with --network {network}" if can_elsewhere(name, world) else world
        options = [_option(place) for place in ABLE[name]]
        return f"{name} cannot be done in {where}; " + (f"use {' or '.join(options)}" if options else "leave it out")
    if world != "sim" and (lack := lacking(name)):
        return f"{name} cannot be done on this machine: {lack}"
    if not own_server and name in _LOGGED:
        return (
            f"{name} is confirmed by PostgreSQL's log, and that of the server that --dsn names is not ours to read; leave it"
            " out, or run without --dsn on a private server that duress starts"
        )
    if not own_server and name in HARMFUL:
        return (
            f"{name} would take down the server that --dsn names, for everybody; leave it out, or run without --dsn on a"
            " private server that duress starts"
        )
    return None


def can_elsewhere(name: str, world: World) -> bool:
    """Whether the world can do it on some network."""
    return any(place.partition("+")[0] == world for place in ABLE[name])


def refuse(plan: Plan, world: World, network: NetworkName = "proxy", *, own_server: bool = True) -> None:
    """Raise PlanError, naming the events, if the plan has faults that cannot be had there."""
    objections = list(_objections(plan, world, network, own_server))
    if objections:
        raise PlanError(*objections)


def as_possible(plan: Plan, world: World, network: NetworkName) -> Plan:
    """The plan as it can be had there, where a detail cannot."""
    if world == "sim" or (world == "procs" and network != "toxiproxy"):
        return plan
    events = (msgspec.structs.replace(event, fault=_detailed(event.fault, world)) for event in plan.events)
    return msgspec.structs.replace(plan, events=tuple(events))


def _detailed(fault: AnyFault, world: World) -> AnyFault:
    if isinstance(fault, DropConnection) and world == "procs":
        return DropConnection(how="fin")
    if isinstance(fault, Partition) and world == "docker":
        return msgspec.structs.replace(fault, direction="both")
    return fault


def drawable(
    names: Iterable[str], world: World, network: NetworkName = "proxy", *, own_server: bool = True
) -> list[str]:
    """Those of the kinds that can be had there, in the catalogue's order."""
    wanted = set(names)
    return [name for name in KINDS if name in wanted and objection(name, world, network, own_server=own_server) is None]


def _objections(plan: Plan, world: World, network: NetworkName, own_server: bool) -> Iterator[str]:
    for index, event in enumerate(plan.events):
        name = kind(event.fault)
        why = objection(name, world, network, own_server=own_server)
        if why is not None:
            yield f"events[{index}].fault.kind is {name!r}: {why}"
        elif isinstance(event.fault, ClockJump) and event.fault.of == "server" and world != "sim":
            yield (
                f"events[{index}].fault.of is 'server': the clock of a real server cannot be moved; leave it out, or use"
                " --world sim"
            )
        elif (
            world != "sim" and isinstance(event.fault, Partition) and event.fault.packets == "dropped" and no_dropping()
        ):
            yield f"events[{index}].fault.packets is 'dropped': {no_dropping()}"
        elif isinstance(event.fault, Partition) and event.fault.direction != "both" and world == "docker":
            yield (
                f"events[{index}].fault.direction is {event.fault.direction!r}: a container is taken off its network in both"
                " directions; use both, or --world procs"
            )
        elif isinstance(event.fault, DropConnection) and event.fault.how == "rst" and network == "toxiproxy":
            yield (
                f"events[{index}].fault.how is 'rst': Toxiproxy cannot reset the connections that there are; use fin, or"
                " --network proxy"
            )
        if isinstance(event.trigger, AtStatement) and world != "sim":
            yield f"events[{index}].trigger.at is 'statement': only --world sim counts statements"


def _option(place: str) -> str:
    world, _, network = place.partition("+")
    return f"--world {world} --network {network}" if network else f"--world {world}"
