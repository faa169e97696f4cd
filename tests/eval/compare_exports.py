"""Exports and imports against transformers' GPTNeoXForCausalLM and a PyTorch reference of the block
model, both ways: the log-probability of every token of the vocabulary behind contexts of many lengths.

    python3 compare_exports.py BUILD_DIR [unittest arguments]

Prints a line of JSON a comparison. Tessera computes with --device cpu, or what TESSERA_DEVICE says. Ends
with 77 (skipped) where torch, safetensors or transformers are missing."""
import json, os, pathlib, sys, unittest

os.environ['HF_HUB_OFFLINE'] = '1'
try:
    import torch
    import transformers
    from safetensors.torch import save_file
    from reference_models import Block, Vanilla, load_reference, tensors_of
except ImportError as missing:
    print(f'skipped: {missing}')
    sys.exit(77)
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / 'support'))
import tessera_run as t

CLOSE = 1e-5  # of log-probabilities in nats, float32 on both sides
CONTEXT = 48
LENGTHS = (1, 2, 3, 4, 5, 8, 13, 24, 31, 40, 47, 48)
# Nothing at its default, so that a key that is read wrongly shows.
SHAPE = {'width': 48, 'heads': 3, 'rotary_pct': 0.5, 'rotary_base': 3000.0, 'eps': 2e-5, 'ffn_mult': 3,
         'context': CONTEXT}
TYPES = {'f32': torch.float32, 'bf16': torch.bfloat16, 'f16': torch.float16}
DEVICE = os.environ.get('TESSERA_DEVICE', 'cpu')


def contexts(vocab):
    generator = torch.Generator().manual_seed(5)
    return [torch.randint(vocab, (length,), generator=generator).tolist() for length in LENGTHS]


