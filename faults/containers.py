"""Containers of ours: how they are known by their labels, and how those of a harness that is gone are removed.

Everything that the docker world creates carries `LABEL`, whose value names the harness. A harness on another machine may
use the same daemon, so what bears the mark of another boot is only removed when it does not run any more.
"""

import contextlib
from collections.abc import Iterator
from typing import Any, Final

import docker
import requests
from docker.errors import APIError, DockerException, NotFound

from duress.faults.undo import ProcessId, boot, identify

LABEL: Final = "duress.harness"
ASK_BOUND: Final = 60  # seconds for one request to the daemon
HOW_TO_START: Final = (
    "install and start it (Debian: apt-get install docker.io iptables, then `service docker start` or, without an init"
    " system, `dockerd &`), or name a daemon that runs in DOCKER_HOST"
)


class NoDocker(Exception):
    """There is no Docker daemon to talk to; the message says why and what would help."""


def connect() -> docker.DockerClient:
    """A client of the daemon that DOCKER_HOST names, else of the local one. Raises NoDocker."""
    try:
        client = docker.from_env(timeout=ASK_BOUND)
        client.ping()
    except (DockerException, requests.RequestException) as error:
        reason = str(error)
        if "Permission denied" in reason:
            raise NoDocker(
                "this user may not talk to the Docker daemon: run as root, or join its group (usermod -aG docker USER)"
            ) from None
        raise NoDocker(f"no Docker daemon answers: {HOW_TO_START}") from None
    return client


def mark(pid: int) -> str:
    """The value of `LABEL` for what the harness with this process number creates."""
    me = identify(pid)
    assert me is not None, "a harness is a process"
    return f"{me.pid}:{me.start_time}:{boot()}"


def remove_all_of(client: docker.DockerClient, value: str) -> list[str]:
    """Remove every container and network that bears this mark; a name for each."""
    wanted = {"label": f"{LABEL}={value}"}
    removed = []
    for container in client.containers.list(all=True, filters=wanted, ignore_removed=True):
        with _already_gone():
            container.remove(force=True, v=True)
            removed.append(f"container {container.name}")
    for network in client.networks.list(filters=wanted):
        with _already_gone():
            network.remove()
            removed.append(f"network {network.name}")
    return removed


def remove_leftovers(client: docker.DockerClient) -> list[str]:
    """Remove what harnesses that are gone have left; a sentence for each thing removed."""
    said: list[str] = []
    for value in sorted(_marks(client)):
        if _is_left_over(client, value):
            said.extend(
                f"removed {what}, which a harness that is gone had created" for what in remove_all_of(client, value)
            )
    return said


def _marks(client: docker.DockerClient) -> set[str]:
    things: list[Any] = client.containers.list(all=True, filters={"label": LABEL}, ignore_removed=True)
    marks = {thing.labels.get(LABEL, "") for thing in things}
    networks = client.networks.list(filters={"label": LABEL})
    return marks | {(network.attrs.get("Labels") or {}).get(LABEL, "") for network in networks}


def _is_left_over(client: docker.DockerClient, value: str) -> bool:
    pid, _, rest = value.partition(":")
    start, _, whose_boot = rest.partition(":")
    if not (pid.isdecimal() and start.isdecimal() and whose_boot):
        return False  # not written by us
    if whose_boot == boot():
        return not ProcessId(pid=int(pid), start_time=int(start)).lives()
    filters = {"label": f"{LABEL}={value}", "status": "running"}
    return not client.containers.list(filters=filters, ignore_removed=True)


@contextlib.contextmanager
def _already_gone() -> Iterator[None]:
    """Somebody else may be removing the same thing at this moment."""
    try:
        yield
    except NotFound:
        pass
    except APIError as error:
        if error.status_code != 409 or "already in progress" not in str(error):
            raise
