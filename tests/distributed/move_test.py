"""Checkpoints move between layouts: saved on each, resumed on each."""
import pathlib, shutil, sys, unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / 'support'))
import tessera_run as t

COMMON = ['train.micro_batch=1', 'checkpoint.every=0']
LAYOUTS = {  # name -> ranks, overrides
    'single': (1, []),
    'DP2': (2, []),
    'DP2 zero off': (2, ['parallel.zero=0']),
    'PP2': (2, ['parallel.pipeline=2']),
    'DP2xPP2': (4, ['parallel.pipeline=2', 'parallel.order=data_first']),
    'interleaved': (2, ['parallel.pipeline=2', 'parallel.virtual_stages=2', 'parallel.schedule=interleaved']),
}
SAVED, STEPS = 20, 30


class Move(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.where = t.folder('move')
        cls.data = t.prepare(cls.where)

    def train(self, name, layout, stop_at=STEPS):
        ranks, overrides = LAYOUTS[layout]
        words = t.write_config(self.where / 'config.yaml', self.data)
        result = t.run('train', *words, f'run.name={name}', *COMMON, *overrides, f'train.stop_at={stop_at}', ranks=ranks)
        self.assertEqual(result.returncode, 0, result.stdout + result.stderr)
        return t.losses(self.where / name)

    def test_every_layout_goes_on_from_every_layout(self):
        straight, worst = {}, 0.0
        for layout in LAYOUTS:
            name = layout.replace(' ', '-')
            straight[layout] = self.train(f'straight-{name}', layout)
            self.train(f'saved-{name}', layout, SAVED)
        for saved in LAYOUTS:
            for resumed in LAYOUTS:
                with self.subTest(saved=saved, resumed=resumed):
                    name = f'{saved} to {resumed}'.replace(' ', '-')
                    shutil.copytree(self.where / f'saved-{saved.replace(" ", "-")}', self.where / name)
                    found = self.train(name, resumed)
                    self.assertEqual(len(found), STEPS)
                    if saved == resumed:
                        self.assertEqual(found, straight[saved])
                        continue
                    for a, b in zip(found[SAVED:], straight[saved][SAVED:]):
                        worst = max(worst, abs(a - b) / b)
                        self.assertLess(abs(a - b), 1e-6 * b)
                    shutil.rmtree(self.where / name)
        print(f'largest relative difference over {len(LAYOUTS)} x {len(LAYOUTS)} moves: {worst:.2e}')


if __name__ == '__main__':
    t.main()
