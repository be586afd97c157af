"""Optical flow after a similarity found from keypoints: the fast matcher, for edits that keep most of a picture."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from torch import Tensor

from lis.matching.gray import enlarged, gray_pair, untextured
from lis.matching.matches import Correspondence, Matches, pixel_grid

VERSION = 2
_SMALLEST = 16
"""Height and width in pixels that an enlarged picture must have for its flow."""
_LEAST_KEYPOINTS = 4
"""Matched keypoints that a similarity is sought from: two define it."""
_SURE = 12
"""Keypoints that agree below which they are sought once more in the enlarged pictures."""
_CONTRAST = 0.01
"""SIFT's threshold; lower than usual, since generated pictures are smooth."""
_BACK = 1.0
"""A pixel is matched when the flow back ends within so many pixels of where it began."""
_STRIDE = 2
"""Pixels between two places that are followed."""
_BLOCK = 5
"""Height and width of the window of a pixel's structure tensor."""
_CORNER = 0.01
"""Its smaller eigenvalue, as a share of the picture's largest, from which on both coordinates of a displacement can be
told."""
_STRONG = 0.1
"""The share from which on all corners count equally."""


@dataclass(frozen=True)
class Flow:
    """SIFT or ECC, then DIS flow (Kroeger et al. 2016) on what they leave.

    The similarity is kept only where the pictures agree better with it than without. The matches are corners of image 1
    that the flow brings there and back.

    Args:
        enlarge: factor by which pictures are enlarged for the flow; for SIFT, which enlarges them itself, only where
            too few keypoints agree.
        ratio: a keypoint is matched when the nearest descriptor is closer than this share of the second nearest.
        threshold: pixels that a similarity may leave of a keypoint that agrees.
    """

    enlarge: int = 2
    ratio: float = 0.8
    threshold: float = 1.0

    @property
    def fingerprint(self) -> str:
        """SHA-256 over settings and versions."""
        return hashlib.sha256(f"flow {VERSION} {self} {cv2.__version__}".encode()).hexdigest()

    def view(self, image: Tensor, maps: dict[str, Tensor] | None = None) -> Tensor:
        """The images themselves."""
        return image

    def __call__(self, view1: Tensor, view2: Tensor) -> list[Correspondence]:
        """Of n pairs `[n, 3, H, W]`, one by one."""
        return [self._match(*pair) for pair in zip(view1[:, :3], view2[:, :3], strict=True)]

    def _match(self, image1: Tensor, image2: Tensor) -> Correspondence:
        shape = (image1.shape[1], image1.shape[2])
        if not (image1.isfinite().all() and image2.isfinite().all()):
            return Correspondence.failed(shape, "an image is not finite")
        if min(shape) * self.enlarge < _SMALLEST:
            least = -(-_SMALLEST // self.enlarge)
            return Correspondence.failed(
                shape, f"images of {shape[0]} × {shape[1]} pixels: at least {least} are needed"
            )
        pair = gray_pair(image1, image2)
        for which, picture in enumerate(pair, 1):
            if untextured(picture):
                return Correspondence.failed(shape, f"image {which} has no texture")
        first, second = (enlarged(picture, self.enlarge) for picture in pair)
        similarity, agreeing = self._similarity(self._keypoints(*pair))
        if agreeing < _SURE and self.enlarge > 1:
            closer, more = self._similarity(self._reduced(self._keypoints(first, second)))
            similarity = closer if more > agreeing else similarity
        start, flow = self._flow(first, second, similarity)
        back = _residual_flow(second, first, cv2.invertAffineTransform(start))
        field = torch.from_numpy(cv2.resize(flow, shape[::-1], interpolation=cv2.INTER_AREA)) / self.enlarge
        return Correspondence(self._reduced(_followed(first, flow, back)), field)

    def _flow(
        self, first: np.ndarray, second: np.ndarray, similarity: np.ndarray | None
    ) -> tuple[np.ndarray, np.ndarray]:
        """The map `[2, 3]` to begin with and the flow `[h, w, 2]` from there that explain the pictures best."""
        starts = [np.eye(2, 3), similarity if similarity is not None else _by_intensity(first, second)]
        flows = [(start, _residual_flow(first, second, start)) for start in starts if start is not None]
        return min(flows, key=lambda found: _unexplained(first, second, found[1]))

    def _keypoints(self, first: np.ndarray, second: np.ndarray) -> Matches:
        """SIFT's matches that pass Lowe's ratio test."""
        sift = cv2.SIFT.create(contrastThreshold=_CONTRAST)
        (points1, text1), (points2, text2) = (sift.detectAndCompute(picture, None) for picture in (first, second))
        if len(points1) < 2 or len(points2) < 2:
            return Matches.none()
        nearest = cv2.BFMatcher().knnMatch(text1, text2, k=2)
        kept = [best for best, other in nearest if best.distance < self.ratio * other.distance]
        xy1 = torch.tensor([points1[match.queryIdx].pt for match in kept]).reshape(-1, 2)
        xy2 = torch.tensor([points2[match.trainIdx].pt for match in kept]).reshape(-1, 2)
        return Matches(xy1, xy2, torch.tensor([1 / (1 + match.distance) for match in kept]))

    def _similarity(self, keypoints: Matches) -> tuple[np.ndarray | None, int]:
        """The similarity `[2, 3]` that most keypoints agree on, in pixels of the enlarged pictures; and how many do."""
        if len(keypoints) < _LEAST_KEYPOINTS:
            return None, 0
        found, agree = cv2.estimateAffinePartial2D(
            *((xy.double().numpy() + 0.5) * self.enlarge - 0.5 for xy in (keypoints.xy1, keypoints.xy2)),
            method=cv2.RANSAC,
            ransacReprojThreshold=self.threshold * self.enlarge,
        )
        enough = found is not None and agree.sum() >= _LEAST_KEYPOINTS
        return (found, int(agree.sum())) if enough else (None, 0)

    def _reduced(self, matches: Matches) -> Matches:
        """In pixels of the pictures as they came."""
        xy1, xy2 = ((xy + 0.5) / self.enlarge - 0.5 for xy in (matches.xy1, matches.xy2))
        return Matches(xy1, xy2, matches.score)


def _by_intensity(first: np.ndarray, second: np.ndarray) -> np.ndarray | None:
    """The affine map under which the pictures correlate most (ECC), where it can be found."""
    try:
        return cv2.findTransformECC(first, second, np.eye(2, 3, dtype=np.float32), cv2.MOTION_AFFINE)[1]
    except cv2.error:  # its way of saying that it does not converge
        return None


def _residual_flow(first: np.ndarray, second: np.ndarray, start: np.ndarray) -> np.ndarray:
    """Displacement `[h, w, 2]`: a map, and DIS flow on the picture that it brings close."""
    size = (first.shape[1], first.shape[0])
    close = cv2.warpAffine(
        second, start, size, flags=cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP, borderMode=cv2.BORDER_REPLICATE
    )
    rest = _dis(first, close)
    grid = pixel_grid(*first.shape).numpy()
    return ((grid + rest) @ start[:, :2].T + start[:, 2] - grid).astype(np.float32)


def _dis(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    return cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_FAST).calc(
        first, second, np.zeros((*first.shape, 2), np.float32)
    )


def _unexplained(first: np.ndarray, second: np.ndarray, flow: np.ndarray) -> float:
    """Mean absolute difference in grey levels that a flow leaves where there are corners.

    Elsewhere it says little, and along the edges of a backdrop that does not move it speaks against any map.
    """
    corner = _corners(first)
    weight = np.minimum(corner, _STRONG * corner.max())
    left = np.abs(_sampled(second, flow).astype(np.float32) - first)
    return float((weight * left).sum() / weight.sum())


def _corners(picture: np.ndarray) -> np.ndarray:
    """Smaller eigenvalue of the structure tensor of every pixel (Shi and Tomasi 1994), `[h, w]`."""
    return cv2.cornerMinEigenVal(picture, _BLOCK)


def _sampled(picture: np.ndarray, flow: np.ndarray) -> np.ndarray:
    """A picture (or flow) where a flow leads."""
    x, y = np.moveaxis(pixel_grid(*flow.shape[:2]).numpy() + flow, -1, 0)
    return cv2.remap(picture, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)


def _followed(first: np.ndarray, flow: np.ndarray, back: np.ndarray) -> Matches:
    """Corners of the first picture, every `_STRIDE` pixels, from where the flow leads there and back."""
    error = flow + _sampled(back, flow)
    lattice = (slice(None, None, _STRIDE), slice(None, None, _STRIDE))
    corner = torch.from_numpy(_corners(first)[lattice])
    away = torch.from_numpy(error[lattice]).norm(dim=-1)
    kept = (away < _BACK) & (corner > _CORNER * corner.max())
    xy1 = pixel_grid(*first.shape)[lattice][kept]
    return Matches(xy1, xy1 + torch.from_numpy(flow[lattice])[kept], 1 / (1 + away[kept]))
