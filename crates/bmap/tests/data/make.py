#!/usr/bin/env python3
"""Makes the bmap fixtures of this folder, one per version of the format, each in the layout of its time.

The image they describe is not stored. It is 45057 bytes long (11 blocks of 4096 and one byte), and its byte number i is
(i * 7 + i // 251) % 256. Mapped are blocks 0-1, 3, and 8-11.
"""

import hashlib
import pathlib

HERE = pathlib.Path(__file__).parent
SIZE, BLOCK, RANGES = 45057, 4096, [(0, 1), (3, 3), (8, 11)]
IMAGE = bytes((i * 7 + i // 251) % 256 for i in range(SIZE))
MAPPED = sum(last - first + 1 for first, last in RANGES)


def ranges(attribute, algorithm):
    for first, last in RANGES:
        text = str(first) if first == last else f"{first}-{last}"
        digest = ""
        if attribute:
            data = IMAGE[first * BLOCK : min((last + 1) * BLOCK, SIZE)]
            digest = f' {attribute}="{hashlib.new(algorithm, data).hexdigest()}"'
        yield f"        <Range{digest}> {text} </Range>\n"


def file(version, attribute=None, algorithm="sha1", checksum_element=None, count_last=False):
    size = f"    <ImageSize> {SIZE} </ImageSize>\n    <BlockSize> {BLOCK} </BlockSize>\n"
    size += f"    <BlocksCount> {-(-SIZE // BLOCK)} </BlocksCount>\n"
    # Old writers reserved room for the count and left the blanks.
    count = f"    <MappedBlocksCount> {MAPPED}  </MappedBlocksCount>\n"
    zeros = "0" * len(hashlib.new(algorithm).hexdigest())
    check = f"    <{checksum_element}> {zeros} </{checksum_element}>\n" if checksum_element else ""
    if version in ("1.4", "2.0"):
        check = f"    <ChecksumType> {algorithm} </ChecksumType>\n" + check
    blocks = "    <BlockMap>\n" + "".join(ranges(attribute, algorithm)) + "    </BlockMap>\n"
    body = size + (check + blocks + count if count_last else count + check + blocks)
    text = f'<?xml version="1.0" ?>\n<!-- A map of version {version} -->\n\n<bmap version="{version}">\n{body}</bmap>\n'
    if checksum_element:
        digest = hashlib.new(algorithm, text.encode()).hexdigest()
        text = text.replace(zeros, digest, 1)
    return text


FILES = {
    "1.0.bmap": file("1.0"),
    "1.2.bmap": file("1.2", "sha1", count_last=True),
    "1.3.bmap": file("1.3", "sha1", checksum_element="BmapFileSHA1"),
    "1.4.bmap": file("1.4", "chksum", "sha256", "BmapFileChecksum"),
    "2.0.bmap": file("2.0", "chksum", "sha256", "BmapFileChecksum"),
    "2.0-no-digests.bmap": file("2.0", None, "sha256", "BmapFileChecksum"),
    "2.0-sha512.bmap": file("2.0", "chksum", "sha512", "BmapFileChecksum"),
}
for name, text in FILES.items():
    (HERE / name).write_text(text)
