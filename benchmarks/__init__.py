"""Side-by-side figures: duress, its peers and PostgreSQL's own limit, on one server in one run.

Nothing here is a test and nothing fails because it is slow; `make bench` prints a table of ratios and saves it. This
package file imports nothing, because the peers' drivers run from here in an environment that has none of our
dependencies.
"""
