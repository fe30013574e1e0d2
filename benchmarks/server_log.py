"""PostgreSQL's own account of a run (log_statement=all), without what the operating system decides: process ids and times.

A number in a statement about process ids is one of those, and so are the numbers in the details of a deadlock. Only what
sessions write is compared. When a server goes down all of them take leave at one moment, in no order: those messages come
last, sorted. Left out is what it says to those who knock before it is ready again: we do, in real time.
"""

import re

# As faults.postgres.log.LINE_PREFIX has it. The virtual transaction id begins with the number of the server's process.
_LINE = re.compile(
    r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3} \S+ pid=\d+ (?P<kind>type=.*?) vxid=\d*/?(?P<vxid>\d*) (?P<rest>xid=.*)",
    re.DOTALL,
)
_BEGINS = re.compile(r"^(?=\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3} )", re.MULTILINE)
_NUMBER = re.compile(r"\d+")
_OF_PROCESSES = re.compile(r"pid\b|_backend\b|\bProcess \d|PID \d|\.s\.PGSQL|startup process|logical decoding")
_SESSION = "type=client backend "
_FAREWELL = re.compile(r"\| FATAL:| state=(57P01|57P02) ")
_TOO_EARLY = " state=57P03 "
_DETAILS = re.compile(r"\| (DETAIL|CONTEXT|STATEMENT|HINT):")


def entries(log: str) -> list[str]:
    """Each message, over however many lines; details that follow one about process ids are about them too."""
    told: list[str] = []
    farewells: list[str] = []
    about_processes = False
    for message in _BEGINS.split(log):
        found = _LINE.fullmatch(message.rstrip("\n"))
        if found is None:
            if message.strip():
                told.append(message)
            continue
        text = f"{found['kind']} vxid={found['vxid']} {found['rest']}"
        if not text.startswith(_SESSION) or _TOO_EARLY in text:
            continue
        if not _DETAILS.search(text):
            about_processes = False
        about_processes = about_processes or bool(_OF_PROCESSES.search(text))
        text = _NUMBER.sub("n", text) if about_processes else text
        (farewells if _FAREWELL.search(text) else told).append(text)
    return told + sorted(farewells)


def first_difference(one: str, other: str) -> tuple[str, str] | None:
    """The first messages of two logs that are not the same; "nothing more" where one has ended."""
    first, second = entries(one), entries(other)
    for index in range(max(len(first), len(second))):
        a = first[index] if index < len(first) else "nothing more"
        b = second[index] if index < len(second) else "nothing more"
        if a != b:
            return a, b
    return None
