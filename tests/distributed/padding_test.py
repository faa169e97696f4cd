"""Padded training of a block model: the same losses on every layout and after a resume; what resume refuses."""
import pathlib, sys, unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / 'support'))
import tessera_run as t

PADDED = 'data.padding=random_pad_first_block'


class Padding(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.where = t.folder('padding')
        cls.data = t.prepare(cls.where)

    def train(self, name, *overrides, ranks=0, expected=0):
        words = t.write_config(self.where / 'config.yaml', self.data)
        result = t.run('train', *words, f'run.name={name}', 'train.micro_batch=1', *overrides, ranks=ranks)
        self.assertEqual(result.returncode, expected, result.stdout + result.stderr)
        return t.losses(self.where / name) if expected == 0 else result.stderr

    def test_layouts_agree_and_resumes_are_exact(self):
        straight = self.train('single', PADDED, 'train.stop_at=12', 'eval.every=6')
        for name, ranks, overrides in [('dp2', 2, []), ('pp2', 2, ['parallel.pipeline=2'])]:
            for a, b in zip(self.train(name, PADDED, 'train.stop_at=12', *overrides, ranks=ranks), straight):
                self.assertLess(abs(a - b), 1e-6 * b)
        self.train('resumed', PADDED, 'train.stop_at=5', 'eval.every=6')
        self.assertEqual(self.train('resumed', PADDED, 'train.stop_at=12', 'eval.every=6'), straight)
        self.assertNotEqual(self.train('other', 'data.padding=pad_to_block_boundary', 'train.stop_at=12'), straight)
        # `tessera eval` cuts and masks as training's own evaluation does.
        result = t.run('eval', self.where / 'single', '--json')
        self.assertEqual(result.returncode, 0, result.stderr)
        found, own = t.json.loads(result.stdout), t.metrics(self.where / 'single', 'eval')[-1]
        self.assertEqual(found['targets'], own['targets'])
        self.assertLess(abs(found['loss'] - own['loss']), 1e-6)

    def test_padding_changes_only_on_request(self):
        self.train('plain', 'train.stop_at=3')
        refusal = self.train('plain', PADDED, 'train.stop_at=5', expected=64)
        self.assertIn('data.padding', refusal)
        self.assertEqual(len(self.train('plain', PADDED, 'train.stop_at=5', '--allow-change', 'data.padding')), 5)

    def test_vanilla_models_have_no_padding(self):
        words = t.write_config(self.where / 'vanilla.yaml', self.data, kind='vanilla')
        result = t.run('train', *words, PADDED)
        self.assertEqual(result.returncode, 64)
        self.assertIn('data.padding', result.stderr)


if __name__ == '__main__':
    t.main()
