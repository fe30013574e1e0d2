"""The world of real processes: workers that are killed for real, a real PostgreSQL, a receiver outside of both.

What a worker reports reaches the harness before the worker goes on, so what was reported before a SIGKILL is kept.
"""
