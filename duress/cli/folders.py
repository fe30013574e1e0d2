"""Where results go: a new folder below .duress/, unless told otherwise."""

import time
from pathlib import Path
from typing import Final

import click

OUT: Final = Path(".duress")


def new_folder(out: Path | None, reference: str, what: str = "") -> Path:
    """A folder for results, made now, so that a place where we may not write is found before a run. Raises UsageError."""
    folder = out or OUT / f"{time.strftime('%Y%m%d-%H%M%S')}-{as_name(reference)}{what}"
    for attempt in range(1, 1000):
        try:
            folder.mkdir(parents=True, exist_ok=out is not None)
            return folder
        except FileExistsError:
            if out is not None:
                raise click.UsageError(f"--out {out} is not a folder") from None
            folder = folder.with_name(f"{folder.name.split('.')[0]}.{attempt}")
        except OSError as error:
            raise click.UsageError(f"the results cannot be written to {folder}: {error.strerror}") from error
    raise click.UsageError(f"no free name for results beside {folder}")


def as_name(reference: str) -> str:
    """A scenario's reference as part of a file name."""
    return "".join(letter if letter.isalnum() else "-" for letter in reference)
