#!/usr/bin/env python3
"""Makes the bundled text: data/sample/{train,valid}.jsonl.zst and SOURCES.tsv.

    data/sample/make_sample.py CORPUS_FOLDER [OUTPUT_FOLDER]

CORPUS_FOLDER holds train_books.jsonl.zst, train_textbooks.jsonl.zst, valid_mixed.jsonl.zst and
SOURCES.tsv: one chapter or section a line, {"text", "meta": {"source", "work", "part", ...}}. The
validation text is copied as it is. The training text is a subset of the rest: documents in the order
of a digest of their names, so that neither the order of the input nor a random generator decides,
until each kind has its share of TEXT_BYTES; the shares are those of the validation text. Lines are
then ordered by the same digest, so the kinds are mixed. Needs the `zstd` program.
"""
import collections
import csv
import hashlib
import json
import pathlib
import subprocess
import sys

TEXT_BYTES = 24_000_000
LEVEL = "-19"
KEPT_META = ("source", "work", "part")


def unpack(path):
    done = subprocess.run(["zstd", "-dcq", str(path)], stdout=subprocess.PIPE, check=True)
    return [json.loads(line) for line in done.stdout.decode().split("\n") if line]


def text_bytes(document):
    return len(document["text"].encode())


def order_key(document):
    """A digest of what the document is: the same on every machine, unrelated to its subject."""
    name = "\0".join(str(document["meta"].get(key, "")) for key in (*KEPT_META, "id"))
    return hashlib.sha256((name + "\0" + document["text"]).encode()).digest()


def shares(documents):
    """The part of the text's bytes that each source has."""
    total = collections.Counter()
    for document in documents:
        total[document["meta"]["source"]] += text_bytes(document)
    return {source: count / sum(total.values()) for source, count in total.items()}


def choose(documents, share):
    """Documents in digest order until every source has reached its share of TEXT_BYTES."""
    left = {source: part * TEXT_BYTES for source, part in share.items()}
    chosen = []
    for document in sorted(documents, key=order_key):
        source = document["meta"]["source"]
        if left.get(source, 0) > 0:
            left[source] -= text_bytes(document)
            chosen.append(document)
    return chosen


def write_documents(path, documents):
    lines = []
    for document in documents:
        meta = {key: document["meta"][key] for key in KEPT_META}
        lines.append(json.dumps({"text": document["text"], "meta": meta}, ensure_ascii=False))
    packed = subprocess.run(["zstd", LEVEL, "-cq"], input=("\n".join(lines) + "\n").encode(),
                            stdout=subprocess.PIPE, check=True).stdout
    path.write_bytes(packed)


def write_sources(path, corpus, documents):
    """The rows of the works in use, with the documents and text bytes that were taken of each."""
    count, size = collections.Counter(), collections.Counter()
    for document in documents:
        key = (document["meta"]["source"], document["meta"]["work"])
        count[key] += 1
        size[key] += text_bytes(document)
    with open(corpus / "SOURCES.tsv", encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream, delimiter="\t", quoting=csv.QUOTE_NONE))
    fields = list(rows[0])
    lines = ["\t".join(fields)]
    for row in rows:
        key = (row["source"], row["work"])
        if count[key]:
            row["documents"], row["text_bytes"] = str(count.pop(key)), str(size[key])
            lines.append("\t".join(row[field] for field in fields))
    if any(count.values()):
        sys.exit(f"make_sample: works without a row in SOURCES.tsv: {sorted(count)}")
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def report(name, path, documents):
    size = sum(text_bytes(document) for document in documents)
    kinds = ", ".join(f"{part:.1%} {source}" for source, part in sorted(shares(documents).items()))
    text = "".join(document["text"] for document in documents).encode()
    print(f"{name}: {len(documents)} documents, {size:,} bytes of text ({kinds}), "
          f"{path.stat().st_size:,} bytes packed, sha256 of the texts {hashlib.sha256(text).hexdigest()}")


def main():
    if len(sys.argv) not in (2, 3):
        sys.exit("usage: make_sample.py CORPUS_FOLDER [OUTPUT_FOLDER]")
    corpus = pathlib.Path(sys.argv[1])
    output = pathlib.Path(sys.argv[2]) if len(sys.argv) == 3 else pathlib.Path(__file__).parent
    valid = unpack(corpus / "valid_mixed.jsonl.zst")
    train = choose(unpack(corpus / "train_books.jsonl.zst")
                   + unpack(corpus / "train_textbooks.jsonl.zst"), shares(valid))
    (output / "valid.jsonl.zst").write_bytes((corpus / "valid_mixed.jsonl.zst").read_bytes())
    write_documents(output / "train.jsonl.zst", train)
    write_sources(output / "SOURCES.tsv", corpus, train + valid)
    report("train", output / "train.jsonl.zst", train)
    report("valid", output / "valid.jsonl.zst", valid)


if __name__ == "__main__":
    main()
