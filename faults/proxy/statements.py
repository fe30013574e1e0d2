"""What a piece of SQL does to the transaction that it runs in, as far as its text says.

Not a parser: it splits at semicolons, knows strings, comments, dollar quotes and SQL function bodies, and looks at the
first words. A function may write without its name showing it, so `select f()` counts as no write.
"""

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, Literal

Deed = Literal["begin", "commit", "prepare", "commit-prepared", "rollback", "write", "other"]
ENDING: Final = frozenset({"commit", "prepare", "commit-prepared"})  # what makes work durable when it succeeds

_TOKEN: Final = re.compile(
    rb"""
      (?P<space>\s+|--[^\n]*)
    | (?P<comment>/\*)
    | (?P<quoted>[eE]'(?:[^'\\]|''|\\.)*' | '(?:[^']|'')*' | "(?:[^"]|"")*")
    | (?P<dollar>\$(?:[A-Za-z_\x80-\xff][\w\x80-\xff]*)?\$)
    | (?P<word>[A-Za-z_\x80-\xff][\w$\x80-\xff]*)
    | (?P<other>.)
    """,
    re.VERBOSE | re.DOTALL,
)
_PLAIN: Final = re.compile(rb"\s*[A-Za-z][^;'\"$/-]*;?\s*\Z")  # one statement without anything to mistake
_WORD: Final = re.compile(rb"[A-Za-z_]+")
_DEFINES: Final = ("create", "alter", "drop", "truncate", "comment", "grant", "revoke", "reindex", "cluster", "refresh")
_WRITES: Final = frozenset({"insert", "update", "delete", "merge", "call", "do", *_DEFINES})
_CHANGES: Final = frozenset({"insert", "update", "delete", "merge", "into"})


@dataclass(frozen=True, slots=True)
class Statement:
    """One statement. `chain`: it opens the next transaction at once; `savepoint`: a rollback that goes back to one."""

    deed: Deed
    chain: bool = False
    savepoint: bool = False


@lru_cache(maxsize=4096)
def statements(sql: bytes) -> tuple[Statement, ...]:
    """The statements of a query string, in order; empty ones are left out."""
    if _PLAIN.match(sql) is not None:
        return (_statement([word.decode().lower() for word in _WORD.findall(sql)]),)
    return tuple(_statement(words) for words in _split(sql))


def _split(sql: bytes) -> list[list[str]]:
    """The words outside of quotes and comments, by statement."""
    found: list[list[str]] = []
    words: list[str] = []
    parentheses = blocks = at = 0
    anything = False
    while (token := _TOKEN.match(sql, at)) is not None:
        at = token.end()
        kind, text = token.lastgroup, token.group()
        if kind == "space":
            continue
        if kind == "comment":
            at = _comment_end(sql, at)
            continue
        if kind == "dollar":
            end = sql.find(text, at)
            at = len(sql) if end < 0 else end + len(text)
        elif kind == "word":
            word = text.decode("utf-8", "replace").lower()
            words.append(word)
            if _in_routine(words):  # begin atomic … end; CASE ends with END too
                blocks += (word == "atomic" and words[-2:-1] == ["begin"]) or (blocks > 0 and word == "case")
                blocks -= blocks > 0 and word == "end"
        elif text == b"(":
            parentheses += 1
        elif text == b")":
            parentheses -= 1
        elif text == b";" and parentheses <= 0 and not blocks:
            if anything:
                found.append(words)
            words, anything = [], False
            continue
        anything = True
    if anything:
        found.append(words)
    return found


def _comment_end(sql: bytes, at: int) -> int:
    """Where the comment that began before `at` ends; comments nest."""
    depth = 1
    for mark in re.finditer(rb"/\*|\*/", sql[at:]):
        depth += 1 if mark.group() == b"/*" else -1
        if not depth:
            return at + mark.end()
    return len(sql)


def _in_routine(words: list[str]) -> bool:
    return words[0] == "create" and ("function" in words[1:4] or "procedure" in words[1:4])


def _statement(words: list[str]) -> Statement:
    first = words[0] if words else ""
    second = words[1] if len(words) > 1 else ""
    chain = words[-2:] == ["and", "chain"]
    match first:
        case "begin" | "start":
            return Statement("begin")
        case "commit" if second == "prepared":
            return Statement("commit-prepared")
        case "commit" | "end":
            return Statement("commit", chain)
        case "prepare" if second == "transaction":
            return Statement("prepare")
        case "rollback" | "abort" if second == "prepared":
            return Statement("other")
        case "rollback" | "abort":
            return Statement("rollback", chain, savepoint="to" in words[1:3])
        case "with" | "select" | "table" | "explain" | "values":
            changes = words if first == "with" else [word for word in words if word == "into"]
            return Statement("write" if _CHANGES.intersection(changes) else "other")
        case _:
            return Statement("write" if first in _WRITES else "other")
