"""The simulated world: the same workers and workload in one process, on a virtual clock and a scheduler that we control.

PostgreSQL is real; its clock, its waits and its points are the simulator's. A seed is a run, to the byte.
"""
