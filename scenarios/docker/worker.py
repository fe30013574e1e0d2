"""A worker in its container: `python3 -m duress.scenarios.docker.worker SOCKET SCENARIO [CANARY]`.

It connects to the harness's socket, takes its orders from there, and is a worker as any process is.
"""

import socket
import sys


def main(arguments: list[str]) -> None:
    """Prepare what the scenario needs, then connect and work until stopped."""
    address, scenario, *canary = arguments
    connection = socket.socket(socket.AF_UNIX)
    connection.connect(address)
    from duress.scenarios.procs.nursery import prepare

    prepare(scenario, canary[0] if canary else None)
    from duress.scenarios.procs import worker

    worker.main(connection.detach())


if __name__ == "__main__":
    main(sys.argv[1:])
