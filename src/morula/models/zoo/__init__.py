"""Packages of the BioImage Model Zoo (https://bioimage.io): written for Morula's models, read with weights that hold no code."""
