"""A run folder as one HTML page that needs nothing else."""
