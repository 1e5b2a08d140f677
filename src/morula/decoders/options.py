"""The base of the options of all decoders; needs neither Numba nor torch."""

from morula.core.variants import VariantOptions


class DecoderOptions(VariantOptions):
    """Options of one decoder."""
