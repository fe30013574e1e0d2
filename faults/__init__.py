"""What goes wrong: the vocabulary of faults and plans, the injectors of the real worlds, and the PostgreSQL that we break."""
