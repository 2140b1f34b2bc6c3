"""The vocabulary and the mathematics of contextual-bandit decisions: no I/O, no framework."""
