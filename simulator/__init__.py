"""Virtual time for asyncio programs on a real PostgreSQL. Not there yet: the package holds its place in the layers."""
