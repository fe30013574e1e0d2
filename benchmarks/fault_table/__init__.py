"""Every fault of the catalogue in every world of its row: whether it struck, and what the client saw of it.

`python -m benchmarks.fault_table` prints the table; tests/acceptance/test_fault_table.py holds it.
"""
