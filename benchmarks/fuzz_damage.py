"""Ways to damage a file: by its bytes, and by what its format says, so that damage lies deeper than the first check.

A stranger who makes a file can compute checksums and lengths, too: JSON, headers of tensors and of arrays, members of
archives and the blocks of HDF5 are changed and written so that they are whole again. All is decided by a generator that
the caller seeds.
"""

from __future__ import annotations

import contextlib
import gzip
import io
import json
import random
import struct
import zipfile
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

_VALUES: list[Any] = [
    None, True, False, 0, 1, -1, 2, 10**30, -(10**30), 2**63, 2**31, 0.5, 1e308, -1.0, "", "x", "\x1b[31m", "\0",
    "../../x", [], {}, [[]], [0], ["x"], {"x": 1}, [None], "9" * 400,
]  # fmt: skip
_TEXTS = [
    b"NaN",
    b"Infinity",
    b"1e999",
    b"9" * 5000,
    b"[" * 100_000,
    b'{"a":' * 50_000,
    b"",
    b"null",
    b"\xff\xfe",
    b"\0",
]
_NUMBERS = [0, 1, 2**31 - 1, 2**32 - 1, 2**63 - 1, 2**64 - 1, 2**40]
_WORDS = [b"-1", b"0", b"1", b"2", b"4294967295", b"9" * 20, b"1e308", b"1e-308", b"nan", b"inf", b"", b"x", b"\x1b[2J"]


def damaged(data: bytes, style: str, chance: random.Random) -> bytes:
    """Return a file's bytes, damaged.

    Parameters
    ----------
    data : bytes
    style : str
        What the file is, one of `STYLES`; most cases are damaged as such, the others as any file may be.
    chance : random.Random
        Decides.
    """
    if style in STYLES and chance.random() < 0.7:
        return STYLES[style](data, chance)
    return _bytes(data, chance)


def _bytes(data: bytes, chance: random.Random) -> bytes:
    kind = chance.randrange(6)
    if kind == 0:
        return data[: chance.randrange(len(data) + 1)]
    if kind == 1:
        place = chance.randrange(max(1, len(data) - 8))
        return data[:place] + chance.choice(_NUMBERS).to_bytes(8, "little") + data[place + 8 :]
    if kind == 2:
        start, end = sorted(chance.randrange(len(data) + 1) for _ in range(2))
        return data[:end] + data[start:]
    if kind == 3:
        start = chance.randrange(len(data) + 1)
        return data[:start] + data[start + chance.randrange(1, 64) :]
    changed = bytearray(data or b"\0")
    reach = min(len(changed), 4096) if kind == 4 else len(changed)  # heads are where it hurts
    for _ in range(chance.choice([1, 1, 1, 2, 8, 64])):
        changed[chance.randrange(reach)] = chance.choice([chance.randrange(256), *b"-09 \n=."])
    return bytes(changed)


# JSON


def _json(data: bytes, chance: random.Random) -> bytes:
    value = json.loads(data)
    places = list(_places(value))
    if chance.random() < 0.1 or not places:
        return chance.choice([*_TEXTS, json.dumps(chance.choice(_VALUES)).encode()])
    _change_some(places, chance)
    text = json.dumps(value, ensure_ascii=chance.random() < 0.5)
    if chance.random() < 0.1:  # what json cannot write
        text = text.replace(chance.choice(["0", "1", '"', "true"]), chance.choice(["NaN", "-Infinity", "1e999"]), 1)
    return text.encode("utf-8", "surrogatepass")


def _change_some(places: list[tuple[Any, Any]], chance: random.Random) -> None:
    for _ in range(chance.choice([1, 1, 1, 2, 4])):
        holder, key = chance.choice(places)
        with contextlib.suppress(LookupError):
            _change(holder, key, places, chance)


