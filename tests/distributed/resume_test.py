"""Stopped and moved runs: the loss sequence of a resumed run is that of an unbroken one."""
import os, pathlib, signal, sys, time, unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / 'support'))
import tessera_run as t


class Resume(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.where = t.folder('resume')
        cls.data = t.prepare(cls.where)

    def train(self, name, ranks, *more, kind='block', config='config.yaml', code=0):
        words = t.write_config(self.where / config, self.data, kind)
        result = t.run('train', *words, f'run.name={name}', *more, ranks=ranks)
        self.assertEqual(result.returncode, code, result.stdout + result.stderr)
        return result

    def straight(self, name, ranks, *more, kind='block'):
        self.train(name, ranks, *more, kind=kind)
        return t.losses(self.where / name)

    def test_other_rank_count_equals_to_a_millionth(self):
        expected = self.straight('ranks-1', 1, 'train.steps=220')
        self.train('ranks-moved', 1, 'train.steps=220', 'train.stop_at=20')
        self.train('ranks-moved', 4, 'train.steps=220')
        found = t.losses(self.where / 'ranks-moved')
        self.assertEqual(found[:20], expected[:20])
        worst = max(abs(a - b) / b for a, b in zip(found, expected))
        print(f'largest relative difference, 1 -> 4 ranks, 200 steps: {worst:.2e}')
        self.assertLess(worst, 1e-6)

    def test_accumulation_equals_one_large_micro_batch(self):
        a = self.straight('accumulate-1', 1, 'train.micro_batch=2')
        b = self.straight('accumulate-4', 1, 'train.micro_batch=8')
        self.assertLess(max(abs(x - y) / y for x, y in zip(a, b)), 1e-6)

    def test_zero_recomputation_and_evaluation_change_nothing(self):
        expected = self.straight('plain', 2)
        sharded = self.straight('zero-off', 2, 'parallel.zero=0')
        self.assertLess(max(abs(x - y) / y for x, y in zip(sharded, expected)), 1e-6)
        self.assertEqual(self.straight('recompute', 2, 'train.recompute=layer'), expected)
        self.assertEqual(self.straight('evaluated', 2, 'eval.every=7'), expected)
        self.assertEqual(len(t.metrics(self.where / 'evaluated', 'eval')), 6)

    def test_stop_file_and_signal_save_and_exit_75(self):
        for how in ('file', 'signal'):
            with self.subTest(how=how):
                run = self.where / f'stopped-{how}'
                words = t.write_config(self.where / 'config.yaml', self.data)
                words += ['train.steps=1000000', 'checkpoint.every=0']
                process = t.start('train', *words, f'run.name={run.name}', ranks=2)
                while not (run / 'metrics.jsonl').exists() or not t.metrics(run):
                    self.assertIsNone(process.poll())
                    time.sleep(0.01)
                if how == 'file':
                    (run / 'stop').touch()
                else:
                    os.kill(process.pid, signal.SIGUSR1)  # mpirun hands it to the ranks
                self.assertEqual(process.wait(120), 75)
                done = len(t.losses(run))
                self.assertTrue((run / f'checkpoints/step-{done:08d}/manifest.json').exists())
                self.assertFalse((run / 'stop').exists())
                words.append(f'train.stop_at={done + 30}')
                for name in (run.name, f'unstopped-{how}'):
                    result = t.run('train', *words, f'run.name={name}', ranks=2)
                    self.assertEqual(result.returncode, 0, result.stderr)
                self.assertEqual(t.losses(run), t.losses(self.where / f'unstopped-{how}'))

    def test_torn_metrics_and_damaged_checkpoint(self):
        expected = self.straight('undamaged', 1)
        run = self.where / 'damaged'
        self.train('damaged', 1, 'train.stop_at=20')
        with open(run / 'metrics.jsonl', 'a') as file:
            file.write('{"kind": "step", "step": 21, "loss"')
        part = run / 'checkpoints/step-00000020/part-00000.safetensors'
        bytes_ = bytearray(part.read_bytes())
        bytes_[len(bytes_) // 2] ^= 1
        part.write_bytes(bytes_)
        refused = self.train('damaged', 1, '--no-fallback', code=65)
        self.assertIn('step-00000020: part-00000.safetensors: SHA-256 differs', refused.stderr)
        result = self.train('damaged', 1)
        self.assertIn('step-00000020', result.stdout)   # named as refused
        self.assertIn('step-00000015 (step 15)', result.stdout)
        self.assertEqual(t.losses(run), expected)
        for manifest in (run / 'checkpoints').glob('*/manifest.json'):
            manifest.write_text('')
        result = self.train('damaged', 1, code=65)
        self.assertIn('step-', result.stderr)
        self.train('damaged', 1, '--fresh')
        self.assertEqual(t.losses(run), expected)

    def test_what_may_change_at_a_resume(self):
        self.train('changed', 1, 'train.stop_at=10')
        refused = self.train('changed', 1, 'model.width=64', code=65)
        self.assertIn('model.width: 32 -> 64', refused.stderr)
        self.assertIn('seed: 3 -> 4', self.train('changed', 1, 'seed=4', code=65).stderr)
        other = ['optimizer.lr=0.002', 'optimizer.clip=2']
        for allowed in ([], ['optimizer.clip']):
            flagged = self.train('changed', 1, *other, *(f'--allow-change={key}' for key in allowed), code=64)
            self.assertIn('optimizer.lr: 0.001 -> 0.002', flagged.stderr)
            self.assertIn('--allow-change optimizer.lr', flagged.stderr)
            self.assertEqual('optimizer.clip: 1 -> 2' in flagged.stderr, not allowed)
        for key, why in (('model.width', 'can never change'), ('run.name', 'optimizer.lr'), ('optimizer.rl', 'data.train')):
            self.assertIn(why, self.train('changed', 1, '--allow-change', key, code=64).stderr)
        result = self.train('changed', 1, *other, 'eval.batches=1', '--allow-change', 'optimizer.lr',
                            '--allow-change', 'optimizer.clip')
        self.assertIn('changed: optimizer.lr: 0.001 -> 0.002', result.stdout)
        self.assertIn('changed: eval.batches: 0 -> 1', result.stdout)
        self.assertEqual(len(t.losses(self.where / 'changed')), 40)

    def test_second_job_is_refused(self):
        words = t.write_config(self.where / 'config.yaml', self.data)
        words += ['run.name=locked', 'train.steps=100000']
        process = t.start('train', *words)
        run = self.where / 'locked'
        while not (run / 'metrics.jsonl').exists():
            time.sleep(0.01)
        second = t.run('train', *words)
        process.kill()
        process.wait()
        self.assertEqual(second.returncode, 64)
        self.assertIn('another job', second.stderr)


if __name__ == '__main__':
    t.main()
