"""The account that PostgreSQL runs under: ours, or another one when we are root, because PostgreSQL refuses root."""

import os
import pwd
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from duress.faults.postgres.errors import CannotDropRoot

USER_VARIABLE = "DURESS_POSTGRES_USER"
DEFAULT_USER = "nobody"


@dataclass(frozen=True, slots=True)
class Account:
    """A user and group to drop to."""

    name: str
    uid: int
    gid: int

    def can_run(self, argv: Sequence[str | Path]) -> bool:
        """Whether this account can run a program to a good end: the kernel and the loader decide, not our reading."""
        return not self.why_not(argv)

    def why_not(self, argv: Sequence[str | Path]) -> str:
        """Why the account cannot run a program; empty when it can. Raises CannotDropRoot when we cannot become it."""
        try:
            done = subprocess.run(
                argv,
                user=self.uid,
                group=self.gid,
                extra_groups=[],
                cwd="/",
                capture_output=True,
                text=True,
                check=False,
            )
        except subprocess.SubprocessError as error:  # what a failing setuid or setgroups turns into
            raise self._cannot(error) from error
        except OSError as error:
            # A refused setuid is an OSError too; only one that names the program is about the program.
            if error.filename is None or os.fspath(argv[0]) not in str(error.filename):
                raise self._cannot(error) from error
            return str(error)
        return "" if done.returncode == 0 else f"exit status {done.returncode}: {done.stderr.strip()}"

    def can_enter(self, folder: Path) -> bool:
        """Whether the account may pass through a folder and all above it (by the mode bits)."""
        return all(
            at.stat().st_uid == self.uid or at.stat().st_mode & 0o001
            for at in (folder.resolve(), *folder.resolve().parents)
        )

    def _cannot(self, error: Exception) -> CannotDropRoot:
        return CannotDropRoot(
            f"PostgreSQL refuses to run as root, and this process may not become user {self.name!r} ({error}). "
            f"Run as an ordinary user, or name another account in {USER_VARIABLE}."
        )


def account_to_drop_to() -> Account | None:
    """Whom PostgreSQL runs as when we are root: `nobody`, or whom DURESS_POSTGRES_USER names; None: as ourselves."""
    if os.geteuid() != 0:
        return None
    wanted = os.environ.get(USER_VARIABLE, DEFAULT_USER)
    try:
        entry = pwd.getpwuid(int(wanted)) if wanted.isdigit() else pwd.getpwnam(wanted)
    except KeyError:  # initdb asks for the name of its user, so a bare number will not do
        raise CannotDropRoot(
            f"PostgreSQL refuses to run as root, and there is no user {wanted!r} here to run it as. "
            f"Name one that exists in {USER_VARIABLE}."
        ) from None
    if entry.pw_uid == 0:
        raise CannotDropRoot(f"PostgreSQL refuses to run as root, and {USER_VARIABLE} names root: name another user.")
    return Account(entry.pw_name, entry.pw_uid, entry.pw_gid)
