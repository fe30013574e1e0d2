"""Packets to and from some ports of this machine dropped by the kernel (nftables), where we may: TCP itself gets no answer.

A proxy that withholds goes on acknowledging, so that keepalives and tcp_user_timeout never notice it; these do notice this.
"""

import itertools
import os
import subprocess
from typing import Final

from duress.faults.needs import find_program, no_dropping
from duress.faults.proxy.orders import Sides
from duress.faults.undo import Run

BOUND: Final = 10.0  # seconds for one command
# Packets that arrive on the loopback interface at a port go to the server; those that come from it go to the worker.
MATCH: Final = {"to-server": ("dport",), "to-worker": ("sport",), "both": ("dport", "sport")}
_numbers = itertools.count(1)


class KernelRefused(Exception):
    """The kernel did not take the rules; the message has its words."""


class Drop:
    """Rules of one partition, in a table of their own."""

    def __init__(self, ports: frozenset[int], sides: Sides) -> None:
        self._table = f"duress_{os.getpid()}_{next(_numbers)}"
        self._ports = ", ".join(map(str, sorted(ports)))
        self._sides = sides

    @property
    def undo(self) -> Run:
        """What takes the rules back, from whichever process."""
        return Run(("nft", "delete", "table", "inet", self._table))

    def begin(self) -> None:
        """From now on the packets are lost. Raises KernelRefused."""
        rules = "\n".join(f'iifname "lo" tcp {port} {{ {self._ports} }} drop' for port in MATCH[self._sides])
        chain = f"chain input {{\ntype filter hook input priority -300; policy accept\n{rules}\n}}"
        _nft(f"table inet {self._table} {{\n{chain}\n}}\n")

    def end(self) -> None:
        """They pass again. Raises KernelRefused."""
        _nft(f"delete table inet {self._table}\n")


def _nft(script: str) -> None:
    program = find_program("nft")
    if program is None:
        raise KernelRefused(no_dropping())
    done = subprocess.run(
        [program, "-f", "-"], input=script, capture_output=True, text=True, timeout=BOUND, check=False
    )
    if done.returncode != 0:
        raise KernelRefused(f"nft refuses {script!r}: {done.stderr.strip()}")
