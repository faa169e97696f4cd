"""Runs the tessera program for tests: small shards, small configurations, mpirun, metrics.

    python3 TEST.py BUILD_DIR [unittest arguments]
"""
import json, os, pathlib, shutil, subprocess, sys, unittest

BUILD = pathlib.Path(sys.argv.pop(1)).resolve() if len(sys.argv) > 1 else None
SOURCE = pathlib.Path(__file__).resolve().parents[2]
PROGRAM = BUILD / 'tessera' if BUILD else None
ENVIRONMENT = dict(os.environ, OMPI_ALLOW_RUN_AS_ROOT='1', OMPI_ALLOW_RUN_AS_ROOT_CONFIRM='1',
                   OMPI_MCA_rmaps_base_oversubscribe='1', OMP_NUM_THREADS='1', TESSERA_PROGRESS='0')

MODELS = {
    'block': 'kind: block, block_layers: 1, token_layers: 1, block_length: 4, prefix: 2',
    'vanilla': 'kind: vanilla, layers: 2',
}


def command(*arguments, ranks=0):
    words = [str(PROGRAM), *map(str, arguments)]
    return ['mpirun', '-np', str(ranks), *words] if ranks else words


def run(*arguments, ranks=0, timeout=300, cwd=None, text=True):
    """-> CompletedProcess with text of both streams."""
    return subprocess.run(command(*arguments, ranks=ranks), env=ENVIRONMENT, cwd=cwd, text=text,
                          capture_output=True, timeout=timeout, stdin=subprocess.DEVNULL)


def start(*arguments, ranks=0):
    """A running process in its own group, output discarded."""
    return subprocess.Popen(command(*arguments, ranks=ranks), env=ENVIRONMENT,
                            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                            stderr=subprocess.DEVNULL, start_new_session=True)


def kill_all(*words):
    """kill -9 to every process with all `words` among its arguments (ranks outlive a killed mpirun)."""
    for entry in pathlib.Path('/proc').iterdir():
        try:
            if not entry.name.isdigit():
                continue
            arguments = (entry / 'cmdline').read_bytes().split(b'\0')
            if all(word.encode() in arguments for word in words):
                os.kill(int(entry.name), 9)
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            pass


def ranks_of(run):
    """Rank -> process id, of the job under mpirun that has run.name=RUN among its arguments."""
    found = {}
    for entry in pathlib.Path('/proc').iterdir():
        try:
            if entry.name.isdigit() and f'run.name={run}'.encode() in (entry / 'cmdline').read_bytes().split(b'\0'):
                for variable in (entry / 'environ').read_bytes().split(b'\0'):
                    if variable.startswith(b'OMPI_COMM_WORLD_RANK='):
                        found[int(variable.split(b'=')[1])] = int(entry.name)
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            pass
    return found


def folder(name):
    """An empty folder below the build tree."""
    path = BUILD / 'tests' / ('tmp-' + name)
    shutil.rmtree(path, ignore_errors=True)
    path.mkdir(parents=True)
    return path


def text_documents(count=60, seed=1):
    """Deterministic prose-like documents: words from a small vocabulary with a skewed frequency."""
    state, words = seed, ('the of and to in a is that it was for on are as with his they at be this '
                          'from have or by one had not but what all were when we there can an your '
                          'which their said if do will each about how up out them then she many '
                          'some so these would other into has more her two like him see time').split()
    for _ in range(count):
        line = []
        for _ in range(120):
            state = (state * 6364136223846793005 + 1442695040888963407) % 2**64
            line.append(words[int((state >> 33) / 2**31 * (state >> 11 & 1023) / 1024 * len(words))])
        yield ' '.join(line) + '.\n'


def prepare(where):
    """Byte-tokenised shards WHERE/train and WHERE/valid."""
    source = where / 'text.jsonl'
    source.write_text(''.join(json.dumps({'text': t}) + '\n' for t in text_documents()))
    result = run('prepare', source, '--tokenizer', 'bytes', '--out', where / 'data',
                 '--valid-fraction', '0.1')
    assert result.returncode == 0, result.stderr
    return where / 'data'


def write_config(path, data, kind='block', **changes):
    """A small model that trains in a second; `changes` are 'section.key' -> value overrides."""
    path.write_text(f'''
run: {{name: run, root: {path.parent}}}
seed: 3
model: {{{MODELS[kind]}, vocab: 257, width: 32, heads: 2, context: 64}}
data: {{train: {data}/train, valid: {data}/valid}}
train: {{steps: 40, global_batch: 8, micro_batch: 2}}
optimizer: {{lr: 1.0e-3, warmup: 20}}
checkpoint: {{every: 5, keep: 2}}
eval: {{every: 0}}
''')
    return [str(path)] + [f'{k}={v}' for k, v in changes.items()]


def metrics(run_folder, kind='step'):
    text = (run_folder / 'metrics.jsonl').read_text()
    lines = text[:text.rfind('\n') + 1].splitlines()  # a line may be half written just now
    return [m for m in map(json.loads, lines) if m['kind'] == kind]


def losses(run_folder):
    found = metrics(run_folder)
    assert [m['step'] for m in found] == list(range(1, len(found) + 1)), 'one line a step, in order'
    return [m['loss'] for m in found]


def main():
    unittest.main(verbosity=2)
