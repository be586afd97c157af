"""Optical flow after an affine map found from keypoints: the fast matcher, for edits that keep most of a picture."""

from __future__ import annotations

import hashlib
from collections.abc import Collection
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from torch import Tensor

from lis.config import FlowConfig
from lis.matching.gray import enlarged, gray_pair, reduced, texture, untextured
from lis.types import Correspondence, Matches, pixel_grid

VERSION = 3
_SMALLEST = 16
"""Height and width in pixels that an enlarged picture must have for its flow."""
_LEAST_KEYPOINTS = 4
"""Matched keypoints that a similarity is sought from: two define it."""
_SURE = 12
"""Keypoints that agree below which they are sought once more in the enlarged pictures."""
_CONTRAST = 0.01
"""SIFT's threshold; lower than usual, since generated pictures are smooth."""
_STEPS, _SETTLED = 40, 1e-7
"""Gauss-Newton steps that refine a map at most, and the change of its entries below which it stands."""
_OUTLIER = 0.25
"""Difference in levels, in standard deviations of the picture, beyond which a pixel speaks ever less for a map."""
_BETTER = 0.95
"""Not to move the picture at all is preferred only where it leaves at most this share of what the map leaves."""
_SIDE, _RATIO = 8, 0.7
"""Height and width in pixels of the smallest level of the pyramid at least, and the ratio of neighbouring levels."""
_WARPS, _SWEEPS = 8, 5
"""Linearisations per level, and sweeps of the solver for each."""
_SMOOTH, _BRIGHTNESS, _GRADIENT = 7.0, 5.0, 10.0
"""Weights of the flow's energy: smoothness, constant brightness, constant gradient."""
_LEVEL = 0.01
"""Grey levels are scaled by this for the energy: its penalties then bend at about a level, above rounding errors."""
_BACK = 1.0
"""A pixel is matched when the flow back ends within so many pixels of where it began; nearer ones count more."""
_STRIDE = 2
"""Pixels between two points that are followed."""
_CORNER = 0.1
"""Texture from which on both coordinates of a displacement can be told."""


