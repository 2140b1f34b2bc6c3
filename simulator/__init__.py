"""Simulated and replayed customers that drive the service through its public API."""
