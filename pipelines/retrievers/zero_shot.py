"""Zero-shot classification as in Radford et al. 2021 §3.1: each label in each template becomes a text, a label's
vector is the mean of its texts' unit vectors, made a unit vector again, and the probabilities are the softmax of the
cosines times the model's own logit scale. Plain numpy.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pipelines.core.errors import InvalidInput

SLOT = "{}"
MAX_LABELS = 200
MAX_TEMPLATES = 20
MAX_LENGTH = 200  # characters of a label or a template


def checked(labels: Sequence[str], templates: Sequence[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Distinct labels and templates without blanks; no template means the bare label. Raises InvalidInput."""
    labels, templates = _distinct(labels), _distinct(templates) or (SLOT,)
    if len(labels) < 2:
        raise InvalidInput("too_few_labels")
    for name, given, limit in (("labels", labels, MAX_LABELS), ("templates", templates, MAX_TEMPLATES)):
        if len(given) > limit:
            raise InvalidInput("too_many_lines", name=name, count=len(given), limit=limit)
        longest = max(map(len, given))
        if longest > MAX_LENGTH:
            raise InvalidInput("too_long", name=name, length=longest, limit=MAX_LENGTH)
    for template in templates:
        if SLOT not in template:
            raise InvalidInput("template_without_slot", template=template)
    return labels, templates


def prompts(labels: Sequence[str], templates: Sequence[str]) -> list[str]:
    """Every label in every template, template by template. A brace elsewhere in a template is left alone."""
    return [template.replace(SLOT, label) for template in templates for label in labels]


def probabilities(picture: np.ndarray, texts: np.ndarray, scale: float) -> tuple[np.ndarray, np.ndarray]:
    """Of the labels [L] over all templates, and with each template alone [T, L].

    `picture` [d] and `texts` [T, L, d] are unit vectors, `scale` is what the model multiplies a cosine by.
    """
    mean = texts.mean(axis=0)
    mean /= np.linalg.norm(mean, axis=-1, keepdims=True)
    return _softmax(scale * mean @ picture), _softmax(scale * texts @ picture)


def _softmax(logits: np.ndarray) -> np.ndarray:
    powers = np.exp(logits.astype(np.float64) - logits.max(axis=-1, keepdims=True))
    return powers / powers.sum(axis=-1, keepdims=True)


def _distinct(lines: Sequence[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(line.strip() for line in lines if line.strip()))
