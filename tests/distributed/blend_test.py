"""A blend of corpora of different sizes in the trainer: the same samples in every layout and after a resume at any step,
and what the run says of each corpus."""
import json, pathlib, sys, unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / 'support'))
import tessera_run as t

WEIGHTS = {'large': 5, 'middle': 3, 'small': 2}
DOCUMENTS = {'large': 70, 'middle': 25, 'small': 2}
STEPS, BATCH = 24, 8
LAYOUTS = {'DP2': (2, []), 'DP4': (4, []), 'PP2': (2, ['parallel.pipeline=2']),
           'DP2 x PP2': (4, ['parallel.pipeline=2'])}


class Blend(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.where = t.folder('blend')
        for seed, (name, count) in enumerate(DOCUMENTS.items()):
            source = cls.where / f'{name}.jsonl'
            # One corpus has a vocabulary of its own: another mixture is another loss.
            documents = (d.upper() if name == 'middle' else d for d in t.text_documents(count, seed + 1))
            source.write_text(''.join(json.dumps({'text': d}) + '\n' for d in documents))
            result = t.run('prepare', source, '--tokenizer', 'bytes', '--out', cls.where / name,
                           '--shard-tokens', '4000')
            assert result.returncode == 0, result.stderr
        cls.folders = {name: cls.where / name for name in WEIGHTS}
        cls.alone = cls.train('alone')

    @classmethod
    def train(cls, name, *overrides, ranks=0, stop_at=STEPS, weights=WEIGHTS):
        sources = ', '.join(f'{{path: {cls.folders[k]}, weight: {w}}}' for k, w in weights.items())
        words = t.write_config(cls.where / 'config.yaml', 'none')
        result = t.run('train', *words, f'data.train=[{sources}]', 'data.valid=[]', f'run.name={name}',
                       f'train.steps={STEPS}', f'train.global_batch={BATCH}', 'train.micro_batch=1',
                       'optimizer.warmup=4', 'optimizer.lr=0.01', f'train.stop_at={stop_at}', 'checkpoint.every=7',
                       *overrides, ranks=ranks)
        assert result.returncode == 0, result.stdout + result.stderr
        cls.said = result.stdout + result.stderr
        return t.losses(cls.where / name)

    def assert_near(self, found, expected):
        self.assertEqual(len(found), len(expected))
        for a, b in zip(found, expected):
            self.assertAlmostEqual(a / b, 1, 5)

    def test_every_layout_sees_the_same_samples(self):
        for name, (ranks, layout) in LAYOUTS.items():
            with self.subTest(name):
                self.assert_near(self.train(name.replace(' ', '-'), *layout, ranks=ranks), self.alone)

    def test_losses_tell_samples_apart(self):
        """Else the others could not fail: slightly different weights are other losses from the first change on."""
        other = self.train('other', weights=dict(WEIGHTS, small=3), stop_at=3)
        for a, b in zip(other, self.alone):
            self.assertGreater(abs(a / b - 1), 1e-4)

    def test_a_resume_at_any_step_goes_on_with_the_next_sample(self):
        for stop in range(1, STEPS, 4):
            self.train(f'stopped-{stop}', stop_at=stop)
            self.assertEqual(self.train(f'stopped-{stop}'), self.alone)
        # On another number of ranks each time.
        for ranks, stop in ((2, 5), (4, 11), (0, 17)):
            self.train('moved', ranks=ranks, stop_at=stop)
        self.assert_near(self.train('moved', ranks=2), self.alone)

    def test_the_run_tells_what_each_corpus_gave(self):
        inspected = {}
        for name, folder in self.folders.items():
            result = t.run('inspect', folder, '--json')
            self.assertEqual(result.returncode, 0, result.stderr)
            inspected[name] = json.loads(result.stdout)['tokens'] // 64
        saves = t.metrics(self.where / 'alone', 'checkpoint')
        self.assertEqual([m['step'] for m in saves], [7, 14, 21, 24])
        for save in saves:
            positions = save['step'] * BATCH
            self.assertEqual([d['path'] for d in save['data']], [str(self.folders[k]) for k in WEIGHTS])
            self.assertEqual(sum(d['samples'] for d in save['data']), positions)
            for d, (name, weight) in zip(save['data'], WEIGHTS.items()):
                self.assertLess(abs(d['samples'] - weight / 10 * positions), 1)
                self.assertAlmostEqual(d['epochs'], d['samples'] / inspected[name])
        self.assertGreater(saves[-1]['data'][2]['epochs'], 2)  # the small corpus came round
        self.train('alone')  # nothing is left to do; the end is told once more
        for d in saves[-1]['data']:
            self.assertIn(f'{d["path"]}: {d["samples"]} samples', self.said)


if __name__ == '__main__':
    t.main()
