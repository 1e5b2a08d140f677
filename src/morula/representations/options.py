"""The base of the options of all representations; needs neither Numba nor torch."""

from morula.core.variants import VariantOptions


class RepresentationOptions(VariantOptions):
    """Options of one representation."""

    @property
    def holds_classes(self) -> bool:
        """Whether the network predicts classes that exclude each other, of which the channel is the mean value."""
        return False
