"""The base of the options of all decoders; needs neither Numba nor torch."""

from morula.core.variants import VariantOptions


# a file of its own: job files are read with the options alone, without the kernels that decoders import
class DecoderOptions(VariantOptions):
    """Options of one decoder."""
