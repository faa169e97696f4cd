"""Ranks killed and stopped under launch/supervise.sh: the job ends within the limit, says whose fault it
is, comes back, and ends with the losses of an unbroken run, bit for bit."""
import json, os, pathlib, signal, subprocess, sys, time, unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / 'support'))
import tessera_run as t

STEPS = 300
LIMIT = 2  # seconds a step may take
RANKS = 2


class Restart(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.where = t.folder('restart')
        cls.data = t.prepare(cls.where)
        words = cls.words('unbroken')
        result = t.run(*words, ranks=RANKS)
        assert result.returncode == 0, result.stdout + result.stderr
        cls.expected = t.losses(cls.where / 'unbroken')

    @classmethod
    def words(cls, name, *more):
        config = t.write_config(cls.where / 'config.yaml', cls.data)
        return ['train', *config, f'run.name={name}', f'train.steps={STEPS}', 'checkpoint.every=20',
                f'watchdog.step_seconds={LIMIT}', f'watchdog.checkpoint_seconds={LIMIT}', *more]

    def start(self, name, *more):
        """A job of `name` under supervise.sh; text() is what it has said so far."""
        self.run_folder = self.where / name
        self.output = open(self.where / (name + '.output'), 'w+')
        self.addCleanup(self.output.close)
        process = subprocess.Popen(
            [t.SOURCE / 'launch/supervise.sh', '--run', self.run_folder, '--pause', '0', '--',
             t.SOURCE / 'launch/local.sh', str(RANKS), t.PROGRAM, *self.words(name, *more)],
            env=t.ENVIRONMENT, stdin=subprocess.DEVNULL, stdout=self.output,
            stderr=subprocess.STDOUT, start_new_session=True)
        self.addCleanup(t.kill_all, str(t.PROGRAM), f'run.name={name}')
        self.addCleanup(process.kill)
        return process

    def text(self):
        self.output.seek(0)
        return self.output.read()

    def wait_for(self, what, seconds, process):
        until = time.time() + seconds
        while not what():
            self.assertIsNone(process.poll(), self.text())
            self.assertLess(time.time(), until, self.text())
            time.sleep(0.01)

    def ranks(self, name):
        """rank -> process id."""
        found = {}
        for entry in pathlib.Path('/proc').iterdir():
            try:
                if not entry.name.isdigit():
                    continue
                words = (entry / 'cmdline').read_bytes().split(b'\0')
                if words[0] != str(t.PROGRAM).encode() or f'run.name={name}'.encode() not in words:
                    continue
                for variable in (entry / 'environ').read_bytes().split(b'\0'):
                    if variable.startswith(b'OMPI_COMM_WORLD_RANK='):
                        found[int(variable.split(b'=')[1])] = int(entry.name)
            except OSError:
                pass
        return found

    def break_and_mend(self, name, rank, number):
        process = self.start(name)
        run = self.run_folder
        self.wait_for(lambda: (run / 'metrics.jsonl').exists() and len(t.metrics(run)) > STEPS // 4,
                      30, process)
        victim = self.ranks(name)[rank]
        os.kill(victim, number)
        broken = time.time()
        self.wait_for(lambda: 'attempt 1: code 70' in self.text(), LIMIT + 20, process)
        took = time.time() - broken
        print(f'{name}: attempt 1 over after {took:.1f} s')
        self.assertEqual(process.wait(60), 0, self.text())
        text = self.text()
        self.assertIn('starting again', text)
        self.assertIn('resumed from', text)
        self.assertNotIn('attempt 2', text)
        self.assertEqual(t.losses(run), self.expected)
        self.assertFalse((run / 'exit.json').exists())
        return text, took

    def test_killed_rank(self):
        for rank in range(RANKS):
            with self.subTest(rank=rank):
                text, took = self.break_and_mend(f'killed-{rank}', rank, signal.SIGKILL)
                self.assertIn('code 70 (mpirun: 137)', text)
                self.assertLess(took, LIMIT + 8)

    def test_stopped_rank(self):
        for rank in range(RANKS):
            with self.subTest(rank=rank):
                text, took = self.break_and_mend(f'stopped-{rank}', rank, signal.SIGSTOP)
                attempt = text[text.index('attempt 1: code 70'):].splitlines()[0]
                self.assertIn(f': no progress in section', attempt)
                self.assertRegex(attempt, rf'limit: rank {rank} \(\S+\) has been silent for')
                # Beside the limit: an answer waited for, the grace, mpirun's own second.
                self.assertLess(took, LIMIT + 9)
                log = (self.run_folder / f'log/rank-{1 - rank}.log').read_text()
                self.assertIn('watchdog: this rank is at ', log)

    def test_stop_on_request_is_recorded_and_final(self):
        process = self.start('asked', 'train.steps=1000000', 'checkpoint.every=0')
        run = self.run_folder
        self.wait_for(lambda: (run / 'metrics.jsonl').exists() and t.metrics(run), 30, process)
        process.terminate()
        self.assertEqual(process.wait(60), 75, self.text())
        self.assertNotIn('starting again', self.text())
        record = json.loads((run / 'exit.json').read_text())
        self.assertEqual((record['code'], record['asked'], record['rank']), (75, 'signal', 0))
        done = len(t.losses(run))
        self.assertEqual(record['step'], done)
        self.assertTrue((run / f'checkpoints/step-{done:08d}/manifest.json').exists())

    def test_stop_file_is_recorded_and_final(self):
        process = self.start('file', 'train.steps=1000000', 'checkpoint.every=0')
        self.wait_for((self.run_folder / 'metrics.jsonl').exists, 30, process)
        (self.run_folder / 'stop').touch()
        self.assertEqual(process.wait(60), 75, self.text())
        record = json.loads((self.run_folder / 'exit.json').read_text())
        self.assertEqual((record['code'], record['asked']), (75, 'file'))

    def test_errors_are_recorded_with_their_sentence(self):
        run = self.where / 'damaged'
        first = t.run(*self.words('damaged', 'train.stop_at=20'), ranks=RANKS)
        self.assertEqual(first.returncode, 0, first.stderr)
        self.assertFalse((run / 'exit.json').exists())
        for manifest in (run / 'checkpoints').glob('*/manifest.json'):
            manifest.write_text('')
        process = self.start('damaged')
        self.assertEqual(process.wait(60), 65, self.text())
        self.assertNotIn('starting again', self.text())
        record = json.loads((run / 'exit.json').read_text())
        self.assertEqual((record['code'], record['section']), (65, 'resume'))
        self.assertIn('step-', record['reason'])
        # Refused before the folder is open: no record, and none of an earlier job is left.
        refused = t.run(*self.words('damaged', 'model.width=33'))
        self.assertEqual(refused.returncode, 64)

    def test_hang_at_the_start_ends_by_its_own_limit(self):
        # A rank alone, whose start takes longer than it may.
        words = self.words('slow-start', 'watchdog.start_seconds=0.001')
        result = t.run(*words)
        self.assertEqual(result.returncode, 70, result.stdout + result.stderr)
        self.assertIn('no progress in section start for longer than its limit', result.stderr)


if __name__ == '__main__':
    t.main()
