#!/usr/bin/env python3
"""Ids of our tokenizer against Hugging Face's `tokenizers`, on random strings or on texts.

Needs `pip install tokenizers` and `ninja bench_tokenizer`:
  tokenizer_compare.py --program BUILD/tests/bench_tokenizer --tokenizer tokenizer.json \\
      [--count 200000] [--seed 1] [--texts FILE.jsonl[.zst] ...]

Prints the strings that differ, shortened to what still differs, and exits with 1 when there is one.
"""
import argparse
import json
import random
import subprocess
import sys

from tokenizers import Tokenizer

BLANKS = [" "] * 12 + list("\t\n\r\x0b\x0c\x85\xa0\u1680\u2000\u2003\u200a\u2028\u2029\u202f\u205f\u3000\u180e\u200b\ufeff")
WORDS = ("the of and to a in Hello world don't I'm we've they'll you're he'd it's 'S 'T 're 'll ' '' can't'"
         " 2024 3.14 1,000 x=1; return foo_bar naïve café straße Москва 東京 한국어 العربية हिन्दी ไทย ½ ² Ⅷ 一").split()
EMOJI = ["😀", "👩‍👩‍👧", "🏳️‍🌈", "👍🏽", "🇩🇪", "\u200d", "\ufe0f", "🧑‍💻"]
MARKS = [chr(c) for c in [*range(0x300, 0x370), 0x5b0, 0x64b, 0x93c, 0x9be, 0xbd7, 0x1161, 0x11a8, 0x3099, 0x1d165,
                          0x8d3, 0x1ac0, 0x1dfa, 0x345, 0x334, 0x10f46, 0x11930]]
BASES = list("aeoAEncszKÅﬁ≠<>=;ΩÅ가각") + ["\u1100", "\u0915", "\u09c7", "\u0f73", "\u0344", "\u2126", "\U0001d15e", "\u11935"]
RANGES = [(0, 0x80), (0x80, 0x250), (0x250, 0x600), (0x600, 0x1000), (0x1000, 0x3000), (0x3000, 0xd800),
          (0xe000, 0x10000), (0x10000, 0x20000), (0x20000, 0x110000), (0x2f800, 0x2fa20), (0xac00, 0xd7b0),
          (0x0, 0x20), (0x1100, 0x1200)]


def any_character(rng):
    low, high = rng.choice(RANGES)
    return chr(rng.randrange(low, high))


def part(rng, added):
    kind = rng.randrange(10)
    if kind == 0:
        return "".join(rng.choice(BLANKS) for _ in range(rng.randrange(1, rng.choice([3, 8, 60]))))
    if kind in (1, 2, 3):
        return rng.choice(["", " "]) + rng.choice(WORDS)
    if kind == 4:
        return rng.choice(EMOJI)
    if kind == 5:
        return rng.choice(BASES) + "".join(rng.choice(MARKS) for _ in range(rng.randrange(0, 5)))
    if kind == 6:
        return "".join(any_character(rng) for _ in range(rng.randrange(1, 6)))
    if kind == 7:
        return "".join(chr(rng.randrange(32, 127)) for _ in range(rng.randrange(1, 12)))
    if kind == 8:
        token = rng.choice(added) if added else "<|endoftext|>"
        cut = rng.randrange(len(token) + 1) if rng.randrange(5) == 0 else len(token)
        return rng.choice(["", "", " ", "  ", "a", "\u0338"]) + token[:cut] + rng.choice(["", "", " ", "   ", "\u0301"])
    letters = rng.choice(["a", "ab", "abcdefghij", "0123456789", "аб", "あい", "=-", " "])
    return "".join(rng.choice(letters) for _ in range(rng.choice([1, 5, 20, 60, 300])))


def random_strings(count, seed, added):
    rng = random.Random(seed)
    for _ in range(count):
        yield "".join(part(rng, added) for _ in range(rng.randrange(1, 9)))


def texts_of(path):
    text = subprocess.run(["zstd", "-dc", path], check=True, capture_output=True).stdout if path.endswith(".zst") \
        else open(path, "rb").read()
    return [json.loads(line)["text"] for line in text.split(b"\n") if line]


class Comparison:
    def __init__(self, program, tokenizer):
        self.command = [program, "ids", tokenizer]
        self.theirs = Tokenizer.from_file(tokenizer)

    def ours(self, strings):
        lines = "".join(json.dumps(string) + "\n" for string in strings)
        out = subprocess.run(self.command, input=lines.encode(), check=True, stdout=subprocess.PIPE).stdout
        return [json.loads(line)["ids"] for line in out.decode().split("\n") if line.startswith("{")]

    def different(self, strings):
        theirs = self.theirs.encode_batch(strings, add_special_tokens=False)
        found = self.ours(strings)
        assert len(found) == len(strings), "a line went missing"
        return [string for string, ours, encoding in zip(strings, found, theirs) if ours != encoding.ids]

    def shorten(self, string):
        step = max(1, len(string) // 2)
        while True:
            shorter = [string[:k] + string[k + step:] for k in range(0, len(string), step)]
            shorter = [text for text in shorter if text]
            still = self.different(shorter) if shorter else []
            if still:
                string = still[0]
            elif step == 1:
                return string
            else:
                step = max(1, step // 2)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--program", required=True, help="the built bench_tokenizer")
    parser.add_argument("--tokenizer", required=True, help="a tokenizer.json")
    parser.add_argument("--count", type=int, default=200_000, help="random strings")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--texts", nargs="*", default=[], help="JSON lines with \"text\", plain or .zst")
    options = parser.parse_args()

    comparison = Comparison(options.program, options.tokenizer)
    with open(options.tokenizer, encoding="utf-8") as file:
        added = [token["content"] for token in json.load(file)["added_tokens"]]
    strings = list(random_strings(options.count, options.seed, added))
    for path in options.texts:
        strings += texts_of(path)
    different = []
    for begin in range(0, len(strings), 20_000):
        different += comparison.different(strings[begin:begin + 20_000])
    print(f"{len(strings):,} strings, {sum(map(len, strings)):,} characters: {len(different):,} differ")
    for string in different[:10]:
        short = comparison.shorten(string)
        print(json.dumps(short), "ours", comparison.ours([short])[0], "theirs",
              comparison.theirs.encode(short, add_special_tokens=False).ids)
    return 1 if different else 0


sys.exit(main())