@dataclass(frozen=True)
class Flow:
    """An affine map from SIFT or ECC, then variational flow (Brox et al. 2004) on what it leaves.

    Everything that decides a number is continuous in the pictures: keypoints, which are not, only tell where the
    affine map that fits the pictures best is sought. So rounding errors of the pictures stay rounding errors.

    The map is kept only where the pictures agree better with it than without. The matches are corners of image 1 that
    the flow brings there and back.

    Args:
        enlarge: factor by which pictures are enlarged for the flow; for SIFT, which enlarges them itself, only where
            too few keypoints agree.
        ratio: a keypoint is matched when the nearest descriptor is closer than this share of the second nearest.
        threshold: pixels that a similarity may leave of a keypoint that agrees.
    """

    enlarge: int = 2
    ratio: float = FlowConfig.ratio
    threshold: float = FlowConfig.threshold

    @property
    def fingerprint(self) -> str:
        """SHA-256 over settings and versions."""
        return hashlib.sha256(f"flow {VERSION} {self} {cv2.__version__}".encode()).hexdigest()

    @property
    def layers(self) -> Collection[str]:
        """None."""
        return ()

    def view(self, image: Tensor, maps: dict[str, Tensor] | None = None) -> Tensor:
        """The images themselves."""
        return image

    def __call__(self, view1: Tensor, view2: Tensor) -> list[Correspondence]:
        """Of n pairs `[n, 3, H, W]`, one by one, on the processor."""
        return [self._match(*pair) for pair in zip(view1[:, :3].cpu(), view2[:, :3].cpu(), strict=True)]

    def _match(self, image1: Tensor, image2: Tensor) -> Correspondence:
        shape = (image1.shape[1], image1.shape[2])
        if not (image1.isfinite().all() and image2.isfinite().all()):
            return Correspondence.failed(shape, "an image is not finite")
        if min(shape) * self.enlarge < _SMALLEST:
            least, size = -(-_SMALLEST // self.enlarge), f"{shape[0]} × {shape[1]}"
            return Correspondence.failed(shape, f"images of {size} pixels: at least {least} are needed")
        pair = gray_pair(image1, image2)
        for which, picture in enumerate(pair, 1):
            if untextured(picture):
                return Correspondence.failed(shape, f"image {which} has no texture")
        first, second = (enlarged(picture, self.enlarge) for picture in pair)
        start, flow = self._flow(first, second, self._start(pair, first, second))
        back = _residual_flow(second, first, cv2.invertAffineTransform(start))
        field = torch.from_numpy(cv2.resize(flow, shape[::-1], interpolation=cv2.INTER_AREA)) / self.enlarge
        return Correspondence(reduced(_followed(first, flow, back), self.enlarge), field)

    def _start(self, pair: tuple[np.ndarray, np.ndarray], first: np.ndarray, second: np.ndarray) -> np.ndarray | None:
        """The affine map `[2, 3]` between the enlarged pictures to begin with, where one is found."""
        similarity, agreeing = self._similarity(self._keypoints(*pair))
        if agreeing < _SURE and self.enlarge > 1:
            closer, more = self._similarity(reduced(self._keypoints(first, second), self.enlarge))
            similarity = closer if more > agreeing else similarity
        rough = similarity if similarity is not None else _by_intensity(*pair)
        return None if rough is None else _magnified(_settled(*pair, rough), self.enlarge)

    def _flow(self, first: np.ndarray, second: np.ndarray, start: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
        """The map `[2, 3]` to begin with and the flow `[h, w, 2]` from there that explain the pictures best."""
        still = np.eye(2, 3)
        without = _residual_flow(first, second, still)
        if start is None:
            return still, without
        moved = _residual_flow(first, second, start)
        left = [_unexplained(first, second, flow) for flow in (without, moved)]
        return (still, without) if left[0] < _BETTER * left[1] else (start, moved)

    def _keypoints(self, first: np.ndarray, second: np.ndarray) -> Matches:
        """SIFT's matches that pass Lowe's ratio test."""
        sift = cv2.SIFT.create(contrastThreshold=_CONTRAST)
        levels = [picture.clip(0, 255).round().astype(np.uint8) for picture in (first, second)]
        (points1, text1), (points2, text2) = (sift.detectAndCompute(picture, None) for picture in levels)
        if len(points1) < 2 or len(points2) < 2:
            return Matches.none()
        nearest = cv2.BFMatcher().knnMatch(text1, text2, k=2)
        retained = [best for best, other in nearest if best.distance < self.ratio * other.distance]
        xy1 = torch.tensor([points1[match.queryIdx].pt for match in retained]).reshape(-1, 2)
        xy2 = torch.tensor([points2[match.trainIdx].pt for match in retained]).reshape(-1, 2)
        return Matches(xy1, xy2, torch.tensor([1 / (1 + match.distance) for match in retained]))

    def _similarity(self, keypoints: Matches) -> tuple[np.ndarray | None, int]:
        """The similarity `[2, 3]` that most keypoints agree on, and how many do."""
        if len(keypoints) < _LEAST_KEYPOINTS:
            return None, 0
        result, agree = cv2.estimateAffinePartial2D(
            *(xy.double().numpy() for xy in (keypoints.xy1, keypoints.xy2)),
            method=cv2.RANSAC,
            ransacReprojThreshold=self.threshold,
        )
        enough = result is not None and agree.sum() >= _LEAST_KEYPOINTS
        return (result, int(agree.sum())) if enough else (None, 0)


def _by_intensity(first: np.ndarray, second: np.ndarray) -> np.ndarray | None:
    """The affine map under which the pictures correlate most (ECC), where it can be found."""
    try:
        return cv2.findTransformECC(first, second, np.eye(2, 3, dtype=np.float32), cv2.MOTION_AFFINE)[1].astype(float)
    except cv2.error:  # its way of saying that it does not converge
        return None


def _magnified(matrix: np.ndarray, factor: int) -> np.ndarray:
    """A map between pictures as one between the same pictures enlarged."""
    middle = (factor - 1) / 2  # of the pixels that one becomes
    shift = factor * matrix[:, 2] + middle - middle * matrix[:, :2].sum(1)
    return np.concatenate([matrix[:, :2], shift[:, None]], 1)


def _settled(first: np.ndarray, second: np.ndarray, start: np.ndarray) -> np.ndarray:
    """The affine map near `start` under which the pictures' corners differ least; `start` where there is none.

    Gauss-Newton on Σ w ρ(I₂(M p) − I₁(p)) with ρ' falling off beyond `_OUTLIER` (Geman and McClure 1987): what it ends
    at does not tell where it began.
    """
    grid = pixel_grid(*first.shape).numpy().astype(np.float64)
    slopes = [cv2.Scharr(second, cv2.CV_32F, *way, scale=1 / 32) for way in ((1, 0), (0, 1))]
    stack, weight = np.dstack([second, *slopes]), texture(first)
    scale = _OUTLIER * float(first.std())
    design = np.concatenate([grid, np.ones_like(grid[..., :1])], 2)
    matrix, before = start.copy(), _misfit(first, stack, weight, scale, grid, start)
    for _ in range(_STEPS):
        left, inside, slope = _left(first, stack, grid, matrix)
        weights = weight * inside / (1 + (left / scale) ** 2) ** 2
        rows = (slope[..., :, None] * design[..., None, :]).reshape(-1, 6)
        curvature, gradient = (weights.ravel()[:, None] * rows).T @ rows, rows.T @ (weights * left).ravel()
        step = np.linalg.lstsq(curvature, -gradient, rcond=1e-10)[0]
        matrix = matrix + step.reshape(2, 3)
        if np.abs(step).max() < _SETTLED:
            break
    good = np.isfinite(matrix).all() and np.linalg.det(matrix[:, :2]) > 0
    return matrix if good and _misfit(first, stack, weight, scale, grid, matrix) <= before else start


def _left(
    first: np.ndarray, stack: np.ndarray, grid: np.ndarray, matrix: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """What a map leaves of the levels, how far inside of the second picture a pixel ends (0 to 1), and its slopes.

    `stack [h, w, 3]` is the second picture with its slopes.
    """
    to = grid @ matrix[:, :2].T + matrix[:, 2]
    x, y = np.moveaxis(to.astype(np.float32), -1, 0)
    levels = cv2.remap(stack, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    last = np.array(first.shape[::-1]) - 1
    inside = (np.minimum(to, last - to) + 1).clip(0, 1).prod(2)
    return levels[..., 0].astype(np.float64) - first, inside, levels[..., 1:].astype(np.float64)


def _misfit(
    first: np.ndarray, stack: np.ndarray, weight: np.ndarray, scale: float, grid: np.ndarray, matrix: np.ndarray
) -> float:
    left, inside, _ = _left(first, stack, grid, matrix)
    lost = left**2 / (scale**2 + left**2)
    return float((weight * (inside * lost + 1 - inside)).sum())


def _residual_flow(first: np.ndarray, second: np.ndarray, start: np.ndarray) -> np.ndarray:
    """Displacement `[h, w, 2]`: a map, and flow on the picture that it brings close."""
    grid = pixel_grid(*first.shape).numpy()
    to = (grid @ start[:, :2].T + start[:, 2] - grid).astype(np.float32)
    rest = _variational(first, _sampled(second, to))
    return ((grid + rest) @ start[:, :2].T + start[:, 2] - grid).astype(np.float32)


def _variational(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Flow `[h, w, 2]` of least energy (Brox et al. 2004), from coarse to fine."""
    solver = cv2.VariationalRefinement.create()
    solver.setFixedPointIterations(_WARPS)
    solver.setSorIterations(_SWEEPS)
    solver.setAlpha(_SMOOTH)
    solver.setDelta(_BRIGHTNESS)
    solver.setGamma(_GRADIENT)
    flow = np.zeros((1, 1, 2), np.float32)
    for height, width in _pyramid(first.shape[0], first.shape[1]):
        one, other = (_LEVEL * cv2.resize(x, (width, height), interpolation=cv2.INTER_AREA) for x in (first, second))
        grown = cv2.resize(flow, (width, height), interpolation=cv2.INTER_LINEAR) * np.float32(width / flow.shape[1])
        flow = solver.calc(one, other, grown)
    return flow


def _pyramid(height: int, width: int) -> list[tuple[int, int]]:
    """Heights and widths of the levels, the smallest first."""
    sizes = [(height, width)]
    while min(sizes[-1]) * _RATIO >= _SIDE:
        share = _RATIO ** len(sizes)
        sizes.append((round(share * height), round(share * width)))
    return sizes[::-1]


def _unexplained(first: np.ndarray, second: np.ndarray, flow: np.ndarray) -> float:
    """Mean absolute difference in grey levels that a flow leaves where there are corners.

    Elsewhere it says little, and along the edges of a backdrop that does not move it speaks against any map.
    """
    weight = texture(first)
    return float((weight * np.abs(_sampled(second, flow) - first)).sum() / weight.sum())


def _sampled(picture: np.ndarray, flow: np.ndarray) -> np.ndarray:
    """A picture (or flow) where a flow leads."""
    x, y = np.moveaxis(pixel_grid(*flow.shape[:2]).numpy() + flow, -1, 0)
    return cv2.remap(picture, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)


def _followed(first: np.ndarray, flow: np.ndarray, back: np.ndarray) -> Matches:
    """Corners of the first picture, every `_STRIDE` pixels, from where the flow leads there and back.

    The score falls to 0 where a pixel is just no longer matched, so that one more or less changes nothing.
    """
    error = flow + _sampled(back, flow)
    lattice = (slice(None, None, _STRIDE), slice(None, None, _STRIDE))
    away = torch.from_numpy(error[lattice]).norm(dim=-1) / _BACK
    corner = torch.from_numpy(texture(first)[lattice]) - _CORNER
    retained = (away < 1) & (corner > 0)
    xy1 = pixel_grid(*first.shape)[lattice][retained]
    score = corner[retained] * (1 - away[retained] ** 2) ** 2
    return Matches(xy1, xy1 + torch.from_numpy(flow[lattice])[retained], score)
