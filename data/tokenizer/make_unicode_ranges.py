#!/usr/bin/env python3
"""Writes unicode_ranges.cpp: what Hugging Face's `tokenizers` does with every code point.

Token ids must not depend on which Unicode version a system's PCRE2 or utf8proc was built for, so
the classes are asked of the library itself, once, and kept.
Needs `pip install tokenizers`; run as: make_unicode_ranges.py > unicode_ranges.cpp
"""
import unicodedata

import tokenizers
from tokenizers import AddedToken, Tokenizer, models, normalizers, pre_tokenizers

LETTER, NUMBER, SPACE, WORD, NORMALIZE = 1, 2, 3, 4, 8


def code_points():
    return (point for point in range(0x110000) if not 0xD800 <= point < 0xE000)


def classes(flags):
    """Which of \\p{L}, \\p{N}, \\s or none: what it joins when the ByteLevel pattern splits."""
    split = pre_tokenizers.ByteLevel(add_prefix_space=False).pre_tokenize_str
    for point in code_points():
        if len(split("a" + chr(point))) == 1:
            flags[point] |= LETTER
        elif len(split("1" + chr(point))) == 1:
            flags[point] |= NUMBER
        elif len(split("!" + chr(point))) != 1:
            flags[point] |= SPACE


def words(flags):
    """Word characters, as the `single_word` flag of an added token sees them."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.add_tokens([AddedToken("\ue000", single_word=True, normalized=False)])
    for point in code_points():
        if not tokenizer.encode(chr(point) + "\ue000").ids:
            flags[point] |= WORD


def active(flags):
    """Code points that NFC may change, move or join to the one before."""
    nfc = normalizers.NFC().normalize_str
    changes = lambda text: nfc(text) != text
    seconds = {}
    for point in code_points():
        parts = unicodedata.normalize("NFD", chr(point))
        for first, second in ((parts[:k], parts[k]) for k in range(1, len(parts))):
            seconds.setdefault(second, set()).add(first)
    for point in code_points():
        char = chr(point)
        if (changes(char) or changes(char + "\u0334") or changes("\u0345" + char)
                or any(changes(first + char) for first in seconds.get(char, ()))):
            flags[point] |= NORMALIZE


def main():
    flags = [0] * 0x110000
    classes(flags)
    words(flags)
    active(flags)
    starts = [(point, value) for point, value in enumerate(flags)
              if point == 0 or value != flags[point - 1]]
    cells = [f"0x{point << 8 | value:x}," for point, value in starts]
    print(f"// Flags of all code points (unicode.h), as Hugging Face's tokenizers {tokenizers.__version__} has")
    print("// them. Written by make_unicode_ranges.py; do not edit.")
    print("// Each number is the first code point of a run << 8 | the flags of the run.")
    print('#include <iterator>\n\n#include "data/tokenizer/unicode.h"\n')
    print("namespace tessera::data {\n")
    print("// clang-format off")
    print(f"const std::uint32_t kUnicodeRuns[] = {{")
    line = ""
    for cell in cells:
        if len(line) + 1 + len(cell) > 99:
            print(line)
            line = ""
        line += (" " if line else "") + cell
    print(line)
    print("};")
    print("// clang-format on")
    print("const std::size_t kUnicodeRunCount = std::size(kUnicodeRuns);\n")
    print("}  // namespace tessera::data")


main()
