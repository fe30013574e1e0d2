"""A module that took its functions by value when it was imported, long before any run."""

import datetime as datetime_module
import os
from datetime import date, datetime
from os import urandom
from random import choice, randint
from random import random as any_number
from time import monotonic, sleep, time, time_ns
from uuid import uuid1, uuid4

__all__ = [
    "any_number",
    "choice",
    "date",
    "datetime",
    "datetime_module",
    "monotonic",
    "os",
    "randint",
    "sleep",
    "time",
    "time_ns",
    "urandom",
    "uuid1",
    "uuid4",
]


class Clock:
    """Classes, too, may hold the class itself."""

    moment = datetime
