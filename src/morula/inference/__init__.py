"""Prediction of images of any size: plan the tiles, read, predict, blend and write.

Knows networks only as callables on tensors, and neither file formats nor segmentation.
"""
