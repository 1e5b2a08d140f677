"""Measurement: label images to tables with one row per object."""
