"""What the runs of one lane of a campaign share: a network, PostgreSQL in a container on it, and a template."""

import asyncio
import contextlib
import os
import secrets
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from tempfile import gettempdir
from typing import Any, Final

from docker.errors import APIError
from docker.types import IPAMConfig, IPAMPool

from duress.faults.containers import NoDocker
from duress.faults.postgres import ServerError
from duress.faults.postgres.guard import Guard
from duress.scenarios.docker.daemon import Daemon, open_daemon
from duress.scenarios.docker.image import Code, chosen_image
from duress.scenarios.docker.server import open_server
from duress.scenarios.docker.world import DockerGround, Shared
from duress.scenarios.procs.database import Databases
from duress.scenarios.procs.ground import build
from duress.scenarios.work import Work

SUBNETS: Final = 20  # that are tried: one may be in use here


def _create_network(daemon: Daemon) -> Any:
    """A network without a way out. With a subnet of our choice: only there can a container have its address back, which it
    needs for its connections to live on after a partition.
    """
    for attempt in range(SUBNETS):
        subnet = f"10.{200 + secrets.randbelow(55)}.{secrets.randbelow(256)}.0/24"
        pool = IPAMConfig(pool_configs=[IPAMPool(subnet=subnet)])
        name = f"duress-{os.getpid()}-{secrets.token_hex(3)}"
        try:
            return daemon.client.networks.create(name, internal=True, labels=daemon.labels, ipam=pool)
        except APIError as error:
            if "overlap" not in str(error) or attempt + 1 == SUBNETS:
                raise ServerError(f"no network could be made for the containers: {error.explanation}") from error
    raise AssertionError("not reached")


async def _remove_network(daemon: Daemon, network: Any) -> None:
    """If something has failed there may be a container on it still: then both go with the daemon's other things of ours."""
    with contextlib.suppress(APIError):
        await daemon.ask(network.remove)


@contextlib.asynccontextmanager
async def open_docker_ground(work: Work) -> AsyncIterator[DockerGround]:
    """Nothing of it is left on leaving, in the daemon or in folders. Raises ServerError where it cannot be had."""
    async with contextlib.AsyncExitStack() as stack:
        try:
            daemon = await stack.enter_async_context(open_daemon())
        except NoDocker as error:
            raise ServerError(f"--world docker: {error}") from None
        code = Code()
        image = await chosen_image(daemon)
        network = await daemon.ask(_create_network, daemon)
        name = str(network.name)
        stack.push_async_callback(_remove_network, daemon, network)
        server = await stack.enter_async_context(open_server(daemon, image, code, name))
        databases = Databases.on(server.dsn)
        postgres = await databases.check()
        template = await stack.enter_async_context(databases.template(partial(build, work)))
        guard = await asyncio.to_thread(Guard)
        stack.push_async_callback(asyncio.to_thread, guard.close)
        folder = guard.make_folder(Path(gettempdir()))  # short: it holds sockets
        shared = Shared(
            work=work,
            daemon=daemon,
            image=image,
            code=code,
            network=name,
            server=server,
            databases=databases,
            template=template,
            folder=folder,
        )
        yield DockerGround(shared, postgres)
