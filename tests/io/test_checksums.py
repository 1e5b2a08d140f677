"""Stored checksums are compared: a flipped bit is an error, never another value."""

import random
from functools import partial

import h5py
import numpy as np
import PIL.Image
import pytest
import zarr
from zarr.codecs import Crc32cCodec, GzipCodec

from morula.core.errors import MorulaError
from morula.io.metadata import collected
from morula.io.read import read
from morula.io.write import write
from morula.testing.mutations import flipped_bits

VALUES = np.random.default_rng(0).normal(100, 20, (4, 16, 24)).astype(np.uint16)


def fletcher32(path):
    with h5py.File(path, "w") as file:
        file.create_dataset("raw", data=VALUES, chunks=VALUES.shape, fletcher32=True)


def compressed(path, codec):
    array = zarr.create_array(str(path), shape=VALUES.shape, chunks=VALUES.shape, dtype=VALUES.dtype, compressors=[codec])
    array[:] = VALUES


WRITERS = {
    ".nii.gz": lambda path: write(path, VALUES, axes="ZYX"),
    ".png": lambda path: PIL.Image.fromarray(VALUES.reshape(64, 24)).save(path, dpi=(90000, 90000)),
    ".h5": fletcher32,
    ".crc32c.zarr": partial(compressed, codec=Crc32cCodec()),
    ".gzip.zarr": partial(compressed, codec=GzipCodec()),
    ".zarr": lambda path: write(path, VALUES, axes="ZYX"),
    ".ome.zarr": lambda path: write(path, VALUES, axes="ZYX"),
}


def pixels(path):
    """The values, `None` where reading is refused."""
    try:
        with collected():
            return np.asarray(read(path))
    except MorulaError:
        return None


@pytest.mark.parametrize("suffix", WRITERS)
def test_no_flipped_bit_reads_as_another_value(tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    WRITERS[suffix](path)
    expected = pixels(path)
    file = path if path.is_file() else max((file for file in path.rglob("*") if file.is_file()), key=lambda file: file.stat().st_size)
    content, choice = file.read_bytes(), random.Random(0)
    results = []
    for _ in range(60):
        file.write_bytes(flipped_bits(content, choice))
        results.append(pixels(path))
    assert sum(result is None for result in results) >= 25
    # a header may be read as another one; the values of the same image never
    assert all(np.array_equal(result, expected) for result in results if result is not None and result.shape == expected.shape)
