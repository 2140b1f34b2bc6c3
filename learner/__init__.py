"""The stream processes: join, learn, keep profiles, run jobs."""
