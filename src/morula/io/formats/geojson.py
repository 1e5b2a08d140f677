"""GeoJSON (RFC 7946) of QuPath: one feature per object and plane, coordinates (x, y) in pixels of the full resolution."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from morula.core.errors import FileReadError
from morula.core.file_errors import unreadable_file
from morula.io.formats.base import Request, Target, reject_selection
from morula.io.formats.outlines import Outline, OutlineFormat, Outlines, Piece, name_of
from morula.io.metadata import MetadataWarning, tell

MOST_BYTES = 2**29
"""Size up to which a JSON file is read as a whole."""
_SIZE = "morula"


class GeoJson(OutlineFormat):
    """Polygons and multipolygons are read; points and lines are left out with a warning. `name` is the id where all names are ids.

    The plane of an object in a volume is in ``geometry.plane.z``, from 0, as in QuPath. Morula adds the size of the image to the collection
    (``"morula": {"shape": [z, y, x]}``), which other programs ignore.
    """

    name: ClassVar[str] = "GeoJSON"
    suffixes: ClassVar[tuple[str, ...]] = (".geojson",)

    def outlines(self, path: Path, request: Request) -> Outlines:
        """The polygons of all features."""
        reject_selection(path, request, self.name)
        content = read_json(path)
        features = content.get("features", [content]) if isinstance(content, dict) else content
        if not isinstance(features, list) or not all(isinstance(feature, dict) for feature in features):
            raise unreadable_file(path, "it is neither a feature, nor a list or collection of features")
        items, others = [], 0
        for feature in features:
            geometry = feature.get("geometry", feature)
            rings = None if not isinstance(geometry, dict) else _rings(geometry)
            others += rings is None
            if rings is not None:
                items.append(Outline(rings, _name(feature), _plane(geometry)))
        if others:
            rule = f"{others} of its features are points or lines and are left out"
            tell(MetadataWarning(rule, code="geojson.no_area", field="features"))
        return Outlines(items, _stated_shape(content))

    def write_pieces(self, path: Path, shape: tuple[int, ...], pieces: Iterator[Piece], target: Target) -> None:
        """A collection of detections, one per line. The identifiers follow from the content, so that the same labels are the same file."""
        with path.open("w", encoding="utf-8") as file:
            file.write(json.dumps({_SIZE: {"shape": list(shape)}, "type": "FeatureCollection"})[:-1] + ', "features": [')
            for number, piece in enumerate(pieces):
                file.write(f"{',' if number else ''}\n{json.dumps(_feature(piece, shape, target.properties.get(piece.id, {})))}")
            file.write("\n]}\n")


def read_json(path: Path) -> Any:
    """The content of a JSON file.

    Raises:
        FileReadError: when it is too large, or not JSON.
    """
    if path.stat().st_size > MOST_BYTES:
        rule = f"has {path.stat().st_size >> 20} MiB; JSON files of up to {MOST_BYTES >> 20} MiB are read"
        raise FileReadError("json.too_large", rule, file=path, remedy="Give a label image instead.")
    try:
        return json.loads(path.read_text(encoding="utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise unreadable_file(path, f"it is not JSON ({error})") from error


def ring_of(numbers: Any) -> np.ndarray:
    """Corners (y, x) of a ring of positions (x, y), without the last one that repeats the first."""
    ring = np.array([position[:2] for position in numbers], np.float64).reshape(-1, 2)
    if len(ring) > 1 and (ring[0] == ring[-1]).all():
        ring = ring[:-1]
    return ring[:, ::-1]


def _rings(geometry: Mapping[str, Any]) -> list[np.ndarray] | None:
    kind, found = geometry.get("type"), geometry.get("coordinates")
    if kind == "Polygon":
        return [ring_of(ring) for ring in found or []]
    if kind == "MultiPolygon":
        return [ring_of(ring) for polygon in found or [] for ring in polygon]
    return None


def _name(feature: Mapping[str, Any]) -> str:
    properties = feature.get("properties")
    return str(properties.get("name") or "") if isinstance(properties, dict) else ""


def _plane(geometry: Mapping[str, Any]) -> int | None:
    plane = geometry.get("plane")
    return int(plane["z"]) if isinstance(plane, dict) and "z" in plane else None


def _stated_shape(content: Any) -> tuple[int, ...] | None:
    stated = content.get(_SIZE) if isinstance(content, dict) else None
    shape = stated.get("shape") if isinstance(stated, dict) else None
    if not isinstance(shape, list) or len(shape) not in (2, 3) or not all(isinstance(n, int) and n > 0 for n in shape):
        return None
    return tuple(shape)


def _feature(piece: Piece, shape: tuple[int, ...], measured: Mapping[str, object]) -> dict[str, object]:
    polygons = [[[*ring[:, ::-1].tolist(), ring[0, ::-1].tolist()] for ring in polygon] for polygon in piece.polygons]
    geometry: dict[str, object] = {"type": "Polygon", "coordinates": polygons[0]}
    if len(polygons) > 1:
        geometry = {"type": "MultiPolygon", "coordinates": polygons}
    if len(shape) == 3:
        geometry["plane"] = {"c": -1, "z": piece.z, "t": 0}
    properties: dict[str, object] = {"objectType": "detection", "name": name_of(piece, len(shape))}
    if "class_name" in measured:
        properties["classification"] = {"name": measured["class_name"]}
    numbers = {name: value for name, value in measured.items() if name != "class_name"}
    if numbers:
        properties["measurements"] = numbers
    identity = uuid.uuid5(uuid.NAMESPACE_OID, json.dumps([properties["name"], geometry]))
    return {"type": "Feature", "id": str(identity), "geometry": geometry, "properties": properties}
