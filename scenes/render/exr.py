"""OpenEXR files, read and written with numpy: what Blender leaves, and what other tools take.

Single-part scanline files of half, float or unsigned channels; uncompressed, ZIPS or ZIP. After
the file layout of OpenEXR's documentation ("OpenEXR File Layout", openexr.com). Blender's own
reader would need bpy in the process that reads, and no other is in the environment.
"""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from common.errors import UserError

_MAGIC = b"v/1\x01"
_TYPES = (np.dtype("<u4"), np.dtype("<f2"), np.dtype("<f4"))
_LINES = {0: 1, 2: 1, 3: 16}
"""Scanlines a chunk by compression: none, ZIPS, ZIP."""


def read(path: Path) -> dict[str, NDArray[np.float32]]:
    """The channels of ``path`` by name, each (height, width), the first row at the top.

    Raises:
        UserError: no such file, not OpenEXR, cut short, or of a kind that is not read here.
    """
    try:
        data = path.read_bytes()
        return _parse(data)
    except (OSError, ValueError, KeyError, IndexError, struct.error, zlib.error) as error:
        raise UserError(
            f"cannot read {path} as OpenEXR: {error}", "remove it, so that it is made again"
        ) from error


def _parse(data: bytes) -> dict[str, NDArray[np.float32]]:
    if data[:4] != _MAGIC:
        raise ValueError("it does not begin as one")
    if data[5] & 0x1A:
        raise ValueError("tiles, deep pixels or several parts")
    at, header = 8, dict[str, bytes]()
    while data[at]:
        end = data.index(0, at)
        name, at = data[at:end].decode(), data.index(0, end + 1) + 1
        (length,) = struct.unpack_from("<i", data, at)
        header[name] = data[at + 4 : at + 4 + length]
        at += 4 + length
    at += 1
    left, top, right, bottom = struct.unpack("<4i", header["dataWindow"])
    width, height = right - left + 1, bottom - top + 1
    lines = _LINES[header["compression"][0]]
    channels: list[tuple[str, np.dtype[np.generic]]] = []
    raw, place = header["channels"], 0
    while raw[place]:
        end = raw.index(0, place)
        channels.append(
            (raw[place:end].decode(), _TYPES[struct.unpack_from("<i", raw, end + 1)[0]])
        )
        place = end + 17
    stride = width * sum(kind.itemsize for _, kind in channels)
    pixels = bytearray(stride * height)
    for offset in struct.unpack_from(f"<{-(-height // lines)}Q", data, at):
        row, size = struct.unpack_from("<2i", data, offset)
        chunk, start = data[offset + 8 : offset + 8 + size], (row - top) * stride
        wanted = min(lines, height - (row - top)) * stride
        block = chunk if size == wanted else _unzip(chunk)
        if len(block) != wanted:
            raise ValueError("it is cut short")
        pixels[start : start + wanted] = block
    rows = np.frombuffer(bytes(pixels), np.uint8).reshape(height, stride)
    found, begin = dict[str, NDArray[np.float32]](), 0
    for name, kind in channels:
        stop = begin + width * kind.itemsize
        found[name] = np.ascontiguousarray(rows[:, begin:stop]).view(kind).astype(np.float32)
        begin = stop
    return found


def write(
    path: Path, channels: Mapping[str, NDArray[np.floating[Any]]], half: bool = False
) -> None:
    """Channels, each (height, width), as a ZIPS file of floats, or of halves.

    The file appears whole or not at all. Raises OSError as writing does.
    """
    names = sorted(channels)
    kind = _TYPES[1] if half else _TYPES[2]
    planes = [np.ascontiguousarray(channels[name], dtype=kind) for name in names]
    height, width = planes[0].shape
    listed = b"".join(
        name.encode() + b"\0" + struct.pack("<iBxxxii", 1 if half else 2, 0, 1, 1) for name in names
    )
    window = struct.pack("<4i", 0, 0, width - 1, height - 1)
    header = b"".join(
        name.encode() + b"\0" + form.encode() + b"\0" + struct.pack("<i", len(value)) + value
        for name, form, value in (
            ("channels", "chlist", listed + b"\0"),
            ("compression", "compression", b"\2"),
            ("dataWindow", "box2i", window),
            ("displayWindow", "box2i", window),
            ("lineOrder", "lineOrder", b"\0"),
            ("pixelAspectRatio", "float", struct.pack("<f", 1)),
            ("screenWindowCenter", "v2f", struct.pack("<2f", 0, 0)),
            ("screenWindowWidth", "float", struct.pack("<f", 1)),
        )
    )
    start = _MAGIC + struct.pack("<i", 2) + header + b"\0"
    offset, offsets, chunks = len(start) + 8 * height, list[int](), list[bytes]()
    for row in range(height):
        line = b"".join(plane[row].tobytes() for plane in planes)
        packed = _zip(line)
        packed = packed if len(packed) < len(line) else line
        chunks.append(struct.pack("<2i", row, len(packed)) + packed)
        offsets.append(offset)
        offset += len(chunks[-1])
    part = path.with_name(path.name + ".part")
    part.write_bytes(start + struct.pack(f"<{height}Q", *offsets) + b"".join(chunks))
    os.replace(part, path)


def _zip(line: bytes) -> bytes:
    """Even bytes before odd ones, differences, deflate."""
    raw = np.frombuffer(line, np.uint8)
    mixed = np.concatenate([raw[0::2], raw[1::2]]).astype(np.int16)
    mixed[1:] = (mixed[1:] - mixed[:-1]) + 128
    return zlib.compress(mixed.astype(np.uint8).tobytes(), 4)


def _unzip(chunk: bytes) -> bytes:
    raw = np.frombuffer(zlib.decompress(chunk), np.uint8).astype(np.int64)
    raw[1:] -= 128
    mixed = np.cumsum(raw).astype(np.uint8)
    line = np.empty_like(mixed)
    middle = -(-len(mixed) // 2)
    line[0::2], line[1::2] = mixed[:middle], mixed[middle:]
    return line.tobytes()
