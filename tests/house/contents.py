"""A clone stays small and stands alone: no big files, no paths of one machine; and no marks of an unfinished merge."""
import pathlib
import re

import tree

LIMIT = 7_500_000  # bytes; the bundled training text is the one large file
# Written in pieces, so that this file passes its own check.
FOREIGN = re.compile(r"(?<![\w.-])(\.\./" + r"shared(?=/(?:data|docs|golden|hooks|reference|tools)\b)"
                     r"|/wor" + r"k/|/roo" + r"t/|/home/\w)")
MERGE = re.compile("<" * 7 + " |" + ">" * 7 + " ")
BINARY_SUFFIXES = {".zst", ".gz", ".safetensors", ".h5", ".png", ".bin", ".pdf"}


def check(root):
    complaints = []
    for path in tree.files(root):
        size = (pathlib.Path(root) / path).stat().st_size
        if size > LIMIT:
            complaints.append(f"{path}:1: {size:,} bytes, at most {LIMIT:,} allowed")
        if path.suffix in BINARY_SUFFIXES or path.name == "tokenizer.json":
            continue
        for number, line in enumerate(tree.lines(root, path), 1):
            match = FOREIGN.search(line)
            if match:
                complaints.append(f"{path}:{number}: {match.group(1)} is a path of one machine")
            if MERGE.match(line):
                complaints.append(f"{path}:{number}: a mark of an unfinished merge")
    return complaints


if __name__ == "__main__":
    tree.run(check)
