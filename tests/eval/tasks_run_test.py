"""Zero-shot tasks and running text as users meet them: the same scores from one process, from two
under mpirun, and from runs in every layout; clear refusals."""
import json, math, pathlib, sys, unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / 'support'))
import tessera_run as t

LAYOUTS = {'alone': (1, {}), 'DP2': (2, {}), 'PP2': (2, {'parallel.pipeline': 2}),
           'interleaved': (2, {'parallel.pipeline': 2, 'parallel.schedule': 'interleaved',
                               'parallel.virtual_stages': 2})}
MODEL = {'model.layers': 4, 'model.block_layers': 2, 'model.token_layers': 2}


class Tasks(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.where = t.folder('tasks')
        cls.data = t.prepare(cls.where)
        cls.tasks = cls.where / 'tasks'
        cls.tasks.mkdir()
        documents = list(t.text_documents(count=13, seed=5))
        words = [d.split() for d in documents]
        # 13 and 7 items: no layout's batches come out even.
        (cls.tasks / 'lambada_openai_test.jsonl').write_text(
            ''.join(json.dumps({'text': ' '.join(w[:3 + n // 3])}) + '\n' for n, w in enumerate(words)))
        (cls.tasks / 'hellaswag_val.jsonl').write_text(
            ''.join(json.dumps({'query': ' '.join(w[:2 + n]), 'gold': n % 3,
                                'choices': [' '.join(w[30 + k:32 + 2 * k]) for k in range(3)]}) + '\n'
                    for n, w in enumerate(words[:7])))
        (cls.where / 'text.txt').write_text(documents[0])

    def test_every_layout_and_every_number_of_ranks_gives_the_same(self):
        for kind in t.MODELS:
            expected = None
            for name, (ranks, layout) in LAYOUTS.items():
                if kind == 'vanilla' and name == 'alone':
                    expected = None
                where = self.where / f'{kind}-{name}'
                where.mkdir()
                config = t.write_config(where / 'config.yaml', self.data, kind, **{
                    'train.steps': 4, 'optimizer.warmup': 2, 'eval.every': 4, 'eval.task_items': 0,
                    'eval.tasks': '[lambada,hellaswag]', 'eval.task_data': self.tasks, **MODEL, **layout})
                result = t.run('train', *config, ranks=ranks)
                self.assertEqual(result.returncode, 0, result.stderr)
                lines = [m for m in t.metrics(where / 'run', 'eval') if 'task' in m]
                self.assertEqual([(m['task'], m['items']) for m in lines], [('lambada', 13), ('hellaswag', 7)])
                if expected is None:
                    expected = lines
                    self.evaluate(where / 'run', lines)
                for found, wanted in zip(lines, expected):
                    for key in wanted:
                        if isinstance(wanted[key], float):
                            self.assertAlmostEqual(found[key] / (wanted[key] or 1), bool(wanted[key]), 4,
                                                   (name, key))

    def evaluate(self, run, lines):
        """tessera eval says what the run said."""
        texts = []
        for ranks in (0, 2):
            result = t.run('eval', run, '--tasks', 'lambada,hellaswag', '--task-data', self.tasks, '--json',
                           ranks=ranks)
            self.assertEqual(result.returncode, 0, result.stderr)
            texts.append(result.stdout)
            for found, wanted in zip(map(json.loads, result.stdout.splitlines()), lines):
                self.assertEqual(found['task'], wanted['task'])
                self.assertAlmostEqual(found['acc'], wanted['acc'])
                if 'perplexity' in wanted:
                    self.assertAlmostEqual(found['perplexity'] / wanted['perplexity'], 1, 4)
        self.assertEqual(texts[0], texts[1])
        items = self.where / 'items.jsonl'
        result = t.run('eval', run, '--text', self.where / 'text.txt', '--json', '--items', items)
        self.assertEqual(result.returncode, 0, result.stderr)
        text = json.loads(result.stdout)
        requests = list(map(json.loads, items.read_text().splitlines()))
        self.assertEqual(sum(len(r['continuation']) for r in requests),
                         len((self.where / 'text.txt').read_bytes()))
        self.assertAlmostEqual(sum(r['log_likelihood'] for r in requests),
                               -text['loss'] * text['tokens'], 3)
        # One first block of four, of which end-of-text is one, for the whole text; a byte a token.
        lost = 3 if run.parent.name.startswith('block') else 0
        self.assertEqual(text['unscored_tokens'], lost)
        self.assertEqual(text['tokens'], len((self.where / 'text.txt').read_bytes()) - lost)
        self.assertGreater(len(requests), 5)
        self.assertAlmostEqual(text['bits_per_byte'], text['loss'] / math.log(2))

    def test_refusals(self):
        where = self.where / 'refused'
        where.mkdir()
        for changes, words in (({'eval.tasks': '[lambda]', 'eval.task_data': self.tasks}, 'lambada'),
                               ({'eval.tasks': '[piqa]', 'eval.task_data': self.tasks}, 'piqa_valid.jsonl'),
                               ({'eval.tasks': '[lambada]'}, 'eval.task_data')):
            config = t.write_config(where / 'config.yaml', self.data, **{'train.steps': 1, 'optimizer.warmup': 0, **changes})
            result = t.run('train', *config)
            self.assertEqual(result.returncode, 64, result.stderr)
            self.assertIn(words, result.stderr)


if __name__ == '__main__':
    t.main()
