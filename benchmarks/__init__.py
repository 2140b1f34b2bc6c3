"""Speed of the service as ratios, each taken in one run against a bare reference."""
