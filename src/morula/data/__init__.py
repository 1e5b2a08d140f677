"""Patches to train on: normalisation, split, sampling, augmentation, loading; and what the images look like."""
