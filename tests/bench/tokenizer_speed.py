#!/usr/bin/env python3
"""Our tokenizer against Hugging Face's `tokenizers`, on the same texts, machine and thread counts.

Needs `pip install tokenizers`, the zstd program for .zst files, and `ninja bench_tokenizer`:
  tokenizer_speed.py --program BUILD/tests/bench_tokenizer --tokenizer tokenizer.json FILE.jsonl[.zst]

Both sides get the texts in memory and leave token ids in memory; the best of --rounds counts, so
their word caches are warm. Theirs is the faster of encode_batch and encode_batch_fast (which leaves
offsets out). Exits with 1 when the token counts differ or the ratio is below --require.
"""
import argparse
import json
import os
import subprocess
import sys
import tempfile

THEIRS = """
import json, sys, time
from tokenizers import Tokenizer
tokenizer = Tokenizer.from_file(sys.argv[1])
texts = [json.loads(line)["text"] for line in open(sys.argv[2], encoding="utf-8")]
result = {"bytes": sum(len(text.encode()) for text in texts)}
for name in ("encode_batch", "encode_batch_fast"):
    encode = getattr(tokenizer, name, None)
    if encode is None:
        continue
    seconds = []
    for _ in range(int(sys.argv[3])):
        start = time.perf_counter()
        encodings = encode(texts, add_special_tokens=False)
        seconds.append(time.perf_counter() - start)
    result[name] = seconds
    result["tokens"] = sum(len(encoding) for encoding in encodings)
print(json.dumps(result))
"""


def run(command, **environment):
    done = subprocess.run(command, env={**os.environ, **environment}, check=True, capture_output=True)
    return json.loads(done.stdout)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("file", help="JSON lines with \"text\", plain or .zst")
    parser.add_argument("--program", required=True, help="the built bench_tokenizer")
    parser.add_argument("--tokenizer", required=True, help="a tokenizer.json")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--require", type=float, default=0, help="smallest ratio that passes")
    options = parser.parse_args()

    passed = True
    with tempfile.TemporaryDirectory() as folder:
        texts = options.file
        if texts.endswith(".zst"):
            texts = os.path.join(folder, "texts.jsonl")
            with open(texts, "wb") as out:
                subprocess.run(["zstd", "-dc", options.file], stdout=out, check=True)
        for threads in options.threads:
            ours = run([options.program, "speed", options.tokenizer, texts, str(threads), str(options.rounds)])
            theirs = run([sys.executable, "-c", THEIRS, options.tokenizer, texts, str(options.rounds)],
                         RAYON_NUM_THREADS=str(threads), TOKENIZERS_PARALLELISM="true" if threads > 1 else "false")
            our_rate = ours["bytes"] / min(ours["seconds"]) / 1e6
            rates = {name: theirs["bytes"] / min(theirs[name]) / 1e6
                     for name in ("encode_batch", "encode_batch_fast") if name in theirs}
            best = max(rates, key=rates.get)
            ratio = our_rate / rates[best]
            same = ours["tokens"] == theirs["tokens"]
            passed &= same and ratio >= options.require
            print(f"{threads} thread{'s' if threads > 1 else ''}: ours {our_rate:.1f} MB/s, "
                  + ", ".join(f"{name} {rate:.1f} MB/s" for name, rate in rates.items())
                  + f", ratio {ratio:.1f}; tokens {ours['tokens']:,}"
                  + ("" if same else f" against {theirs['tokens']:,}: DIFFERENT"))
    return 0 if passed else 1


sys.exit(main())
