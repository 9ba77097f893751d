#!/usr/bin/env python3
"""Makes the folders that bench/backup.sh measures, the same bytes on every machine.

usage: make_data.py small  FOLDER FILES MEGABYTES   many small files of program-like text and some binary ones
       make_data.py large  FOLDER MEGABYTES         two files: one like a database, one that does not compress
       make_data.py image  FOLDER MEGABYTES         a disk image, half of it zeros that take room
       make_data.py change FOLDER                   changes 1 %: a line more in every 100th file, or, where there are
                                                    fewer files, other bytes in every 100th stretch of 256 KiB
"""

import os
import random
import sys

POOL_BYTES = 8 << 20
# Bytes written over at each place where a large file is changed.
CHANGED = 256 << 10


def pool(rng):
    """Text whose words are as unevenly frequent as in real text."""
    letters = "etaoinshrdlucmfwypvbgkqjxz"
    words = ["".join(rng.choices(letters, range(26, 0, -1), k=rng.randint(2, 11))) for _ in range(6000)]
    weights = [1 / (rank + 3) for rank in range(len(words))]
    ends = [" ", " ", " ", " ", ", ", "(", ") ", ";\n    ", " = ", ".", "\n"]
    out = []
    size = 0
    while size < POOL_BYTES:
        for word, end in zip(rng.choices(words, weights, k=10000), rng.choices(ends, k=10000)):
            out.append(word + end)
            size += len(word) + len(end)
    return "".join(out)[:POOL_BYTES].encode()


def text(rng, source, size):
    """Text that shares phrases with other files but no long stretch."""
    parts = []
    while size > 0:
        start = rng.randrange(POOL_BYTES - 400)
        part = source[start : start + min(size, rng.randint(20, 300))]
        parts.append(part)
        size -= len(part)
    return b"".join(parts)


def sizes(rng, files, total):
    """Log-normal, as in source trees: most files are small, most bytes are in the larger ones."""
    raw = [rng.lognormvariate(0, 1.6) for _ in range(files)]
    scale = total / sum(raw)
    return [min(int(r * scale), 4 << 20) for r in raw]


def small(folder, files, megabytes):
    rng = random.Random(20260101)
    source = pool(rng)
    for i, size in enumerate(sizes(rng, files, megabytes << 20)):
        path = f"{folder}/part{i // 2000:03}/dir{i // 20 % 100:03}"
        if i % 20 == 0:
            os.makedirs(path, exist_ok=True)
        content = rng.randbytes(size) if i % 10 == 9 else text(rng, source, size)
        with open(f"{path}/file{i:06}.{'bin' if i % 10 == 9 else 'txt'}", "wb") as out:
            out.write(content)


def large(folder, megabytes):
    rng = random.Random(20260102)
    source = pool(rng)
    os.makedirs(folder, exist_ok=True)
    with open(f"{folder}/database", "wb") as out:
        for _ in range(megabytes // 2):
            out.write(text(rng, source, 1 << 20))
    with open(f"{folder}/video", "wb") as out:
        for _ in range(megabytes - megabytes // 2):
            out.write(rng.randbytes(1 << 20))


def image(folder, megabytes):
    """Stretches of text, of content that does not compress and of zeros, as on a file system that was in use."""
    rng = random.Random(20260103)
    source = pool(rng)
    os.makedirs(folder, exist_ok=True)
    with open(f"{folder}/disk.img", "wb") as out:
        left = megabytes
        while left > 0:
            length = min(left, rng.randint(4, 32))
            for _ in range(length // 2):
                out.write(text(rng, source, 1 << 20) if rng.random() < 0.5 else rng.randbytes(1 << 20))
            out.write(bytes((length - length // 2) << 20))
            left -= length


def change(folder):
    paths = sorted(os.path.join(d, f) for d, _, files in os.walk(folder) for f in files)
    if len(paths) >= 100:
        for path in paths[::100]:
            with open(path, "ab") as out:
                out.write(b"one line more\n")
        return
    for path in paths:
        with open(path, "r+b") as out:
            for at in range(0, os.path.getsize(path), 100 * CHANGED):
                out.seek(at)
                out.write(os.urandom(CHANGED))


if __name__ == "__main__":
    kind, folder, *rest = sys.argv[1:]
    {"small": small, "large": large, "image": image, "change": change}[kind](folder, *map(int, rest))
