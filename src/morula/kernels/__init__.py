"""Compiled (Numba) algorithms on plain arrays."""
