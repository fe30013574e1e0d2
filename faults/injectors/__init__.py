"""Injectors: what turns a planned fault into a real one, confirms that it happened, and undoes it."""
