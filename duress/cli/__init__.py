"""The command line. Results go to stdout, progress and logs to stderr.

Exit codes: 0 pass · 1 an invariant was violated · 2 usage or configuration · 3 the harness itself failed ·
4 inconclusive · 5 nothing selected · 6 a limit or baseline was missed · 130 interrupted.
"""

import os
import sys
from typing import NoReturn

from duress.cli import codes

__all__ = ["main"]


def main() -> NoReturn:
    """Run the command in `sys.argv` and exit. An exception that nobody handled exits 3, never 1."""
    try:
        from duress.cli.app import run

        code = run(sys.argv[1:])
        sys.stdout.flush()
    except KeyboardInterrupt:
        code = codes.INTERRUPTED
    except BrokenPipeError:
        # Whoever read stdout has gone. Python would complain once more when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        code = codes.HARNESS_FAILED
    except Exception:  # noqa: BLE001  # the last line of defence: it must not look like a violation
        import traceback

        traceback.print_exc()
        code = codes.HARNESS_FAILED
    sys.exit(code)
