"""What tests need of the machine: skipped by name where it is missing, an error where DURESS_REQUIRE says it must be there.

DURESS_REQUIRE is a list like `docker,toxiproxy`; `.ci/run` sets it, so that nothing is skipped there unnoticed.
"""

import contextlib
import os

import pytest

from duress.faults import containers
from duress.faults.toxiproxy import NoToxiproxy, find_toxiproxy

REQUIRED = frozenset(filter(None, os.environ.get("DURESS_REQUIRE", "").split(",")))


def needs(name: str, missing: str) -> pytest.MarkDecorator:
    """A mark for tests that need `name`; `missing` says why it is not here, and is empty where it is."""
    if missing and name in REQUIRED:
        raise RuntimeError(f"DURESS_REQUIRE names {name}, which is not here: {missing}")
    return pytest.mark.skipif(bool(missing), reason=f"{name}: {missing}")


def why_no_docker(image: str | None = None) -> str:
    """Why there is no Docker daemon, or not the image; empty where there is."""
    try:
        client = containers.connect()
    except containers.NoDocker as error:
        return str(error)
    with contextlib.closing(client):
        if image is not None and not client.images.list(image):
            return f"no image {image}: docker build -t {image} --build-arg BASE=… ."
    return ""


def why_no_toxiproxy() -> str:
    """Why there is no Toxiproxy server; empty where there is."""
    try:
        find_toxiproxy()
    except NoToxiproxy as error:
        return str(error)
    return ""
