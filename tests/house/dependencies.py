"""Includes point one way: no module sees one that is built on it.

The order is  core <- config <- {kernels, comm, data} <- model <- optim <- parallel <- checkpoints
<- infer <- eval <- train <- cli;  a module may see what stands to its left, with the exceptions below.
Device code is also kept clear of headers that nvcc cannot compile, however they are reached.
"""
import pathlib
import re

import tree

ALL_LEFT = ["core", "config", "kernels", "comm", "data", "model", "optim", "parallel", "checkpoints",
            "infer", "eval", "train", "cli"]
ALLOWED = {module: set(ALL_LEFT[:position]) for position, module in enumerate(ALL_LEFT)}
ALLOWED["kernels"] = {"core"}
ALLOWED["comm"] = {"core", "config"}
ALLOWED["data"] = {"core", "config"}
ALLOWED["model"] = {"core", "config", "kernels"}
ALLOWED["main"] = set(ALL_LEFT)

# (module, included header): why not. A model is built and run without touching files.
FORBIDDEN = {("model", "core/file_system.h"): "model code opens no files"}
# (module, included module): the only headers of it that may be seen.
ONLY = {("checkpoints", "model"): {"model/parameter_table.h"}}

OUTSIDE_SRC = {"kernels", "data", "checkpoints"}
CLOSING = {'"': '"', "<": ">"}
INCLUDE = re.compile(r'^\s*#\s*include\s*([<"])([^>"]+)[>"]')

# nvcc compiles .cu files as C++17; these libraries' and C++20's headers fail there.
NOT_IN_DEVICE_CODE = ("spdlog/", "fmt/", "yaml-cpp/", "nlohmann/", "CLI/")
CXX20_HEADERS = {"bit", "compare", "concepts", "coroutine", "numbers", "ranges", "span", "version",
                 "source_location", "format", "barrier", "latch", "semaphore", "stop_token", "syncstream"}


def module_of(path):
    """The module a file belongs to; None for tests and other folders that may see everything."""
    parts = pathlib.PurePosixPath(path).parts
    if len(parts) == 2 and parts[0] == "src":
        return "main"
    name = parts[1] if parts[0] == "src" and len(parts) > 2 else parts[0]
    return name if name in ALLOWED and (parts[0] == "src" or name in OUTSIDE_SRC) else None


def included_module(name):
    """The module of an include path, which starts at the root or at src/."""
    parts = pathlib.PurePosixPath(name).parts
    if parts[0] == "src" and len(parts) > 1:
        parts = parts[1:]
    return parts[0] if len(parts) > 1 and parts[0] in ALLOWED else None


def includes(root, path):
    """(line number, bracket, name) of every include."""
    for number, line in enumerate(tree.lines(root, path), 1):
        match = INCLUDE.match(line)
        if match:
            yield number, match.group(1), match.group(2)


def module_complaint(module, name):
    """Why a file of `module` may not include `name`; None when it may."""
    target = included_module(name)
    if target is None or target == module:
        return None
    if target not in ALLOWED[module]:
        allowed = ", ".join(m for m in ALL_LEFT if m in ALLOWED[module]) or "nothing"
        return f"{module} must not see {target} (it may see: {allowed})"
    short = name[len("src/"):] if name.startswith("src/") else name
    if (module, target) in ONLY and short not in ONLY[module, target]:
        return f"{module} may see of {target} only {', '.join(sorted(ONLY[module, target]))}"
    return FORBIDDEN.get((module, short))


def resolve(known, name):
    """The project file that an include path means, or None."""
    for candidate in (name, "src/" + name):
        if pathlib.PurePosixPath(candidate) in known:
            return pathlib.PurePosixPath(candidate)
    return None


def device_complaints(root, known, start):
    """Headers nvcc cannot take that the device file `start` reaches, each with the way there."""
    complaints, seen, stack = [], {start}, [(start, ())]
    while stack:
        path, way = stack.pop()
        for number, bracket, name in includes(root, path):
            target = resolve(known, name) if bracket == '"' else None
            if target is None:
                if name.startswith(NOT_IN_DEVICE_CODE) or (bracket == "<" and name in CXX20_HEADERS):
                    by = " through " + " -> ".join(way + (str(path),)) if way else ""
                    place = f"{path}:{number}" if not way else f"{start}:1"
                    complaints.append(f"{place}: device code must not reach <{name}>{by}")
            elif target not in seen:
                seen.add(target)
                stack.append((target, way + (str(path),)))
    return complaints


def check(root):
    complaints = []
    code = tree.code_files(root)
    known = set(code)
    for path in code:
        module = module_of(path)
        for number, bracket, name in includes(root, path):
            place = f"{path}:{number}: #include {bracket}{name}{CLOSING[bracket]}"
            if bracket == '"' and (".." in name.split("/") or
                                   (resolve(known, name) is None and path.parent / name in known)):
                complaints.append(f"{place}: include paths start at the root or at src/")
            elif module is not None and bracket == '"':
                reason = module_complaint(module, name)
                if reason:
                    complaints.append(f"{place}: {reason}")
        if path.suffix in (".cu", ".cuh"):
            complaints += device_complaints(root, known, path)
    return complaints


if __name__ == "__main__":
    tree.run(check)
