"""What can be measured in a picture without a model: its ground, its colours, its pieces, its shading.

Plain numpy and scipy over CIE Lab, in which equal distances look about equally different. Made for drawings on a plain
ground; where there is no such ground, the whole picture counts as the thing and its pieces cannot be counted.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np
from PIL import Image
from scipy import ndimage

SIDE = 128  # pixels of the longer side, at which everything is measured
SAME = 12.0  # Lab distance up to which a pixel may be ground
PLAIN = 0.6  # share of the border that must have one colour to be called ground

_XYZ = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
_WHITE = np.array([0.9505, 1.0, 1.089])  # D65


@dataclass(frozen=True, slots=True)
class View:
    """A small copy in Lab [h, w, 3]; `thing` [h, w] is what is not ground; `plain`: a ground was found."""

    lab: np.ndarray
    thing: np.ndarray
    plain: bool


def lab(rgb: np.ndarray) -> np.ndarray:
    """sRGB in [0, 255], [..., 3] -> CIE 1976 L*a*b* for D65 (IEC 61966-2-1, CIE 15)."""
    share = np.asarray(rgb, dtype=np.float64) / 255
    linear = np.where(share <= 0.04045, share / 12.92, ((share + 0.055) / 1.055) ** 2.4)
    xyz = linear @ _XYZ.T / _WHITE
    root = np.where(xyz > (6 / 29) ** 3, np.cbrt(xyz), xyz / (3 * (6 / 29) ** 2) + 4 / 29)
    x, y, z = np.moveaxis(root, -1, 0)
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], axis=-1)


def view(image: Image.Image, same: float = SAME) -> View:
    """The ground is what has the border's commonest colour and hangs together with the border."""
    small = image.convert("RGB")
    small.thumbnail((SIDE, SIDE))
    seen = lab(np.asarray(small))
    border = np.concatenate([seen[0], seen[-1], seen[:, 0], seen[:, -1]])
    ground = np.median(border, axis=0)
    if (np.linalg.norm(border - ground, axis=-1) < SAME).mean() < PLAIN:
        return View(seen, np.ones(seen.shape[:2], bool), plain=False)
    like = np.pad(np.linalg.norm(seen - ground, axis=-1) < same, 1, constant_values=True)
    regions, _ = ndimage.label(like)
    thing = regions[1:-1, 1:-1] != regions[0, 0]
    return View(seen, thing, plain=True) if thing.any() else View(seen, ~thing, plain=False)


def colours(seen: View, prototypes: np.ndarray) -> np.ndarray:
    """Share of the thing's pixels nearest to each prototype [n, 3] in Lab: [n], sum 1."""
    far = np.linalg.norm(seen.lab[seen.thing][:, None] - prototypes, axis=-1)
    return np.bincount(far.argmin(axis=1), minlength=len(prototypes)) / len(far)


def pieces(image: Image.Image) -> Counter[int]:
    """How many separate pieces there are, by how many of nine ways to look (three strictnesses about what is ground,
    three smallest sizes of a piece as share of the thing) find so many; empty where there is no plain ground.
    """
    found: Counter[int] = Counter()
    for same in (6.0, 12.0, 24.0):
        seen = view(image, same)
        if seen.plain:
            regions, _ = ndimage.label(seen.thing, np.ones((3, 3)))
            sizes = np.bincount(regions.ravel())[1:] / seen.thing.sum()
            found.update(int((sizes >= least).sum()) for least in (0.01, 0.03, 0.09))
    return Counter({number: votes for number, votes in found.items() if number})


def shading(seen: View) -> np.ndarray:
    """Of neighbouring pixels within the thing the share that differs slightly (from 1.5 in Lab) and clearly (from 8),
    and the share of the thing without colour: [3]. Flat drawings have few slight differences, photographs many.
    """
    smooth = np.stack([ndimage.median_filter(seen.lab[..., c], 3) for c in range(3)], axis=-1)
    steps = []
    for axis in (0, 1):
        both = np.logical_and(*_neighbours(seen.thing, axis))
        steps.append(np.linalg.norm(np.subtract(*_neighbours(smooth, axis)), axis=-1)[both])
    step = np.concatenate(steps)
    grey = (np.hypot(*np.moveaxis(seen.lab[seen.thing][:, 1:], -1, 0)) < 8).mean()
    if not len(step):
        return np.array([0.0, 0.0, grey])
    return np.array([((step >= 1.5) & (step < 8)).mean(), (step >= 8).mean(), grey])


def _neighbours(values: np.ndarray, axis: int) -> tuple[np.ndarray, np.ndarray]:
    return (values[1:], values[:-1]) if axis == 0 else (values[:, 1:], values[:, :-1])
