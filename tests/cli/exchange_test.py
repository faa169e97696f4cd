"""import, inspect and export as commands: files another tool wrote become a run, what inspect says of
each stage is true, and the export holds the same bits."""
import json, pathlib, struct, sys, unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / 'support'))
import tessera_run as t

WIDTH, VOCAB, LAYERS, CONTEXT = 8, 20, 2, 16


def shapes():
    """Published names of a vanilla model -> shapes."""
    d, result = WIDTH, {'gpt_neox.embed_in.weight': [VOCAB, WIDTH]}
    sizes = {'input_layernorm': [d], 'post_attention_layernorm': [d],
             'attention.query_key_value': [3 * d, d], 'attention.dense': [d, d],
             'mlp.dense_h_to_4h': [4 * d, d], 'mlp.dense_4h_to_h': [d, 4 * d]}
    for layer in range(LAYERS):
        for name, shape in sizes.items():
            result[f'gpt_neox.layers.{layer}.{name}.weight'] = shape
            result[f'gpt_neox.layers.{layer}.{name}.bias'] = shape[:1]
    for kind in ('weight', 'bias'):
        result[f'gpt_neox.final_layer_norm.{kind}'] = [d]
    result['embed_out.weight'] = [VOCAB, WIDTH]
    return result


def count(shape):
    product = 1
    for extent in shape:
        product *= extent
    return product


def write_safetensors(path, tensors):
    """tensors: name -> (dtype, shape, bytes)"""
    header, data = {}, b''
    for name, (dtype, shape, content) in tensors.items():
        header[name] = {'dtype': dtype, 'shape': shape,
                        'data_offsets': [len(data), len(data) + len(content)]}
        data += content
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack('<Q', len(text)) + text + data)


def read_safetensors(path):
    content = path.read_bytes()
    length, = struct.unpack('<Q', content[:8])
    header, data = json.loads(content[8:8 + length]), content[8 + length:]
    header.pop('__metadata__', None)
    return {name: (e['dtype'], e['shape'], data[slice(*e['data_offsets'])])
            for name, e in header.items()}


