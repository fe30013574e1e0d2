"""Containers and networks of a harness that is gone are removed; those of one that lives, and anybody else's, are not."""

import io
import os
import subprocess
import tarfile
from collections.abc import Iterator
from typing import Any

import pytest
from machine import needs, why_no_docker

from duress.faults import containers
from duress.faults.undo import boot

pytestmark = needs("docker", why_no_docker())
IMAGE = "duress-test-empty"


@pytest.fixture
def client() -> Iterator[Any]:
    """A client of the daemon, which has an image without any files."""
    client = containers.connect()
    nothing = io.BytesIO()
    tarfile.open(fileobj=nothing, mode="w").close()
    client.api.import_image_from_data(nothing.getvalue(), repository=IMAGE)
    try:
        yield client
    finally:
        client.images.remove(IMAGE, force=True)
        client.close()


def things(client: Any, value: str, number: int) -> tuple[Any, Any]:
    """A container that was never started, and a network."""
    labels = {containers.LABEL: value}
    container = client.containers.create(IMAGE, ["/none"], labels=labels, name=f"duress-test-{os.getpid()}-{number}")
    network = client.networks.create(f"duress-test-{os.getpid()}-{number}", internal=True, labels=labels)
    return container, network


def here(client: Any, container: Any, network: Any) -> tuple[bool, bool]:
    return (
        container.id in {one.id for one in client.containers.list(all=True, ignore_removed=True)},
        network.id in {one.id for one in client.networks.list()},
    )


def test_what_a_harness_that_is_gone_has_left_is_removed_and_nothing_else(client: Any) -> None:
    gone = subprocess.Popen(["sleep", "600"])
    dead, living = containers.mark(gone.pid), containers.mark(os.getpid())
    foreign = "somebody's own value"
    made = {value: things(client, value, number) for number, value in enumerate((dead, living, foreign))}
    try:
        assert containers.remove_leftovers(client) == []
        gone.kill()
        gone.wait()
        container, network = made[dead]
        said = containers.remove_leftovers(client)
        assert sorted(said) == [
            f"removed container {container.name}, which a harness that is gone had created",
            f"removed network {network.name}, which a harness that is gone had created",
        ]
        assert here(client, *made[dead]) == (False, False)
        assert here(client, *made[living]) == here(client, *made[foreign]) == (True, True)
    finally:
        for value in made:
            containers.remove_all_of(client, value)
    assert not any(any(here(client, *pair)) for pair in made.values())


def test_what_bears_the_mark_of_another_boot_is_removed_unless_it_runs(client: Any) -> None:
    """It may be another machine's, whose harness cannot be looked for here; after a reboot nothing of ours runs."""
    value = containers.mark(os.getpid()).replace(boot(), "another-boot")
    pair = things(client, value, 9)
    try:
        containers.remove_leftovers(client)
        assert here(client, *pair) == (False, False)
    finally:
        containers.remove_all_of(client, value)
