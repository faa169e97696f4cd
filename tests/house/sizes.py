"""Files stay small enough to read: a report of lines by folder, and a limit for each file."""
import collections

import tree

LIMIT = 400  # lines of a source file
MAIN_LIMIT = 80  # lines of src/main.cpp
SUFFIXES = tree.CODE_SUFFIXES | {".py", ".sh", ".cmake"}
LONGEST_SHOWN = 12


def sizes(root):
    """Lines of every source file."""
    return {path: len(tree.lines(root, path)) for path in tree.files(root)
            if path.suffix in SUFFIXES or path.name == "CMakeLists.txt"}


def check(root):
    complaints = []
    for path, count in sorted(sizes(root).items()):
        limit = MAIN_LIMIT if str(path) == "src/main.cpp" else LIMIT
        if count > limit:
            complaints.append(f"{path}:{limit + 1}: {count} lines, at most {limit} allowed; split it")
    return complaints


def report(root):
    by_folder = collections.defaultdict(list)
    counted = sizes(root)
    for path, count in counted.items():
        depth = 2 if path.parts[0] in ("src", "kernels", "tests") else 1
        by_folder["/".join(path.parts[:-1][:depth]) or "."].append(count)
    print(f"{'folder':24} {'files':>6} {'lines':>7} {'longest':>8}")
    for folder, counts in sorted(by_folder.items()):
        print(f"{folder:24} {len(counts):6} {sum(counts):7} {max(counts):8}")
    print(f"{'in all':24} {len(counted):6} {sum(counted.values()):7}")
    print("\nlongest files")
    for path, count in sorted(counted.items(), key=lambda item: -item[1])[:LONGEST_SHOWN]:
        print(f"{count:5}  {path}")
    print()


def report_and_check(root):
    report(root)
    return check(root)


if __name__ == "__main__":
    tree.run(report_and_check)
