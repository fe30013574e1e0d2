"""What containers run: an image with the harness's Python, and the harness's own code, mounted read-only.

Nothing of duress is in the image, so it need not be made again when the code changes, and cannot be out of date.
"""

import os
import sys
import sysconfig
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from docker.errors import ContainerError, DockerException, ImageNotFound

from duress.faults.postgres import ServerError
from duress.scenarios.docker.daemon import Daemon
from duress.scenarios.registry import search_path

VARIABLE: Final = "DURESS_IMAGE"
PYTHON: Final = "python3"
INSIDE: Final = "/mnt/duress/path"  # where the folders of the search path are mounted
MINOR: Final = f"{sys.version_info.major}.{sys.version_info.minor}"
DEFAULT: Final = f"duress:python{MINOR}"
# The standard library, which the image has itself.
OF_PYTHON: Final = frozenset(
    Path(place).resolve() / part
    for place in (sysconfig.get_path("stdlib"), sysconfig.get_path("platstdlib"))
    for part in ("", "lib-dynload")
)
# Where `duress` is: an editable installation is found by other means than a folder of the search path.
PACKAGE: Final = Path(sys.modules["duress"].__file__ or "").resolve().parents[1]
HOW_TO_MAKE: Final = (
    f"make one with `docker build -t {DEFAULT} --build-arg BASE=python:{MINOR}-slim .`, or name another that has Python"
    f" {MINOR} in {VARIABLE}"
)


class ImageUnusable(ServerError):
    """There is no image to run containers from, or it has another Python."""


@dataclass(frozen=True, slots=True)
class Code:
    """The harness's importable folders, and where they are inside."""

    places: dict[Path, str] = field(
        default_factory=lambda: {
            path: f"{INSIDE}/{number}"
            for number, path in enumerate(dict.fromkeys([PACKAGE, *map(_resolved, search_path().split(os.pathsep))]))
            if path.is_dir() and path not in OF_PYTHON
        }
    )

    @property
    def volumes(self) -> dict[str, dict[str, str]]:
        """For docker-py."""
        return {str(path): {"bind": inside, "mode": "ro"} for path, inside in self.places.items()}

    @property
    def environment(self) -> dict[str, str]:
        """So that it is found."""
        return {"PYTHONPATH": os.pathsep.join(self.places.values()), "PYTHONHASHSEED": "0", "LC_ALL": "C.UTF-8"}

    def inside(self, path: Path) -> str:
        """Where a file of the harness's is inside. Raises ImageUnusable if it is in no folder of the search path."""
        for folder, inside in self.places.items():
            if path.resolve().is_relative_to(folder):
                return f"{inside}/{path.resolve().relative_to(folder)}"
        raise ImageUnusable(f"{path} is in no folder that Python imports from, so a container cannot have it")


def _resolved(path: str) -> Path:
    return Path(path).resolve()


async def chosen_image(daemon: Daemon) -> str:
    """The image to use, which has our Python. Raises ImageUnusable."""
    name = os.environ.get(VARIABLE) or DEFAULT
    program = "import sys; print(*sys.version_info[:2], sep='.')"

    def version() -> str:
        daemon.client.images.get(name)  # `run` would look for it in a registry
        said: Any = daemon.client.containers.run(
            name, [PYTHON, "-c", program], remove=True, network_disabled=True, labels=daemon.labels
        )
        return str(said.decode().strip())

    try:
        found = await daemon.ask(version)
    except ImageNotFound:
        raise ImageUnusable(f"there is no image {name!r}: {HOW_TO_MAKE}") from None
    except (ContainerError, DockerException) as error:
        raise ImageUnusable(f"image {name!r} does not run {PYTHON} ({error}): {HOW_TO_MAKE}") from error
    if found != MINOR:
        raise ImageUnusable(f"image {name!r} has Python {found}, and duress runs on {MINOR} here: {HOW_TO_MAKE}")
    return name
