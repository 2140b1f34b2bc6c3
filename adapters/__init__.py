"""Everything that touches the outside: stores, files, the network."""
