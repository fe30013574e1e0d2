"""Views of a campaign: JSON, HTML, plots, JUnit XML, and a short text for the terminal.

The campaign (`duress.scenarios.result.Campaign`) is the only source, and the same campaign gives the same bytes. What
is costly to import (matplotlib, scipy) is imported when a report is written, not before.
"""

from duress.reports.gate.outcome import save_gate
from duress.reports.store import RESULT_FILE, UnreadableResult, load, schema
from duress.reports.writer import HTML_FILE, write

__all__ = ["HTML_FILE", "RESULT_FILE", "UnreadableResult", "load", "save_gate", "schema", "write"]
