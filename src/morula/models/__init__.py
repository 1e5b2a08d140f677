"""Trained models: load, predict, segment, save."""
