"""Images and label images in files: one module per format, chosen by suffix and content.

The functions: `morula.io.read.read` and `read_labels`, `morula.io.write.write`, `morula.io.output.open_output` (block-wise),
`morula.io.pairs.pair_images` and `list_images`, `morula.io.check.check_image`, `morula.core.atomic.atomic`, `morula.measurement.csv_table`.
"""

from __future__ import annotations

from morula.core.family import Family, Member

FORMATS = Family(
    "format",
    {
        "tiff": Member("morula.io.formats.tiff:Tiff", summary="TIFF, OME-TIFF and ImageJ TIFF; also tiled and above 4 GB"),
        "hdf5": Member("morula.io.formats.hdf5:Hdf5", summary="HDF5 with element_size_um, as ilastik and pytorch-3dunet use it"),
        "ome_zarr": Member("morula.io.formats.ome_zarr:OmeZarr", summary="OME-Zarr 0.4 and 0.5: pyramids with labels (written as 0.5)"),
        "zarr_store": Member(
            "morula.io.formats.zarr_store:ZarrStore", summary="zipped Zarr, and Zarr on servers (HTTP, S3), read only (extra: remote)"
        ),
        "zarr": Member("morula.io.formats.zarr:Zarr", summary="plain Zarr arrays, version 2 and 3 (written as 3)"),
        "raster": Member("morula.io.formats.raster:Raster", summary="PNG, BMP and JPEG"),
        "npy": Member("morula.io.formats.npy:Npy", summary="NumPy arrays"),
        "nifti": Member("morula.io.formats.nifti:Nifti", summary="NIfTI 1 and 2"),
        "czi": Member("morula.io.formats.czi:Czi", summary="CZI of Zeiss, read only (extra: formats)"),
        "nd2": Member("morula.io.formats.nd2:Nd2", summary="ND2 of Nikon, read only (extra: formats)"),
        "lif": Member("morula.io.formats.lif:Lif", summary="LIF of Leica, read only (extra: formats)"),
        "bioio": Member("morula.io.formats.bioio:Bioio", summary="files of further microscopes, read only (packages: bioio and a plugin)"),
        "rois": Member("morula.io.formats.rois:Rois", summary="ROIs of ImageJ, as labels"),
        "geojson": Member("morula.io.formats.geojson:GeoJson", summary="GeoJSON of QuPath, as labels"),
        "coco": Member("morula.io.formats.coco:Coco", summary="COCO JSON, as labels"),
        "masks": Member("morula.io.formats.mask_folder:MaskFolder", summary="a folder with one mask per object, as labels, read only"),
        "tensorstore": Member(
            "morula.io.formats.tensorstore:Tensorstore", summary="N5 and Neuroglancer precomputed, read only (extra: formats)"
        ),
    },
    group="morula.formats",
)
