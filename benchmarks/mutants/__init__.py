"""How long it takes to find each mutant: `python -m benchmarks.mutants`; whether the engine's own tests do: `….suite`."""
