"""A real Toxiproxy server between workers and PostgreSQL (`--network toxiproxy`), driven through toxiproxy-python.

It can drop, refuse, slow down and withhold. It knows nothing of messages, so COMMITs and notifications pass.
"""

from duress.faults.toxiproxy.control import ToxiproxyError, ToxiproxyNetwork, open_toxiproxy
from duress.faults.toxiproxy.server import NoToxiproxy, find_toxiproxy

__all__ = ["NoToxiproxy", "ToxiproxyError", "ToxiproxyNetwork", "find_toxiproxy", "open_toxiproxy"]
