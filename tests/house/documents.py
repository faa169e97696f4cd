"""Documentation names things that exist: links and repository paths in every Markdown page.

A path counts as the repository's when its first folder is one of the project's, as in
`launch/setup.sh`, `kernels/cuda/*.cu` or `configs/quickstart/{block,vanilla}.yaml`. Placeholders are
written in capitals (`configs/NAME.yaml`) and left alone, and so are build/ and runs/.
"""
import fnmatch
import itertools
import pathlib
import re

import tree

LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)(?:\s+\"[^\"]*\")?\)")
FENCE = re.compile(r"^\s*(```|~~~)")
SPAN = re.compile(r"`([^`]+)`")
WORD = re.compile(r"^[\w.\-/{},*\[\]]+$")
BRACES = re.compile(r"\{([^{}]*)\}")
PLACEHOLDER = re.compile(r"(^|[/.{,_-])[A-Z][A-Z0-9_]*(?=$|[/.},_-])")
HEADING = re.compile(r"^#+\s+(.*?)\s*#*$")


def expand(pattern):
    """All names that the {a,b} groups of a path stand for."""
    match = BRACES.search(pattern)
    if not match:
        return [pattern]
    return list(itertools.chain.from_iterable(
        expand(pattern[:match.start()] + choice + pattern[match.end():])
        for choice in match.group(1).split(",")))


def anchor(heading):
    """The fragment that a heading gets on GitHub."""
    plain = re.sub(r"[`*]|\[([^\]]*)\]\([^)]*\)", r"\1", heading).lower()
    return re.sub(r"[^\w\- ]", "", plain).replace(" ", "-")


def anchors(root, path):
    found, fenced = set(), False
    for line in tree.lines(root, path):
        if FENCE.match(line):
            fenced = not fenced
        match = None if fenced else HEADING.match(line)
        if match:
            found.add(anchor(match.group(1)))
    return found


class Tree:
    """The names of a project: files, and the folders they are in."""

    def __init__(self, root):
        self.root = root
        self.names = {str(path) for path in tree.files(root)}
        for name in list(self.names):
            self.names.update(str(parent) for parent in pathlib.PurePosixPath(name).parents)
        self.top = {name.split("/")[0] for name in self.names if "/" in name}

    def has(self, name):
        name = str(pathlib.PurePosixPath(name))
        return name in self.names or any(c in name for c in "*[") and any(
            fnmatch.fnmatchcase(candidate, name) for candidate in self.names)


def normal(path):
    """A relative path without `.` and `..`; None when it leaves the project."""
    parts = []
    for part in pathlib.PurePosixPath(path).parts:
        if part == "..":
            if not parts:
                return None
            parts.pop()
        elif part != ".":
            parts.append(part)
    return "/".join(parts) or "."


def link_complaint(project, page, target):
    if re.match(r"^[a-zA-Z][a-zA-Z0-9+.-]*:", target):
        return None
    name, _, fragment = target.partition("#")
    where = normal(page.parent / name) if name else str(page)
    if where is None or not project.has(where):
        return f"link to {target}: no such file"
    if fragment and where.endswith(".md") and fragment not in anchors(project.root, where):
        return f"link to {target}: {where} has no such heading"
    return None


def words_of(line, fenced):
    """The words of a line that may be paths: those in code spans, or all when it is in a fence."""
    for text in [line] if fenced else SPAN.findall(line):
        for word in text.split():
            word = word.split("=")[-1].strip("\"'`()<>,;:|")
            yield word[2:] if word.startswith("./") else word


def path_complaint(project, word):
    """Why a word that looks like a path of the project is wrong."""
    if "/" not in word or not WORD.match(word) or word.split("/")[0] not in project.top:
        return None
    for name in expand(word.rstrip(".")):
        if not project.has(name) and not PLACEHOLDER.search(name):
            return f"{name} does not exist"
    return None


def check(root):
    complaints, project = [], Tree(root)
    for page in (path for path in tree.files(root) if path.suffix == ".md"):
        fenced = False
        for number, line in enumerate(tree.lines(root, page), 1):
            if FENCE.match(line):
                fenced = not fenced
                continue
            found = [path_complaint(project, word) for word in words_of(line, fenced)]
            if not fenced:
                found += [link_complaint(project, page, target)
                          for target in LINK.findall(SPAN.sub("", line))]
            complaints += [f"{page}:{number}: {reason}" for reason in found if reason]
    return complaints


if __name__ == "__main__":
    tree.run(check)
