"""Tools for tests: simulated images, hypothesis strategies, contract tests of the families, and the check of errors by code."""
