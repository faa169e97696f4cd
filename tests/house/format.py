"""C++ and CUDA sources are as clang-format 14 leaves them (.clang-format).

Other versions of clang-format break lines differently, so without version 14 the check is skipped.
"""
import concurrent.futures
import os
import re
import shutil
import subprocess
import sys

import tree

VERSION = "14"
SKIPPED = 77  # ctest's SKIP_RETURN_CODE of this test
BATCH = 16  # files a process


def find_program():
    """clang-format of the right version, or None and what there is instead."""
    seen = []
    for name in (f"clang-format-{VERSION}", "clang-format"):
        program = shutil.which(name)
        if program:
            said = subprocess.run([program, "--version"], stdout=subprocess.PIPE, check=False).stdout.decode()
            match = re.search(r"version (\d+)\.", said)
            if match and match.group(1) == VERSION:
                return program, ""
            seen.append(f"{name} is version {match.group(1) if match else 'unknown'}")
    return None, ", ".join(seen) or "none is installed"


def check_with(program, root):
    """Complaints as clang-format words them, the first of each file."""
    paths = [str(path) for path in tree.code_files(root)]
    batches = [paths[start:start + BATCH] for start in range(0, len(paths), BATCH)]

    def run(batch):
        done = subprocess.run([program, "--style=file", "--dry-run", "--Werror", *batch], cwd=root,
                              stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, check=False)
        said = done.stderr.decode(errors="replace").splitlines()
        places = [line for line in said if re.match(r"^[^ ].*:\d+:\d+: error", line)]
        if done.returncode != 0 and not places:
            return said or [f"{program} failed with exit code {done.returncode}"]
        first = {}
        for line in places:
            first.setdefault(line.split(":")[0], line)
        return [f"{line} (clang-format-{VERSION} -i {name})" for name, line in first.items()]

    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        return [line for found in pool.map(run, batches) for line in found]


def check(root):
    program, instead = find_program()
    if program is None:
        print(f"skipped: clang-format {VERSION} is needed ({instead}): apt-get install clang-format-{VERSION}")
        sys.exit(SKIPPED)
    return check_with(program, root)


if __name__ == "__main__":
    tree.run(check)
