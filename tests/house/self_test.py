"""The house checks can fail: each gets a small tree with the faults that it is there to find.

    python3 self_test.py FOLDER      (scratch trees are made below FOLDER)
"""
import pathlib
import shutil
import subprocess
import sys
import unittest

import contents
import dependencies
import documents
import format as format_check
import sizes
import tree

SCRATCH = pathlib.Path(sys.argv.pop(1)) if len(sys.argv) > 1 else None

GOOD = {
    "src/core/error.h": "#pragma once\n#include <string>\n",
    "src/core/file_system.h": '#pragma once\n#include "core/error.h"\n',
    "src/config/config.h": '#pragma once\n#include "core/error.h"\n',
    "src/comm/communicator.h": '#include "config/config.h"\n',
    "src/model/parameter_table.h": '#pragma once\n#include "kernels/gelu.h"\n',
    "src/model/layer.h": '#include "model/parameter_table.h"\n#include "config/config.h"\n',
    "src/main.cpp": '#include "cli/commands.h"\nint main() { return 0; }\n',
    "src/cli/commands.h": '#include "model/layer.h"\n#include "checkpoints/writer.h"\n',
    "kernels/gelu.h": '#pragma once\n#include "core/error.h"\n',
    "kernels/cuda/gelu.cu": '#include "kernels/gelu.h"\n#include <cstdint>\n',
    "data/shard.h": '#include "core/file_system.h"\n#include "config/config.h"\n',
    "checkpoints/writer.h": '#include "model/parameter_table.h"\n#include "data/shard.h"\n',
    "tests/layer_test.cpp": '#include "model/layer.h"\n#include "data/shard.h"\n',
    "README.md": "# Top\n\nSee [the tour](docs/tour.md#first-step), `src/main.cpp`, `kernels/cuda/*.cu`,\n"
                 "`src/{core,config}`, `docs/NAME.md` and `runs/x/config.yaml`.\n\n"
                 "```\n./src/main.cpp --out=docs/tour.md\n```\n",
    "docs/tour.md": "# Tour\n\n## First step\n\nBack to [top](../README.md#top), [web](https://x.org/a).\n",
    ".clang-format": "BasedOnStyle: Google\n",
}