def spread_out(model, seed=3):
    """Random weights that make a model say something: scores of several nats, no norm or bias at rest."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, p in model.named_parameters():
            noise = torch.randn(p.shape, generator=generator)
            p.copy_(1 + 0.2 * noise if 'norm' in name and name.endswith('weight') else
                    0.2 * noise if name.endswith(('embed_out.weight', 'lm_head.weight')) else 0.1 * noise)
    return model


def same_bits(found, wanted):
    """Names, types, shapes and every bit of two sets of tensors."""
    assert found.keys() == wanted.keys(), found.keys() ^ wanted.keys()
    for name, x in wanted.items():
        y = found[name]
        assert (x.dtype, x.shape) == (y.dtype, y.shape), name
        assert torch.equal(x.contiguous().view(torch.uint8), y.contiguous().view(torch.uint8)), name


class Exports(unittest.TestCase):
    def setUp(self):
        self.where = t.folder('compare-exports-' + self.id().rsplit('_', 1)[-1])

    def good(self, *words):
        result = t.run(*words, cwd=self.where)
        self.assertEqual(result.returncode, 0, f'{words}\n{result.stdout}{result.stderr}')
        return result.stdout

    def trained(self, kind):
        """A run of a few steps."""
        data = t.prepare(self.where)
        shape = {'model.' + key: value for key, value in SHAPE.items()}
        words = t.write_config(self.where / 'config.yaml', data, kind, **shape, **{
            'optimizer.lr': 2e-2, 'optimizer.warmup': 2, 'train.steps': 12})
        self.good('train', *words)
        return self.where / 'run'

    def scores(self, run, vocab, padding):
        """[contexts, V]; rows of None where block models score nothing."""
        requests, items = self.where / 'requests.jsonl', self.where / 'items.jsonl'
        asked = [(c, v) for c in contexts(vocab) for v in range(vocab)]
        requests.write_text(''.join(json.dumps({'context': c, 'continuation': [v]}) + '\n' for c, v in asked))
        self.good('eval', run, '--requests', requests, '--items', items, '--padding', padding, '--device', DEVICE,
                  '--precision', 'fp32')
        lines = [json.loads(line) for line in items.read_text().splitlines()]
        self.assertEqual([(x['context'], x['continuation'][0]) for x in lines], asked)
        self.assertEqual(len({x['scored'] for x in lines} - {0, 1}), 0)
        return [None if not lines[at]['scored'] else
                torch.tensor([x['log_likelihood'] for x in lines[at:at + vocab]], dtype=torch.float64)
                for at in range(0, len(lines), vocab)]

    @torch.inference_mode()
    def difference(self, run, model, vocab, padding='no-pad'):
        """-> the largest difference of a log-probability, how many were compared, their deviation"""
        worst, compared = 0.0, []
        for context, found in zip(contexts(vocab), self.scores(run, vocab, padding)):
            logits, targets = model(context, [0])
            self.assertEqual(found is not None, len(targets) == 1, context)
            if found is None:
                continue
            wanted = logits[0].log_softmax(-1).cpu()
            worst = max(worst, (found - wanted).abs().max().item())
            compared.append(wanted)
        compared = torch.stack(compared)
        return worst, compared.numel(), compared.std().item()

    def compare(self, what, run, model, vocab, padding='no-pad'):
        worst, number, deviation = self.difference(run, model, vocab, padding)
        print(json.dumps({'compared': what, 'log_probabilities': number, 'largest_difference': worst,
                          'deviation': round(deviation, 2), 'torch': torch.__version__,
                          'transformers': transformers.__version__}), flush=True)
        self.assertLess(worst, CLOSE, what)
        self.assertGreater(deviation, 0.8, 'the model says nothing')

    # --- vanilla, out ---------------------------------------------------------------------------
    def test_transformers_reads_exports(self):
        run = self.trained('vanilla')
        for name, dtype in TYPES.items():
            single, sharded = self.where / name, self.where / (name + '-sharded')
            self.good('export', run, '--out', single, '--dtype', name)
            self.good('export', run, '--out', sharded, '--dtype', name, '--max-shard-size', '30KB')
            self.assertGreater(len(list(sharded.glob('model-*.safetensors'))), 2)
            same_bits(tensors_of(sharded), tensors_of(single))
            loaded, report = transformers.GPTNeoXForCausalLM.from_pretrained(sharded, dtype='auto', output_loading_info=True)
            self.assertEqual(loaded.dtype, dtype)
            self.assertFalse(any(report.values()), report)
            same_bits({k.replace('lm_head', 'embed_out'): v for k, v in loaded.state_dict().items()},  # its name in memory
                      tensors_of(single))
            # What 16 bits left over is compared with an import of it.
            model, vocab = Vanilla(sharded), loaded.config.vocab_size
            if name != 'f32':
                self.good('import', sharded, '--run', 'again-' + name)
                run_of_type = self.where / 'runs' / ('again-' + name)
            self.compare(f'vanilla, exported as {name} in shards', run if name == 'f32' else run_of_type, model, vocab)
        self.assertGreater(self.difference(run, Vanilla(self.where / 'bf16'), vocab)[0], 1e-4)  # it can fail

    def test_shards_are_those_of_transformers(self):
        run = self.trained('vanilla')
        ours, theirs = self.where / 'ours', self.where / 'theirs'
        self.good('export', run, '--out', ours, '--max-shard-size', '30KB')
        transformers.GPTNeoXForCausalLM.from_pretrained(ours).save_pretrained(theirs, max_shard_size='30KB')
        same_bits(tensors_of(theirs), tensors_of(ours))
        a, b = (json.loads((f / 'model.safetensors.index.json').read_text()) for f in (ours, theirs))
        for key in b['metadata']:
            self.assertEqual(a['metadata'][key], b['metadata'][key])
        self.assertEqual(a['weight_map'].keys(), b['weight_map'].keys())

    # --- vanilla, in ----------------------------------------------------------------------------
    def test_imports_of_what_transformers_saved(self):
        vocab = 101
        config = transformers.GPTNeoXConfig(
            vocab_size=vocab, hidden_size=SHAPE['width'], num_hidden_layers=3, num_attention_heads=SHAPE['heads'],
            intermediate_size=SHAPE['ffn_mult'] * SHAPE['width'], max_position_embeddings=CONTEXT,
            layer_norm_eps=SHAPE['eps'], rotary_pct=SHAPE['rotary_pct'], rotary_emb_base=SHAPE['rotary_base'],
            bos_token_id=0, eos_token_id=0)
        original = spread_out(transformers.GPTNeoXForCausalLM(config))
        for name, dtype in TYPES.items():
            for shards in ('10GB', '40KB'):
                what = f'{name}-{shards}'
                saved = self.where / what
                original.to(dtype).save_pretrained(saved, max_shard_size=shards)
                self.assertEqual((saved / 'model.safetensors').exists(), shards == '10GB')
                self.good('import', saved, '--run', what)
                self.compare(f'vanilla, saved by transformers as {name}, shards of {shards}',
                             self.where / 'runs' / what, Vanilla(saved), vocab)
                self.good('export', self.where / 'runs' / what, '--out', self.where / (what + '-again'), '--dtype', name)
                same_bits(tensors_of(self.where / (what + '-again')), tensors_of(saved))
        # A rotary base that is read wrongly would show.
        wrong = json.loads((saved / 'config.json').read_text())
        (wrong.get('rope_parameters') or wrong)['rope_theta' if 'rope_parameters' in wrong else 'rotary_emb_base'] = 2000.0
        (saved / 'config.json').write_text(json.dumps(wrong))
        self.assertGreater(self.difference(self.where / 'runs' / what, Vanilla(saved), vocab)[0], 1e-3)

    # --- block ----------------------------------------------------------------------------------
    def test_blocks_against_the_reference(self):
        module, vocab = load_reference(), 101
        for length, prefix, embedder in ((4, 2, 'concat'), (3, 1, 'concat'), (1, 3, 'concat'), (4, 1, 'projection'),
                                         (3, 2, 'projection')):
            name = f'L{length}P{prefix}{embedder}'
            model = spread_out(module.build(module.Config(
                vocab=vocab, width=SHAPE['width'], heads=SHAPE['heads'], block_layers=2, token_layers=2,
                block_length=length, prefix=prefix, rotary_pct=SHAPE['rotary_pct'], rotary_base=SHAPE['rotary_base'],
                eps=SHAPE['eps'], ffn_mult=SHAPE['ffn_mult'], projection=embedder == 'projection')))
            saved = self.where / name
            saved.mkdir()
            published = {k: v.contiguous() for k, v in model.state_dict().items()}
            dead = {'block_decoder.gpt_neox.embed_in.weight': torch.ones(vocab, SHAPE['width'])}
            save_file({**published, **dead}, saved / 'model.safetensors')
            (self.where / 'config.yaml').write_text('\n'.join([
                f'run: {{name: {name}}}', f'model: {{kind: block, vocab: {vocab}, block_layers: 2, token_layers: 2, '
                f'block_length: {length}, prefix: {prefix}, embedder: {embedder}, ' +
                ', '.join(f'{k}: {v}' for k, v in SHAPE.items()) + '}',
                'train: {steps: 10, global_batch: 4, micro_batch: 2}', 'optimizer: {warmup: 1}']))
            self.good('import', saved, self.where / 'config.yaml')
            run, out = self.where / 'runs' / name, self.where / (name + '-out')
            self.good('export', run, '--out', out, '--max-shard-size', '40KB')
            self.assertFalse((out / 'model.safetensors').exists())
            same_bits(tensors_of(out), published)
            for padding in ('no-pad', 'pad'):
                self.compare(f'block, L_B {length}, prefix {prefix}, {embedder}, {padding}', run,
                             Block(out, padding=padding), vocab, padding)

    def test_a_trained_block_model_in_16_bits(self):
        run, out = self.trained('block'), self.where / 'bf16'
        self.good('export', run, '--out', out, '--dtype', 'bf16', '--max-shard-size', '20KB')
        (out / 'tokenizer.json').unlink()  # padding is by id 0, as the reference has it
        self.good('import', out, '--run', 'again')
        self.compare('block, exported as bf16 in shards', self.where / 'runs/again', Block(out), 257)


if __name__ == '__main__':
    t.main()
