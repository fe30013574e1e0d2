"""A failing simulated run made smaller, for as long as it breaks the same promise; and what happened in it, told briefly."""
