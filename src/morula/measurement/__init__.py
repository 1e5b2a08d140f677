"""Measurement: label images into tables with one row an object."""
