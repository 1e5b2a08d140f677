"""Terms of the report, explained where the pointer rests on them."""

from __future__ import annotations

import re

from markupsafe import Markup, escape

from morula.representations import REPRESENTATIONS

TERMS = {
    "F1": "Harmonic mean of precision and recall; 1 is best. An object is found if it overlaps a true one by at least the threshold.",
    "PQ": "Panoptic quality: F1 times the mean overlap (IoU) of the objects found; 1 is best.",
    "panoptic quality": "F1 times the mean overlap (IoU) of the objects found; 1 is best.",
    "IoU threshold": "Overlap with a true object from which an object counts as found.",
    "IoU": "Intersection over union: the voxels that two objects share, divided by the voxels that either has; 1 is a perfect match.",
    "Dice": "Twice the voxels shared, divided by the voxels of both together; 1 is best.",
    "precision": "Share of the predicted objects that are right.",
    "recall": "Share of the true objects that are found.",
    "accuracy": "Objects found, divided by found, false and missed ones together.",
    "average precision 0.5 to 0.95": "Mean accuracy over ten IoU thresholds from 0.5 to 0.95; 1 is best.",
    "adapted Rand error": "Share of voxel pairs that the result joins or separates wrongly; 0 is best.",
    "mean true score": "Sum of the overlaps of the objects found, divided by the number of true objects.",
    "mean matched IoU": "Mean overlap of the objects found.",
    "split (bits)": "Variation of information by objects that are cut into pieces; 0 is best.",
    "merged (bits)": "Variation of information by objects that are joined; 0 is best.",
}


def _pattern(terms: dict[str, str]) -> re.Pattern[str]:
    longest_first = sorted(terms, key=len, reverse=True)
    return re.compile("|".join(rf"(?<![\w]){re.escape(term)}(?![\w])" for term in longest_first))


_TERMS = _pattern(TERMS)


def explain(text: object) -> Markup:
    """A text as HTML, its terms with explanations.

    Examples:
        >>> str(explain("recall < 1"))
        '<abbr title="Share of the true objects that are found.">recall</abbr> &lt; 1'
    """
    parts, end = [], 0
    for match in _TERMS.finditer(str(text)):
        parts += [escape(str(text)[end : match.start()]), _abbr(match[0], TERMS[match[0]])]
        end = match.end()
    return Markup("").join([*parts, escape(str(text)[end:])])


def explain_channel(code: str) -> Markup:
    """A channel code as HTML, with what the channel is.

    Examples:
        >>> str(explain_channel("Db"))
        '<abbr title="Channel Db: distance to the boundary">Db</abbr>'
    """
    meanings = {name: member.summary for name, member in REPRESENTATIONS.members.items()}
    return _abbr(code, f"Channel {code}: {meanings[code]}") if code in meanings else escape(code)


def _abbr(term: str, meaning: str) -> Markup:
    return Markup('<abbr title="{}">{}</abbr>').format(meaning, term)
