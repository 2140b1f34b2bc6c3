"""Load on the public API by Locust users, and the objective that it must meet."""
