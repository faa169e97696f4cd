"""What every house check needs: the project's files, and one way to report.

A check is a function from the root folder to a list of complaints ("file:line: what is wrong"); run
as a program it prints them and fails when there are any. self_test.py feeds each check a bad tree.
"""
import os
import pathlib
import subprocess
import sys

# Not the project's own: results of building and running.
GENERATED = {".git", "build", "runs", "__pycache__", ".cache"}
CODE_SUFFIXES = {".h", ".cpp", ".cu", ".cuh"}


def files(root):
    """Tracked files below `root`, as relative paths; in a copy without git, all that are not generated."""
    root = pathlib.Path(root)
    if (root / ".git").exists():
        listed = subprocess.run(
            ["git", "-c", "safe.directory=*", "-C", str(root), "ls-files", "-z"],
            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=False)
        if listed.returncode == 0:
            names = listed.stdout.decode().split("\0")
            return sorted(pathlib.PurePosixPath(n) for n in names if n and (root / n).is_file())
    found = []
    for folder, folders, names in os.walk(root):
        folders[:] = [name for name in folders if name not in GENERATED]
        relative = pathlib.PurePosixPath(pathlib.Path(folder).relative_to(root).as_posix())
        found += [relative / name for name in names]
    return sorted(found)


def code_files(root):
    return [path for path in files(root) if path.suffix in CODE_SUFFIXES]


def lines(root, path):
    return (pathlib.Path(root) / path).read_text(encoding="utf-8", errors="replace").splitlines()


def run(check):
    """The main of a check: python3 CHECK.py ROOT."""
    if len(sys.argv) != 2:
        sys.exit(f"usage: {sys.argv[0]} ROOT")
    complaints = check(sys.argv[1])
    for complaint in complaints:
        print(complaint)
    if complaints:
        sys.exit(f"{len(complaints)} found")
    print("nothing found")
