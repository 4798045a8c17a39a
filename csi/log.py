"""Log lines: structlog, as JSON or for a terminal, with everything secret taken out.

A line names what happened and its objects (handles, paths, codes, durations), never the contents of a request. What
must not appear at all is dropped by key here, so that no caller can forget it.
"""

import functools
import logging
import sys
from collections.abc import MutableMapping
from typing import Any, Final, Literal, TextIO

import structlog

Format = Literal["json", "console"]
Level = Literal["debug", "info", "warning", "error"]

_SECRET: Final = ("secret", "token", "password", "passphrase", "credential")


def strip_secrets(_logger: object, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Replace the value of every key that names a secret, at any depth."""
    return _strip(event)


def _strip(event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    for key, value in event.items():
        if _is_secret(key):
            event[key] = "***stripped***"
        elif isinstance(value, dict):
            event[key] = _strip(dict(value))
    return event


@functools.lru_cache(maxsize=1024)
def _is_secret(key: str) -> bool:
    lower = key.lower()
    return any(word in lower for word in _SECRET)


def configure(form: Format = "console", level: Level = "info", stream: TextIO | None = None) -> None:
    """Set up logging for the process. ``stream`` is standard error unless given: standard output is for answers."""
    target = stream or sys.stderr
    renderer: structlog.typing.Processor
    if form == "json":
        renderer = structlog.processors.JSONRenderer()
    else:
        renderer = structlog.dev.ConsoleRenderer(colors=target.isatty())
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            strip_secrets,
            *([structlog.processors.format_exc_info] if form == "json" else []),
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level.upper()]),
        logger_factory=structlog.WriteLoggerFactory(target),
        cache_logger_on_first_use=True,
    )
