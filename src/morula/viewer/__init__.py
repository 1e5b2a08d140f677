"""napari: a plugin to segment, train, correct and measure, and `show` to open a run. Only `widgets` and `show` import napari and Qt."""

from morula.viewer.layers import LayerData, labels_layer, layers, raw_layers, show

__all__ = ["LayerData", "labels_layer", "layers", "raw_layers", "show"]
