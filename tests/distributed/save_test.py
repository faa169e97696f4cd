"""Saves behind training: what metrics.jsonl says of them, and what a disk that fails on one rank does to a run."""
import pathlib, resource, sys, time, unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / 'support'))
import tessera_run as t

LIMIT = 100_000  # bytes a file: less than a part, more than a log


def limit_files(pid, limit):
    _, hard = resource.prlimit(pid, resource.RLIMIT_FSIZE)
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (limit, hard))


class Save(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.where = t.folder('save')
        cls.data = t.prepare(cls.where)

    def words(self, name, *more):
        return t.write_config(self.where / 'config.yaml', self.data) + [f'run.name={name}', *more]

    def wait(self, process, condition, what):
        limit = time.time() + 60
        while not condition():
            self.assertIsNone(process.poll(), f'the run ended while waiting for {what}')
            self.assertLess(time.time(), limit, what)
            time.sleep(0.01)

    def saves(self, run):
        return t.metrics(run, 'checkpoint') if (run / 'metrics.jsonl').exists() else []

    def test_lines_of_saves_and_the_same_losses_whatever_is_saved(self):
        for name, every in (('often', 1), ('seldom', 0)):
            result = t.run('train', *self.words(name, f'checkpoint.every={every}'), ranks=2)
            self.assertEqual(result.returncode, 0, result.stderr)
        self.assertEqual(t.losses(self.where / 'often'), t.losses(self.where / 'seldom'))
        often = self.saves(self.where / 'often')
        self.assertEqual([s['step'] for s in often], list(range(1, 41)))
        self.assertEqual([s['step'] for s in self.saves(self.where / 'seldom')], [40])
        for s in often:
            self.assertLess(0, s['staged'])
            self.assertLess(s['staged'], s['durable'])
            self.assertLessEqual(s['step'], s['durable_at_step'])
            self.assertTrue(s['path'].endswith(f'/checkpoints/step-{s["step"]:08d}'))
        left = sorted(p.name for p in (self.where / 'often/checkpoints').iterdir())
        self.assertEqual(left, ['step-00000039', 'step-00000040'])

    def test_failed_saves_are_told_and_training_goes_on_until_the_third(self):
        run = self.where / 'failing'
        process = t.start('train', *self.words('failing', 'train.steps=1000000', 'checkpoint.every=300'), ranks=2)
        good = lambda: [s for s in self.saves(run) if 'path' in s]
        bad = lambda: [s for s in self.saves(run) if 'failed' in s]
        self.wait(process, good, 'a first save')
        rank = t.ranks_of('failing')[1]
        limit_files(rank, LIMIT)
        self.wait(process, bad, 'a failed save')
        limit_files(rank, resource.RLIM_INFINITY)
        reason = bad()[0]['failed']
        self.assertIn('part-00001.safetensors', reason)
        self.assertIn('File too large', reason)
        before = len(good())
        self.wait(process, lambda: len(good()) > before, 'a save after the failed one')
        limit_files(rank, LIMIT)
        self.assertEqual(process.wait(60), 74)
        steps = [s['step'] for s in bad()[-3:]]
        self.assertEqual(steps, [steps[0], steps[0] + 300, steps[0] + 600])
        self.assertIn('newest complete one is', (run / 'exit.json').read_text())
        # The last good one is whole, nothing else is left, and the run goes on from there.
        newest = good()[-1]['step']
        self.assertLess(newest, steps[0])
        names = [p.name for p in (run / 'checkpoints').iterdir()]
        self.assertFalse([name for name in names if name.endswith('.tmp')])
        result = t.run('train', *self.words('failing', 'train.steps=1000000', f'train.stop_at={newest + 5}'), ranks=2)
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertIn(f'(step {newest})', result.stdout)


if __name__ == '__main__':
    t.main()
