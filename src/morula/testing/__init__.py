"""Simulated microscopy, random label images and contract tests: what Morula is tested with, shipped for those who extend it."""
