"""Logs that say for which workflow, under which epoch and in which step a line was written: the engine's and the user's own.

logging.getLogger().addHandler(structured(sys.stderr))      # one JSON object a line
handler.addFilter(About())                                  # or: fields for a format of one's own
"""

import json
import logging
from datetime import UTC, datetime
from typing import Any, Final, TextIO

from .scope import current_body, current_scope

FIELDS: Final = ("worker", "workflow", "epoch", "step", "name_of_step", "attempt")


class About(logging.Filter):
    """Gives every record the FIELDS; those that do not apply where it was written are None."""

    def filter(self, record: logging.LogRecord) -> bool:
        known = _about()
        for field in FIELDS:
            if not hasattr(record, field):  # the engine's own records may have them already
                setattr(record, field, known.get(field))
        return True


def _about() -> dict[str, Any]:
    if (body := current_body()) is not None:
        return {
            "worker": body.worker,
            "workflow": body.workflow_id,
            "epoch": body.epoch,
            "step": body.step_id,
            "name_of_step": body.name,
            "attempt": body.attempt,
        }
    if (scope := current_scope()) is not None:
        return scope.execution.about
    return {}


class JsonLines(logging.Formatter):
    """One JSON object a line: time (UTC), level, logger, message, those of FIELDS that apply, and an exception's text."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="microseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        line |= {field: value for field in FIELDS if (value := getattr(record, field, None)) is not None}
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False, default=str)


def structured(stream: TextIO) -> logging.Handler:
    """A handler that writes JSON lines to a stream."""
    handler = logging.StreamHandler(stream)
    handler.addFilter(About())
    handler.setFormatter(JsonLines())
    return handler