class HouseTest(unittest.TestCase):
    def make(self, changes=None):
        """A fresh tree: GOOD with `changes` (path -> text; None removes)."""
        root = SCRATCH / self.id().rsplit(".", 1)[-1]
        shutil.rmtree(root, ignore_errors=True)
        for path, text in {**GOOD, **(changes or {})}.items():
            if text is not None:
                (root / path).parent.mkdir(parents=True, exist_ok=True)
                (root / path).write_text(text, encoding="utf-8")
        return root

    def expect(self, check, changes, *wanted):
        """The check finds exactly these complaints (each given by its beginning), and none without `changes`."""
        self.assertEqual(check(self.make()), [])
        found = check(self.make(changes))
        self.assertEqual(len(found), len(wanted), found)
        for complaint, beginning in zip(sorted(found), sorted(wanted)):
            self.assertTrue(complaint.startswith(beginning), f"{complaint!r} / {beginning!r}")

    def test_each_module_sees_only_what_stands_left_of_it(self):
        cases = [
            ("src/core/a.h", "config/config.h", "core must not see config"),
            ("src/config/a.h", "kernels/gelu.h", "config must not see kernels"),
            ("kernels/a.h", "config/config.h", "kernels must not see config"),
            ("kernels/cpu/a.cpp", "src/model/layer.h", "kernels must not see model"),
            ("src/comm/a.h", "data/shard.h", "comm must not see data"),
            ("data/a.h", "model/parameter_table.h", "data must not see model"),
            ("data/tokenizer/a.h", "comm/communicator.h", "data must not see comm"),
            ("src/model/a.h", "comm/communicator.h", "model must not see comm"),
            ("src/model/a.h", "data/shard.h", "model must not see data"),
            ("src/model/a.h", "core/file_system.h", "model code opens no files"),
            ("src/model/a.h", "src/core/file_system.h", "model code opens no files"),
            ("checkpoints/a.h", "model/layer.h", "checkpoints may see of model only"),
            ("checkpoints/a.h", "src/model/layer.h", "checkpoints may see of model only"),
            ("src/optim/a.h", "checkpoints/writer.h", "optim must not see checkpoints"),
            ("src/train/a.h", "cli/commands.h", "train must not see cli"),
        ]
        for path, name, reason in cases:
            with self.subTest(path=path, name=name):
                self.expect(dependencies.check, {path: f'// why\n  # include "{name}"\n'},
                            f'{path}:2: #include "{name}": {reason}')

    def test_the_rightmost_modules_and_tests_see_everything(self):
        text = "".join(f'#include "{name}"\n' for name in (
            "core/error.h", "comm/communicator.h", "data/shard.h", "model/layer.h", "checkpoints/writer.h"))
        self.assertEqual(dependencies.check(self.make(
            {"src/train/trainer.h": text, "src/infer/cache.h": text, "tests/a_test.cpp": text})), [])

    def test_include_paths_start_at_the_root(self):
        self.expect(dependencies.check, {"src/core/a.h": '#include "error.h"\n',
                                         "tests/a.cpp": '#include "../src/core/error.h"\n'},
                    'src/core/a.h:1: #include "error.h": include paths start',
                    'tests/a.cpp:1: #include "../src/core/error.h": include paths start')

    def test_device_code_stays_clear_of_headers_nvcc_cannot_compile(self):
        self.expect(dependencies.check, {"kernels/cuda/a.cu": "#include <spdlog/spdlog.h>\n"},
                    "kernels/cuda/a.cu:1: device code must not reach <spdlog/spdlog.h>")
        self.expect(dependencies.check, {"src/core/error.h": "#include <span>\n"},
                    "kernels/cuda/gelu.cu:1: device code must not reach <span> through "
                    "kernels/cuda/gelu.cu -> kernels/gelu.h -> src/core/error.h")

    def test_long_files(self):
        self.expect(sizes.check, {"src/core/a.cpp": "int a;\n" * 400, "tests/b.py": "b = 1\n" * 401},
                    "tests/b.py:401: 401 lines, at most 400")
        self.expect(sizes.check, {"src/main.cpp": "\n" * 81}, "src/main.cpp:81: 81 lines, at most 80")

    def test_documents_name_what_exists(self):
        self.expect(documents.check, {"docs/tour.md": "# Tour\n## First step\n[gone](gone.md) `src/core/gone.h`\n"
                                      "`src/{core,gone}/error.h` `kernels/hip/*.cu`\n[far](../../x.md)\n"
                                      "```sh\n./src/gone.sh --out=docs/none.md\n```\n"},
                    "docs/tour.md:3: link to gone.md: no such file",
                    "docs/tour.md:3: src/core/gone.h does not exist",
                    "docs/tour.md:4: kernels/hip/*.cu does not exist",
                    "docs/tour.md:4: src/gone/error.h does not exist",
                    "docs/tour.md:5: link to ../../x.md: no such file",
                    "docs/tour.md:7: docs/none.md does not exist",
                    "docs/tour.md:7: src/gone.sh does not exist")
        self.expect(documents.check, {"docs/tour.md": "# Tour\n## Another step\n"},
                    "README.md:3: link to docs/tour.md#first-step: docs/tour.md has no such heading")

    def test_contents(self):
        self.expect(contents.check, {"data/big.txt": "x" * (contents.LIMIT + 1),
                                     "tests/a.cpp": 'const char* p = "../' + 'shared/golden";\n',
                                     "launch/a.sh": "cd /wor" + "k/main\n",
                                     "docs/a.md": "# A\n" + "<" * 7 + " HEAD\n"},
                    "data/big.txt:1: 7,500,001 bytes", "tests/a.cpp:1: ../sha" + "red is a path",
                    "launch/a.sh:1: /wor" + "k/ is a path", "docs/a.md:2: a mark of an unfinished merge")

    def test_format(self):
        program, instead = format_check.find_program()
        if program is None:
            self.skipTest(f"no clang-format {format_check.VERSION}: {instead}")
        good = {path: None for path, text in GOOD.items() if pathlib.Path(path).suffix in tree.CODE_SUFFIXES}
        good["src/core/a.h"] = "int a(int b);\n"
        self.assertEqual(format_check.check_with(program, self.make(good)), [])
        bad = {**good, "src/core/a.h": "int  a( int b );\nint c ;\n", "kernels/cuda/b.cu": "int  b;\n"}
        found = format_check.check_with(program, self.make(bad))
        self.assertEqual([line.split(":")[0] for line in found], ["kernels/cuda/b.cu", "src/core/a.h"])

    def test_files_are_those_git_tracks_and_without_git_all_but_results(self):
        root = self.make({"build/out.h": "", "runs/a.h": "", "notes.h": ""})
        without = [str(path) for path in tree.files(root)]
        self.assertIn("notes.h", without)
        self.assertEqual([path for path in without if path.startswith(("build", "runs"))], [])
        if shutil.which("git") is None:
            self.skipTest("no git")
        for command in (["init", "-q"], ["add", "src", "README.md"]):
            subprocess.run(["git", "-C", str(root), *command], check=True)
        tracked = [str(path) for path in tree.files(root)]
        self.assertEqual(tracked, sorted(["README.md"] + [p for p in GOOD if p.startswith("src/")]))


if __name__ == "__main__":
    if SCRATCH is None:
        sys.exit(__doc__)
    unittest.main()