def _change(holder: Any, key: Any, places: list[tuple[Any, Any]], chance: random.Random) -> None:
    way = chance.randrange(5)
    if way == 0:
        del holder[key]
    elif way == 1:
        other, place = chance.choice(places)
        with contextlib.suppress(ValueError):
            holder[key] = json.loads(json.dumps(other[place]))
    elif way == 2 and isinstance(holder[key], (int, float)):
        holder[key] = holder[key] * chance.choice([-1, 10**6, 10**18]) + chance.choice([0, 1, -1])
    elif way == 3 and isinstance(holder, dict):
        holder["unknown"] = holder.pop(key)
    else:
        holder[key] = chance.choice(_VALUES)


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    pairs = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for number, (key, item) in enumerate(list(pairs)):
        if number < 200:
            yield value, key
            yield from _places(item)


# texts


def _text(data: bytes, chance: random.Random) -> bytes:
    """Change words and lines: a number becomes another, a line is lost, stands twice, or changes places."""
    lines = data.split(b"\n")
    for _ in range(chance.choice([1, 1, 2, 4])):
        number = chance.randrange(len(lines))
        way = chance.randrange(6)
        if way < 3:
            lines[number] = _other_word(lines[number], chance)
        elif way == 3:
            lines.insert(number, chance.choice(lines))
        elif way == 4 and len(lines) > 1:
            del lines[number]
        else:
            other = chance.randrange(len(lines))
            lines[number], lines[other] = lines[other], lines[number]
    return b"\n".join(lines)


def _other_word(line: bytes, chance: random.Random) -> bytes:
    sign = chance.choice([b" ", b"=", b"\t", b",", b"|", b":"])
    words = line.split(sign)
    words[chance.randrange(len(words))] = chance.choice([*_WORDS, *words])
    if chance.random() < 0.2:
        words.insert(chance.randrange(len(words) + 1), chance.choice(_WORDS))
    return sign.join(words)


def _packed(data: bytes, chance: random.Random) -> bytes:
    return gzip.compress(_text(gzip.decompress(data), chance), 1, mtime=0)


# arrays and tensors


def _safetensors(data: bytes, chance: random.Random) -> bytes:
    """Change the head, which is JSON behind its length; also texts in it that are JSON themselves."""
    length = int.from_bytes(data[:8], "little")
    head = json.loads(data[8 : 8 + length])
    places = list(_places(head))
    texts = [(holder, key) for holder, key in places if isinstance(holder[key], str) and holder[key][:1] in ("{", "[")]
    if texts and chance.random() < 0.5:
        holder, key = chance.choice(texts)
        holder[key] = _json(holder[key].encode(), chance).decode("utf-8", "replace")
    else:
        _change_some(places, chance)
    written = json.dumps(head).encode("utf-8", "surrogatepass")
    return len(written).to_bytes(8, "little") + written + _numbers(data[8 + length :], chance)


def _numbers(data: bytes, chance: random.Random) -> bytes:
    if not data or chance.random() < 0.7:
        return data
    changed = bytearray(data)
    for _ in range(chance.choice([1, 1, 4])):
        place = chance.randrange(len(changed)) // 4 * 4
        number = chance.choice([b"\0\0\xc0\x7f", b"\0\0\x80\x7f", b"\xff\xff\x7f\x7f", b"\0\0\0\x80", b"\xff" * 4])
        changed[place : place + 4] = number
    return bytes(changed[: len(data)])


def _archive(data: bytes, chance: random.Random) -> bytes:
    """Change a member of a ZIP file (.npz, .pt), with fitting checksums; or what the directory says of it."""
    with zipfile.ZipFile(io.BytesIO(data)) as file:
        members = [(info, file.read(info)) for info in file.infolist()]
    chosen = chance.randrange(len(members))
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as file:
        for number, (info, content) in enumerate(members):
            if number == chosen:
                content = (_npy if content.startswith(b"\x93NUMPY") else _bytes)(content, chance)
            file.writestr(zipfile.ZipInfo(info.filename), content, info.compress_type)
    written = bytearray(out.getvalue())
    if chance.random() < 0.2:
        entry = written.rfind(b"PK\1\2")
        written[entry + 24 : entry + 28] = chance.choice([0, 1, 2**31, 2**32 - 1]).to_bytes(4, "little")
    return bytes(written)


