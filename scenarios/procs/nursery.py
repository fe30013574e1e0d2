"""Where workers are born: `python -m duress.scenarios.procs.nursery SOCKET PARENT`, started by the harness.

This process has imported the engine and the scenario, and forks: a worker is at work after some 20 ms instead of half a
second, which the many restarts of a campaign would otherwise spend on imports. It opens no connection and starts no
thread, so a fork of it is as good as new. Workers end with it, and it ends with the harness.
"""

import json
import os
import select
import signal
import socket
import sys
import traceback
from typing import Any

from duress.faults.deathbed import die_with


def main(arguments: list[str]) -> None:
    """Import what the first message names, then fork for each further one until the harness hangs up."""
    descriptor, parent = (int(argument) for argument in arguments)
    die_with(parent)
    control = socket.socket(fileno=descriptor)
    prepare(**json.loads(control.recv(65536)))
    wake_r, wake_w = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.set_wakeup_fd(wake_w, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    tell(control, ready=True)
    while True:
        readable, _, _ = select.select([control.fileno(), wake_r], [], [])
        if wake_r in readable:
            os.read(wake_r, 4096)
            bury(control)
        if control.fileno() in readable:
            message, descriptors, _, _ = socket.recv_fds(control, 1, 2)
            if not message:
                return
            tell(control, born=bear(control, *descriptors))


def prepare(scenario: str, canary: str | None) -> None:
    """Import all that a worker needs; a canary is applied before anything of the engine is imported."""
    if canary is not None:
        from duress.scenarios.canaries import apply_canary

        apply_canary(canary)
    from duress.scenarios import registry
    from duress.scenarios.procs import worker

    registry.load(scenario)
    assert worker is not None  # imported for the children's sake


def bear(control: socket.socket, agent: int, output: int) -> int:
    """Fork a worker that leads its own process group, talks through `agent` and writes to `output`; returns its pid.

    It is told of only once it is sure to end with us: a fault could stop it before, and nobody would ever end it.
    """
    mother = os.getpid()
    bound_r, bound_w = os.pipe()
    pid = os.fork()
    if pid:
        os.close(bound_w)
        os.read(bound_r, 1)
        os.close(bound_r)
        os.setpgid(pid, pid)  # here too: who hears of the pid may signal the group at once
        os.close(agent)
        os.close(output)
        return pid
    code = 1
    try:
        os.setpgid(0, 0)
        die_with(mother)
        os.close(bound_r)
        os.write(bound_w, b".")
        os.close(bound_w)
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        control.close()
        os.dup2(output, 1)
        os.dup2(output, 2)
        os.close(output)
        from duress.scenarios.procs import worker

        worker.main(agent)
        code = 0
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else 1
    except BaseException:  # noqa: BLE001  # a worker's last words; nothing of it may go on as a second nursery
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def bury(control: socket.socket) -> None:
    """Reap all workers that have ended, and say how."""
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if pid == 0:
            return
        tell(control, died=pid, code=os.waitstatus_to_exitcode(status))


def tell(control: socket.socket, **message: Any) -> None:
    """One line to the harness."""
    control.sendall(json.dumps(message).encode() + b"\n")


if __name__ == "__main__":
    main(sys.argv[1:])
