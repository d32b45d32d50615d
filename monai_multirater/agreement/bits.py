# SPDX-License-Identifier: Apache-2.0
"""Masks as bits: eight voxels a byte, counted with population counts of 64-bit words.

A pass reads the masks once, in blocks that stay in the cache. Beside the masks only such a block is held: an eighth of
its bytes as bits, and as much again for what two raters share.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

__all__ = ["bit_gram", "pack_masks", "popcount"]

Bytes = npt.NDArray[np.uint8]
Words = npt.NDArray[np.uint64]
Counts = npt.NDArray[np.int64]

_BLOCK = 1 << 21  # bytes of masks per block, which stay in the cache
_GRAINS = (1 << 12, 1 << 10, 1 << 8)  # voxels that are looked at as one in the search for what is marked
_LEAST = 1 << 15  # voxels per block of many raters: calls cost more than the cache saves


def table_popcount(words: Words, out: Bytes | None = None) -> Bytes:
    """Population count without ``numpy.bitwise_count``: four look-ups of 16 bits a word."""
    found = _HALF_WORDS[words.view(np.uint16)].reshape(*words.shape, 4).sum(-1, dtype=np.uint8)
    if out is None:
        return found
    out[...] = found
    return out


_HALF_WORDS = np.unpackbits(np.arange(1 << 16, dtype=">u2").view(np.uint8)).reshape(-1, 16).sum(1, dtype=np.uint8)
popcount = getattr(np, "bitwise_count", table_popcount)
"""Number of ones of each 64-bit word, uint8; ``numpy.bitwise_count`` where NumPy (2.0 and later) has it."""


def pack_masks(planes: Bytes) -> Words:
    """Pack masks ``[..., N]`` of zeros and ones into words ``[..., ceil(N / 64)]``, the last filled with zeros.

    Anything but 0 counts as 1.
    """
    packed = np.packbits(planes, axis=-1)
    rest = -packed.shape[-1] % 8
    if rest:
        packed = np.concatenate([packed, np.zeros((*packed.shape[:-1], rest), np.uint8)], axis=-1)
    return packed.view(np.uint64)


def bit_gram(planes: Bytes, raters: npt.NDArray[np.int64] | None = None) -> tuple[Counts, int]:
    """Count the voxels that two masks share, for all pairs of masks of each case.

    Args:
        planes: uint8 ``[B, R, N]`` zeros and ones.
        raters: indices ``[r]`` of the planes to read; by default all.

    Returns:
        int64 ``[B, r, r]``, ``G_ij = sum popcount(u_i & u_j)``, volumes on the diagonal; and the largest byte, for the
        caller to refuse what are no masks.
    """
    items, number, voxels = planes.shape
    number = number if raters is None else len(raters)
    gram = np.zeros((items, number, number), np.int64)
    largest = 0
    for cases, part in _blocks(items, number, voxels):
        block = planes[cases, :, part] if raters is None else planes[cases, raters, part]
        marked, most = _marked(block)
        largest = max(largest, most)
        if marked.shape[-1]:
            _add_shared(pack_masks(marked), gram[cases])
    rows, columns = np.triu_indices(number, 1)
    gram[:, columns, rows] = gram[:, rows, columns]
    return gram, largest


def _blocks(items: int, raters: int, voxels: int) -> Iterator[tuple[slice, slice]]:
    """Cases and voxels of each block: parts of a large case, or several small ones."""
    together = max(1, _BLOCK // (raters * voxels))
    size = voxels if together > 1 else max(_LEAST, _BLOCK // raters // 64 * 64)
    for first in range(0, items, together):
        for start in range(0, voxels, size):
            yield slice(first, first + together), slice(start, start + size)


def _marked(block: Bytes) -> tuple[Bytes, int]:
    """The stretch of ``block [b, R, n]`` outside of which all is 0, by and large, and the largest byte.

    Looking for the largest byte is as fast as memory is read; packing is not, and most of an image is background.
    """
    largest = int(block.max())
    if not largest:
        return block[..., :0], 0
    grain = next((grain for grain in _GRAINS if block.shape[-1] % grain == 0), block.shape[-1])
    used = np.flatnonzero(block.reshape(*block.shape[:-1], -1, grain).max(-1).any((0, 1)))
    return block[..., grain * used[0] : grain * (used[-1] + 1)], largest


def _add_shared(words: Words, gram: Counts) -> None:
    """Add the counts of ``words [b, R, W]`` to the upper triangle of ``gram [b, R, R]``."""
    shared = np.empty(words.shape, np.uint64)
    ones = np.empty(words.shape, np.uint8)
    for first in range(words.shape[1]):
        both = np.bitwise_and(words[:, first : first + 1], words[:, first:], out=shared[:, first:])
        gram[:, first, first:] += popcount(both, out=ones[:, first:]).sum(-1, dtype=np.uint32)
