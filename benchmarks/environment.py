"""The peers' environment: a virtual environment of its own under `.duress/`, with the versions pinned in
`peers/requirements.txt`.

Ours stays as it is, and theirs does not depend on what we need.
"""

import fcntl
import hashlib
import shutil
import subprocess
import sys
import venv
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
OUTPUT = REPOSITORY / ".duress"
REQUIREMENTS = Path(__file__).with_name("peers") / "requirements.txt"


def prepare_peers(folder: Path = OUTPUT / "peers-venv") -> Path:
    """The Python of the peers' environment, made anew when the pins or this Python changed.

    Safe to call from two runs at once.
    Raises RuntimeError with pip's own words when a package cannot be installed.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    python = folder / "bin" / "python"
    stamp = folder / "pins"
    pins = hashlib.sha256(REQUIREMENTS.read_bytes() + sys.version.encode()).hexdigest()
    with (folder.parent / f"{folder.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if stamp.exists() and stamp.read_text() == pins and python.exists():
            return python
        shutil.rmtree(folder, ignore_errors=True)
        venv.create(folder, with_pip=True)
        install: list[str | Path] = [
            python,
            "-m",
            "pip",
            "install",
            "--quiet",
            "--disable-pip-version-check",
            "--requirement",
            REQUIREMENTS,
        ]
        done = subprocess.run(install, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise RuntimeError(f"the peers could not be installed into {folder}:\n{done.stderr.strip()}")
        stamp.write_text(pins)  # last, so that a half-made environment is made again
    return python