def _npy(data: bytes, chance: random.Random) -> bytes:
    """Change the head of an array, a literal of Python behind its length."""
    length = int.from_bytes(data[8:10], "little")
    head = data[10 : 10 + length].rstrip(b" \n")
    way = chance.randrange(3)
    if way == 0:
        shapes = [b"(1000000000000000,)", b"(-1,)", b"()", b"(0,)", b"(2, 2)", b"(99999999999, 99999999999)", b"None"]
        head = head[: head.rfind(b"(")] + chance.choice(shapes) + b", }"
    elif way == 1:
        kinds = [b"'|O'", b"'<U1'", b"'<f8'", b"'<f2'", b"'|V8'", b"'<c8'", b"'<U999999999'", b"'x'", b"[('a','<f4')]"]
        head = head.replace(b"'<f4'", chance.choice(kinds))
    else:
        head = _bytes(head, chance)
    return data[:8] + len(head).to_bytes(2, "little") + head + _numbers(data[10 + length :], chance)


# HDF5


def _hdf5(data: bytes, chance: random.Random) -> bytes:
    """Change some bytes of a block of metadata, and make its checksum fit."""
    spans = _blocks(data)
    if not spans:
        return _bytes(data, chance)
    changed = bytearray(data)
    start, length = chance.choice(spans)
    for _ in range(chance.choice([1, 1, 2, 4])):
        place = start + 4 + chance.randrange(length - 4)
        size = chance.choice([1, 1, 2, 4, 8])
        number = chance.choice([*_NUMBERS, chance.randrange(256), len(data)]) % (1 << 8 * size)
        changed[place : place + size] = number.to_bytes(size, "little")
    del changed[len(data) :]
    changed[start + length : start + length + 4] = _lookup3(bytes(changed[start : start + length])).to_bytes(
        4, "little"
    )
    return bytes(changed)


_MOST = 600
"""Bytes of a block of metadata that is looked for."""


@cache
def _blocks(data: bytes) -> tuple[tuple[int, int], ...]:
    """Return where blocks with a checksum behind them begin, and their lengths."""
    found = []
    for sign in (b"\x89HDF", b"OHDR", b"OCHK", b"FRHP", b"FHDB", b"FHIB", b"BTHD", b"BTLF", b"BTIN"):
        place = data.find(sign)
        while place >= 0:
            for length in range(8, min(_MOST, len(data) - place - 4)):
                if _lookup3(data[place : place + length]).to_bytes(4, "little") == data[place + length :][:4]:
                    found.append((place, length))
                    break
            place = data.find(sign, place + 1)
    return tuple(found)


def _lookup3(key: bytes) -> int:
    """Return Bob Jenkins's lookup3 of bytes, the checksum of HDF5's metadata (H5checksum.c)."""
    mask = 0xFFFFFFFF

    def rotated(value: int, count: int) -> int:
        return ((value << count) | (value >> (32 - count))) & mask

    a = b = c = (0xDEADBEEF + len(key)) & mask
    place = 0
    while len(key) - place > 12:
        x, y, z = struct.unpack_from("<III", key, place)
        a, b, c = (a + x) & mask, (b + y) & mask, (c + z) & mask
        for shift in (4, 6, 8, 16, 19, 4):
            a = ((a - c) & mask) ^ rotated(c, shift)
            c = (c + b) & mask
            a, b, c = b, c, a
        place += 12
    if place == len(key):
        return c
    x, y, z = struct.unpack("<III", key[place:].ljust(12, b"\0"))
    a, b, c = (a + x) & mask, (b + y) & mask, (c + z) & mask
    for shift in (14, 11, 25, 16, 4, 14, 24):
        c = ((c ^ b) - rotated(b, shift)) & mask
        a, b, c = b, c, a
    return b


STYLES: dict[str, Callable[[bytes, random.Random], bytes]] = {
    "json": _json,
    "text": _text,
    "packed": _packed,
    "safetensors": _safetensors,
    "archive": _archive,
    "hdf5": _hdf5,
}
"""What a file may be, by its name, and what damages it as such."""
