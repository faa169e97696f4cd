"""What a user can do wrong: every case ends with its documented exit code and one clear sentence that
names what is at fault."""
import json, pathlib, struct, sys, unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / 'support'))
import tessera_run as t

USAGE, DATA, IO = 64, 65, 74


def case(code, *fragments):
    """Marks a method that returns arguments of `tessera`; fragments must stand in the message."""
    def mark(build):
        def test(self):
            words = list(map(str, build(self)))
            result = t.run(*words, cwd=self.where)
            self.assertEqual(result.returncode, code, f'{words}\n{result.stdout}{result.stderr}')
            lines = [l for l in result.stderr.splitlines() if l.strip()]
            self.assertTrue(lines, f'{words}: silent')
            for fragment in fragments:
                self.assertIn(fragment, result.stderr, words)
            self.assertNotIn('internal error', result.stderr)
            self.assertNotIn('terminate called', result.stderr)
        test.__name__ = build.__name__
        return test
    return mark


class BadInput(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.where = t.folder('bad-input')
        cls.data = t.prepare(cls.where)
        words = t.write_config(cls.where / 'good.yaml', cls.data)
        result = t.run('train', *words, 'train.steps=21', 'checkpoint.keep=1')
        assert result.returncode == 0, result.stderr
        cls.run_folder = cls.where / 'run'
        cls.step = next((cls.run_folder / 'checkpoints').iterdir())
        result = t.run('export', cls.run_folder, '--out', cls.where / 'export')
        assert result.returncode == 0, result.stderr

    # --- helpers -----------------------------------------------------------------------------
    def file(self, name, content):
        path = self.where / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    def copy(self, source, name):
        target = self.where / name
        t.shutil.rmtree(target, ignore_errors=True)
        t.shutil.copytree(source, target)
        return target

    def damage(self, path, at=None, keep=None):
        """Flips a bit at `at` (from the end when negative), or keeps the first `keep` bytes."""
        content = bytearray(path.read_bytes())
        if keep is not None:
            content = content[:keep]
        else:
            content[at] ^= 4
        path.write_bytes(content)

    def train(self, *overrides):
        return ['train', self.where / 'good.yaml', 'run.name=other', *overrides]

    def yaml(self, name, text):
        return ['train', self.file(name, text)]

    def prepare(self, source, *more, tokenizer='bytes'):
        out = self.where / 'prepared'
        t.shutil.rmtree(out, ignore_errors=True)
        return ['prepare', source, '--tokenizer', tokenizer, '--out', out, *more]

    def with_data(self, name, change):
        """A training command on a copy of the shards that `change` has been at."""
        folder = self.copy(self.data / 'train', name)
        change(folder)
        return self.train(f'data.train={folder}', f'run.name={name}')

    def with_checkpoint(self, name, change):
        folder = self.copy(self.step, f'{name}/{self.step.name}')
        change(folder)
        return ['generate', folder, '--prompt', 'a', '--tokens', '1']

    # --- command line --------------------------------------------------------------------------
    @case(USAGE)
    def test_no_command(self): return []

    @case(USAGE, 'trian')
    def test_unknown_command(self): return ['trian']

    @case(USAGE, '--tokns')
    def test_unknown_option(self): return ['generate', self.run_folder, '--tokns', 3]

    @case(USAGE, 'config')
    def test_missing_argument(self): return ['train']

    @case(USAGE, '--temperature')
    def test_option_out_of_range(self):
        return ['generate', self.run_folder, '--temperature', '-1']

    @case(USAGE, '--tokens')
    def test_option_of_wrong_type(self): return ['generate', self.run_folder, '--tokens', 'many']

    # --- YAML ------------------------------------------------------------------------------------
    @case(USAGE, 'nowhere.yaml')
    def test_missing_configuration(self): return ['train', 'nowhere.yaml']

    @case(USAGE, 'model.witdh', 'model.width')
    def test_misspelt_override(self): return self.train('model.witdh=3')

    @case(USAGE, 'model.width')
    def test_wrong_type(self): return self.train('model.width=wide')

    @case(USAGE, 'model.heads')
    def test_heads_do_not_divide(self): return self.train('model.heads=5')

    @case(USAGE, 'model.context')
    def test_context_not_whole_blocks(self): return self.train('model.context=62')

    @case(USAGE, 'optimizer.lr')
    def test_negative_learning_rate(self): return self.train('optimizer.lr=-1')

    @case(USAGE, 'optimizer.betas')
    def test_beta_of_one(self): return self.train('optimizer.betas=[1.0, 0.9]')

    @case(USAGE, 'run.name')
    def test_run_name_with_path(self): return self.train('run.name=../../etc')

    @case(USAGE, 'a.yaml:2', 'widht', 'model.heads', 'optimizer.lr')
    def test_several_problems_at_once(self):
        return self.yaml('a.yaml', 'model:\n  widht: 3\n  heads: -2\noptimizer: {lr: x}\n')

    @case(USAGE, 'b.yaml')
    def test_broken_yaml(self): return self.yaml('b.yaml', 'model: {width: 3\n')

    @case(USAGE, 'c.yaml')
    def test_yaml_alias(self): return self.yaml('c.yaml', 'model: &m {width: 32}\ndata: *m\n')

    @case(USAGE, 'd.yaml')
    def test_deep_yaml(self): return self.yaml('d.yaml', 'model: ' + '[' * 5000)

    @case(USAGE, 'e.yaml')
    def test_large_yaml(self): return self.yaml('e.yaml', '# ' + 'x' * (2 << 20) + '\n')

    @case(USAGE, 'model.width')
    def test_repeated_key(self): return self.yaml('f.yaml', 'model:\n  width: 32\n  width: 64\n')

    @case(USAGE, 'g.yaml:1', 'base')
    def test_missing_base(self): return self.yaml('g.yaml', 'base: missing-base.yaml\n')

    @case(USAGE, 'data.train')
    def test_no_training_data(self): return self.train('data.train=[]')

    @case(USAGE, 'parallel.data')
    def test_more_replicas_than_ranks(self): return self.train('parallel.data=2')

    @case(USAGE, 'device')
    def test_cuda_where_there_is_none(self): return self.train('device=cuda')

    # --- shards ----------------------------------------------------------------------------------
    @case(DATA, 'nowhere')
    def test_data_folder_missing(self): return self.train('data.train=nowhere')

    @case(USAGE, 'model.vocab')
    def test_vocabulary_too_small(self): return self.train('model.vocab=100')

    @case(USAGE)
    def test_sample_longer_than_the_data(self): return self.train('model.context=1048576')

    @case(DATA, 'shard-00000.h5')
    def test_truncated_shard(self):
        return self.with_data('truncated', lambda f: self.damage(f / 'shard-00000.h5', keep=5000))

    @case(DATA, 'shard-00000.h5')
    def test_missing_shard(self):
        return self.with_data('missing-shard', lambda f: (f / 'shard-00000.h5').unlink())

    @case(DATA, 'shard-00000.h5')
    def test_foreign_file_as_shard(self):
        def change(folder):
            shard = folder / 'shard-00000.h5'
            shard.write_bytes(b'\0' * shard.stat().st_size)
        return self.with_data('foreign', change)

    @case(DATA, 'dataset.json')
    def test_empty_dataset_manifest(self):
        return self.with_data('empty-manifest', lambda f: (f / 'dataset.json').write_text(''))

    @case(DATA, 'tokenizer.json')
    def test_exchanged_tokenizer(self):
        return self.with_data('exchanged', lambda f: (f / 'tokenizer.json').write_text('{}'))

    # --- text and tokenizers -----------------------------------------------------------------------
    @case(IO, 'nowhere.jsonl')
    def test_prepare_missing_input(self): return self.prepare('nowhere.jsonl')

    @case(DATA, 'h.jsonl', '2')
    def test_prepare_broken_json(self):
        return self.prepare(self.file('h.jsonl', '{"text": "a"}\n{"text": \n'))

    @case(DATA, 'text')
    def test_prepare_without_text_key(self):
        return self.prepare(self.file('i.jsonl', '{"body": "a"}\n'))

    @case(DATA, 'j.jsonl.gz')
    def test_prepare_truncated_gzip(self):
        import gzip
        return self.prepare(self.file('j.jsonl.gz', gzip.compress(b'{"text": "a"}\n' * 999)[:40]))

    @case(DATA, 'k.jsonl.zst')
    def test_prepare_not_zstd(self): return self.prepare(self.file('k.jsonl.zst', b'not zstd'))

    @case(USAGE, 'train')
    def test_prepare_into_a_data_set(self):
        return ['prepare', self.where / 'text.jsonl', '--tokenizer', 'bytes', '--out',
                self.data / 'train']

    @case(DATA, 'l.json')
    def test_tokenizer_not_json(self):
        return self.prepare(self.where / 'text.jsonl', tokenizer=self.file('l.json', '{"model": '))

    @case(DATA, 'm.json')
    def test_tokenizer_of_another_kind(self):
        text = json.dumps({'model': {'type': 'Unigram', 'vocab': []}})
        return self.prepare(self.where / 'text.jsonl', tokenizer=self.file('m.json', text))

    @case(DATA, 'n.bin')
    def test_flat_file_of_odd_size(self):
        return ['prepare', self.file('n.bin', b'abc'), '--format', 'flat', '--dtype', 'uint16',
                '--vocab', 1000, '--eot', 0, '--out', self.where / 'flat']

    # --- checkpoints -------------------------------------------------------------------------------
    @case(USAGE)
    def test_checkpoint_nowhere(self): return ['eval', self.where / 'no-such-run']

    @case(DATA, 'part-00000')
    def test_flipped_bit(self):
        return self.with_checkpoint('flipped',
                                    lambda f: self.damage(f / 'part-00000.safetensors', at=-9))

    @case(DATA, 'part-00000')
    def test_truncated_part(self):
        return self.with_checkpoint('cut', lambda f: self.damage(f / 'part-00000.safetensors',
                                                                 keep=100))

    @case(DATA, 'part-00000')
    def test_missing_part(self):
        return self.with_checkpoint('lost', lambda f: (f / 'part-00000.safetensors').unlink())

    @case(DATA, 'manifest.json')
    def test_empty_manifest(self):
        return self.with_checkpoint('void', lambda f: (f / 'manifest.json').write_text(''))

    @case(DATA, 'version')
    def test_newer_checkpoint(self):
        def change(folder):
            manifest = json.loads((folder / 'manifest.json').read_text())
            manifest['version'] = 999
            (folder / 'manifest.json').write_text(json.dumps(manifest))
        return self.with_checkpoint('newer', change)

    @case(DATA, 'model.width')
    def test_resume_with_another_model(self):
        return ['train', self.where / 'good.yaml', 'model.width=64']

    @case(USAGE, '999')
    def test_prompt_outside_the_vocabulary(self):
        return ['generate', self.run_folder, '--prompt-ids', 999]

    # --- safetensors -----------------------------------------------------------------------------
    def imported(self, name, content):
        folder = self.copy(self.where / 'export', name)
        (folder / 'model.safetensors').write_bytes(content)
        return ['import', folder, '--run', f'{name}-run']

    @case(DATA, 'model.safetensors')
    def test_safetensors_with_a_huge_header(self):
        return self.imported('huge', struct.pack('<Q', 2**63) + b'{}')

    @case(DATA, 'model.safetensors')
    def test_safetensors_beyond_the_file(self):
        header = json.dumps({'a': {'dtype': 'F32', 'shape': [9], 'data_offsets': [0, 36]}}).encode()
        return self.imported('beyond', struct.pack('<Q', len(header)) + header + b'\0' * 8)

    @case(DATA, 'model.safetensors')
    def test_safetensors_without_tensors(self):
        return self.imported('none', struct.pack('<Q', 2) + b'{}')

    @case(USAGE)
    def test_import_of_nothing(self):
        empty = self.where / 'empty'
        empty.mkdir(exist_ok=True)
        return ['import', empty, '--run', 'empty-run']

    @case(USAGE, 'export')
    def test_export_over_something(self):
        return ['export', self.run_folder, '--out', self.where / 'export']

    @case(DATA, 'o.safetensors')
    def test_inspect_damaged_file(self):
        return ['inspect', self.file('o.safetensors', b'\1\2\3')]


if __name__ == '__main__':
    t.main()
