"""Off-policy evaluation: what a policy would have earned, from the log of another, and whether the log can tell."""
