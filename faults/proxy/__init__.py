"""A proxy between workers and PostgreSQL that understands the protocol, and breaks it where it is told to.

`Proxy` (control.py) starts it as a process of its own; `orders.py` is all that it can be told. It knows a worker by the
port that the worker connects to. Told nothing, nobody notices it.
"""

from duress.faults.proxy.control import Proxy, ProxyLost, UnsuitableServer, open_proxy
from duress.faults.proxy.orders import COMMIT_POINTS, CutCommit, Interject, Pattern, Rule, Strike

__all__ = [
    "COMMIT_POINTS",
    "CutCommit",
    "Interject",
    "Pattern",
    "Proxy",
    "ProxyLost",
    "Rule",
    "Strike",
    "UnsuitableServer",
    "open_proxy",
]
