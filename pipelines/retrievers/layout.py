"""The joint space in a plane, and how far apart its two kinds lie. Plain numpy."""

from __future__ import annotations

import numpy as np


def plane(vectors: np.ndarray) -> tuple[np.ndarray, float]:
    """Principal components of rows [n, d]: positions [n, 2] and the share of the variance they show.

    By singular value decomposition of the centred rows; each axis is turned so that its longest arm is positive, for
    the same rows must always give the same picture.
    """
    centred = vectors.astype(np.float64) - vectors.mean(axis=0)
    left, lengths, _ = np.linalg.svd(centred, full_matrices=False)
    axes = min(2, len(lengths))
    places = np.zeros((len(vectors), 2))
    places[:, :axes] = left[:, :axes] * lengths[:axes]
    furthest = np.abs(places).argmax(axis=0)
    places *= np.where(places[furthest, [0, 1]] < 0, -1, 1)
    total = float((lengths**2).sum())
    return places, float((lengths[:2] ** 2).sum() / total) if total else 1.0


def gap(pictures: np.ndarray, captions: np.ndarray) -> float:
    """The modality gap: the distance of the two means (Liang et al. 2022, "Mind the Gap"); 0 where one is empty."""
    if not len(pictures) or not len(captions):
        return 0.0
    return float(np.linalg.norm(pictures.mean(axis=0) - captions.mean(axis=0)))