class Exchange(unittest.TestCase):
    def setUp(self):
        self.where = t.folder('exchange')
        self.source = self.where / 'foreign'
        self.source.mkdir()
        self.tensors = {}
        for seed, (name, shape) in enumerate(shapes().items()):
            values = [((i * 37 + seed * 11) % 101 - 50) / 128 for i in range(count(shape))]
            self.tensors[name] = ('F32', shape, struct.pack(f'<{len(values)}f', *values))
        mask = {'gpt_neox.layers.0.attention.bias': ('BOOL', [1, 1, 2, 2], b'\1\0\1\1')}
        write_safetensors(self.source / 'model.safetensors', {**self.tensors, **mask})
        self.write_config()
        (self.source / 'tokenizer.json').write_text('{"type": "bytes"}')

    def write_config(self, **changes):
        config = dict(model_type='gpt_neox', vocab_size=VOCAB, hidden_size=WIDTH,
                      intermediate_size=4 * WIDTH, num_attention_heads=2, num_hidden_layers=LAYERS,
                      max_position_embeddings=CONTEXT, hidden_act='gelu', rotary_pct=0.5,
                      rotary_emb_base=10000, layer_norm_eps=1e-5, use_parallel_residual=True,
                      tie_word_embeddings=False)
        (self.source / 'config.json').write_text(json.dumps({**config, **changes}))

    def good(self, *words):
        result = t.run(*words, cwd=self.where)
        self.assertEqual(result.returncode, 0, f'{words}\n{result.stdout}{result.stderr}')
        return result.stdout

    def bad(self, code, fragment, *words):
        result = t.run(*words, cwd=self.where)
        self.assertEqual(result.returncode, code, f'{words}\n{result.stdout}{result.stderr}')
        self.assertIn(fragment, result.stderr)
        self.assertEqual(len(result.stderr.strip().splitlines()), 1, result.stderr)

    def imported(self):
        return json.loads(self.good('import', 'foreign', '--run', 'kept', '--json'))

    def test_there_and_back(self):
        found = self.imported()
        self.assertEqual(found['kind'], 'vanilla')
        self.assertEqual(found['parameters'], sum(count(s) for s in shapes().values()))
        self.assertEqual(found['checkpoint'], 'runs/kept/checkpoints/step-00000000')
        self.assertIn('layers: 2', (self.where / found['config']).read_text())
        said = json.loads(self.good('export', 'runs/kept', '--out', 'out', '--json'))
        self.assertEqual(said['checkpoint'], found['checkpoint'])
        self.assertEqual(read_safetensors(self.where / 'out/model.safetensors'), self.tensors)
        self.assertEqual((self.where / 'out/tokenizer.json').read_text(), '{"type": "bytes"}')
        self.assertEqual(json.loads((self.where / 'out/config.json').read_text())['eos_token_id'], 256)
        # A folder that is not empty needs --force; the second export is of another type.
        self.bad(64, 'not empty', 'export', 'runs/kept', '--out', 'out')
        self.good('export', 'runs/kept/checkpoints', '--out', 'out', '--force', '--dtype', 'bf16')
        halves = read_safetensors(self.where / 'out/model.safetensors')
        for name, (_, shape, content) in self.tensors.items():
            top = b''.join(content[i + 2:i + 4] for i in range(0, len(content), 4))  # exact here
            self.assertEqual(halves[name], ('BF16', shape, top))

    def test_shards_there_and_back(self):
        self.imported()
        self.good('export', 'runs/kept', '--out', 'out')
        text = self.good('export', 'runs/kept', '--out', 'out', '--force', '--max-shard-size', '2KB')
        self.assertIn('shards', text)
        said = json.loads(self.good('export', 'runs/kept', '--out', 'out/', '--force', '--max-shard-size', '1500', '--json'))
        shards = sorted((self.where / 'out').glob('model*.safetensors'))
        self.assertEqual([s.name for s in shards],
                         [f'model-{n + 1:05}-of-{len(shards):05}.safetensors' for n in range(len(shards))])
        self.assertEqual((said['files'], said['bytes']), (len(shards), sum(s.stat().st_size for s in shards)))
        self.assertGreater(len(shards), 3)
        index = json.loads((self.where / 'out/model.safetensors.index.json').read_text())
        found = {}
        for shard in shards:
            tensors = read_safetensors(shard)
            self.assertTrue(all(index['weight_map'][name] == shard.name for name in tensors))
            self.assertTrue(len(tensors) == 1 or sum(len(c) for _, _, c in tensors.values()) <= 1500)
            found.update(tensors)
        self.assertEqual(found, self.tensors)
        self.assertEqual(index['metadata']['total_size'], sum(len(c) for _, _, c in self.tensors.values()))
        # What inspect says of it, by its folder and by its index.
        for path in ('out', 'out/model.safetensors.index.json', 'out/tessera.json'):
            seen = json.loads(self.good('inspect', path, '--json'))
            self.assertEqual([f['file'] for f in seen['files']], [s.name for s in shards])
            self.assertEqual((seen['kind'], seen['bytes'], seen['step']), ('export', said['bytes'], 0))
            self.assertEqual({x['name'] for x in seen['tensors']}, set(shapes()))
            self.assertTrue(seen['tokenizer'])
        self.assertIn(f'in {len(shards)} shards', self.good('inspect', 'out'))
        again = json.loads(self.good('import', 'out', '--run', 'again', '--json'))
        self.good('export', again['run'], '--out', 'single')
        self.assertEqual(read_safetensors(self.where / 'single/model.safetensors'), self.tensors)
        # And over it a single file: nothing of the shards is left.
        self.good('export', 'runs/kept', '--out', 'out', '--force')
        self.assertEqual(sorted(f.name for f in (self.where / 'out').iterdir()),
                         ['config.json', 'model.safetensors', 'tessera.json', 'tokenizer.json'])

    def test_shards_that_are_refused(self):
        self.imported()
        for size in ('0', '-5', '5XB', 'many', '99999999TB'):
            result = t.run('export', 'runs/kept', '--out', 'no', '--max-shard-size', size, cwd=self.where)
            self.assertEqual(result.returncode, 64, size)
            self.assertIn('--max-shard-size', result.stderr)
        self.assertFalse((self.where / 'no').exists())
        self.bad(64, 'holds a checkpoint', 'export', 'runs/kept', '--out', 'runs/kept/checkpoints/step-00000000', '--force')
        self.good('export', 'runs/kept', '--out', 'out', '--max-shard-size', '1500')
        index = self.where / 'out/model.safetensors.index.json'
        text = index.read_text()
        index.unlink()
        self.bad(65, 'one shard of several, but no model.safetensors.index.json', 'import', 'out', '--run', 'x')
        self.bad(65, 'one shard of several', 'inspect', 'out')
        index.write_text(text)
        shard = sorted((self.where / 'out').glob('model-*'))[1]
        content = shard.read_bytes()
        shard.unlink()
        self.bad(65, f'{shard.name}: is missing', 'import', 'out', '--run', 'x')
        shard.write_bytes(content[:-1])
        self.bad(65, 'truncated or damaged', 'inspect', index)
        shard.write_bytes(content)
        (self.where / 'out/model.safetensors').write_bytes(content)
        self.bad(65, 'holds both', 'import', 'out', '--run', 'x')
        (self.where / 'out/model.safetensors').unlink()
        # Tensors of another model than the one described: inspect says so, and what it found.
        own = self.where / 'out/tessera.json'
        own.write_text(own.read_text().replace('"layers": 2', '"layers": 3'))
        self.bad(65, 'missing: gpt_neox.layers.2.', 'inspect', 'out')
        self.assertFalse((self.where / 'runs/x/checkpoints/step-00000000').exists())

    def test_requests_of_token_ids(self):
        """Any split of the same ids gives the same sum; what does not fit is refused by file and line."""
        self.write_config()
        (self.source / 'tokenizer.json').unlink()
        self.imported()
        requests, items = self.where / 'requests.jsonl', self.where / 'items.jsonl'
        ids = [3, 1, 4, 1, 5, 9, 2, 6]
        requests.write_text(''.join(json.dumps({'context': ids[:n], 'continuation': ids[n:]}) + '\n' for n in (1, 3)) +
                            json.dumps({'context': ids[:1], 'continuation': ids[1:3], 'note': 'left alone'}) + '\n')
        said = json.loads(self.good('eval', 'runs/kept', '--requests', requests, '--items', items, '--json'))
        found = [json.loads(line) for line in items.read_text().splitlines()]
        self.assertEqual([x['scored'] for x in found], [7, 5, 2])
        whole, end, begin = (x['log_likelihood'] for x in found)
        self.assertLess(whole, -7)
        self.assertAlmostEqual(whole, end + begin, 4)
        self.assertAlmostEqual(said['loss'], -(whole + end + begin) / 14, 6)
        self.assertEqual(said['items'], 3)
        again = self.where / 'again.jsonl'
        self.good('eval', 'runs/kept', '--requests', items, '--items', again)  # items are requests
        self.assertEqual([json.loads(x)['log_likelihood'] for x in again.read_text().splitlines()], [whole, end, begin])
        for text, fragment in (('{"context": [1]}', '"continuation" must be a list'), ('[1]', 'a JSON object'),
                               ('{"context": [], "continuation": [1]}', '"context" has no tokens'),
                               ('{"context": [1], "continuation": [20]}', 'token 20 lies outside'),
                               ('{"context": [1], "continuation": [1.5]}', 'whole numbers'), ('', 'no requests')):
            requests.write_text('{"context": [1], "continuation": [2]}\n' + text + '\n' if text else text)
            self.bad(65, fragment, 'eval', 'runs/kept', '--requests', requests)
            if text:
                self.bad(65, 'requests.jsonl:2', 'eval', 'runs/kept', '--requests', requests)
        self.bad(74, 'absent.jsonl', 'eval', 'runs/kept', '--requests', 'absent.jsonl')

    def test_inspect_says_what_is_there(self):
        self.imported()
        run = json.loads(self.good('inspect', 'runs/kept', '--verify', '--json'))
        self.assertEqual([c['step'] for c in run['checkpoints']], [0])
        step = 'runs/kept/checkpoints/step-00000000'
        one = json.loads(self.good('inspect', step, '--verify', '--json'))
        self.assertEqual({x['name']: x['shape'] for x in one['tensors']}, shapes())
        self.assertIn('gpt_neox.layers.*.mlp.dense_h_to_4h.weight', self.good('inspect', step))
        part = json.loads(self.good('inspect', step + '/part-00000.safetensors', '--json'))
        self.assertEqual(len(part['tensors']), 3 * len(shapes()))
        foreign = json.loads(self.good('inspect', 'foreign', '--json'))
        self.assertEqual(foreign['model']['context'], CONTEXT)
        self.assertEqual({x['name'] for x in foreign['tensors']}, set(shapes()))
        raw = json.loads(self.good('inspect', 'foreign/model.safetensors', '--json'))
        self.assertEqual(len(raw['tensors']), len(shapes()) + 1)
        tokenizer = json.loads(self.good('inspect', 'foreign/tokenizer.json', '--json'))
        self.assertEqual((tokenizer['vocab_size'], tokenizer['end_of_text']), (257, 256))

    def test_inspect_finds_damage(self):
        self.imported()
        step = self.where / 'runs/kept/checkpoints/step-00000000'
        part = step / 'part-00000.safetensors'
        content = bytearray(part.read_bytes())
        content[-1] ^= 1
        part.write_bytes(content)
        self.good('inspect', step)  # sizes and headers are still right
        self.bad(65, 'SHA-256 differs', 'inspect', step, '--verify')
        self.bad(65, 'SHA-256 differs', 'inspect', 'runs/kept', '--verify')
        self.bad(65, 'verifies', 'export', 'runs/kept', '--out', 'out')
        part.write_bytes(content[:-1])
        self.bad(65, 'truncated', 'inspect', step)
        self.bad(64, 'does not exist', 'inspect', 'absent')
        self.bad(64, 'none of the', 'inspect', '.')

    def test_cases(self):
        cases = self.where / 'cases.jsonl'
        cases.write_text('{"text": "ab", "ids": [97, 98]}\n')
        self.good('inspect', 'foreign/tokenizer.json', '--cases', cases)
        self.good('inspect', 'bytes', '--cases', cases)
        cases.write_text('{"text": "ab", "ids": [97, 98]}\n{"text": "c", "ids": [1]}\n')
        self.bad(65, 'line 2', 'inspect', 'bytes', '--cases', cases)
        self.bad(64, '--cases is for tokenizers', 'inspect', 'foreign', '--cases', cases)

    def test_import_refuses_what_does_not_fit(self):
        self.write_config(hidden_act='relu')
        self.bad(65, 'hidden_act', 'import', 'foreign', '--run', 'kept')
        self.write_config(num_hidden_layers=3)
        self.bad(65, 'missing: gpt_neox.layers.2.', 'import', 'foreign', '--run', 'kept')
        self.write_config()
        self.bad(64, 'model.width: the files have 8, the configuration 16', 'import', 'foreign',
                 'model.width=16')
        self.bad(64, 'does not exist', 'import', 'absent')
        self.imported()
        self.bad(64, 'choose another run', 'import', 'foreign', '--run', 'kept')

    def test_import_with_a_configuration(self):
        config = self.where / 'mine.yaml'
        config.write_text('''run: {name: mine}
model: {kind: vanilla, vocab: 20, width: 8, heads: 2, layers: 2, context: 8, rotary_pct: 0.5}
train: {steps: 50, global_batch: 4, micro_batch: 2}
optimizer: {warmup: 5}
''')
        for name in ('config.json', 'tokenizer.json'):  # then the configuration alone describes it
            (self.source / name).unlink()
        self.good('import', 'foreign', config, 'train.steps=60')
        self.assertIn('steps: 60', (self.where / 'runs/mine/config.yaml').read_text())
        self.bad(64, 'holds neither tessera.json nor config.json', 'import', 'foreign')


if __name__ == '__main__':
    t.main()
