"""The scenarios that come with duress."""
