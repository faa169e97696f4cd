"""kill -9 at random moments of a 2-rank run: in the end every loss, parameter and moment is that of an unbroken run.

    python3 kill_test.py BUILD_DIR            20 kills
    KILLS=200 python3 kill_test.py BUILD_DIR  a soak
"""
import os, pathlib, random, signal, sys, time, unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / 'support'))
import read_checkpoint, tessera_run as t

KILLS = int(os.environ.get('KILLS', 20))
SEED = int(os.environ.get('SEED', 1))
RANKS, STEPS_A_KILL = 2, 100


class Kill(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.where = t.folder('kill')
        cls.words = t.write_config(cls.where / 'config.yaml', t.prepare(cls.where))
        cls.words += [f'train.steps={STEPS_A_KILL * (KILLS + 1)}', 'checkpoint.every=15', 'eval.every=0']
        cls.choose = random.Random(SEED)

    def steps_seen(self, run):
        """Of the last whole line of metrics.jsonl; cheap."""
        try:
            with open(run / 'metrics.jsonl', 'rb') as file:
                file.seek(max(0, file.seek(0, 2) - 4096))
                lines = file.read().split(b'\n')[:-1]
        except FileNotFoundError:
            return 0
        for line in reversed(lines):
            if b'"kind":"step","step":' in line:
                return int(line.split(b'"step":')[1].split(b',')[0])
        return 0

    def wait_for_moment(self, process, run, kill):
        """Mostly somewhere in this kill's share of the steps; now and then while the job starts."""
        start = time.time()
        starting = self.choose.random() < 0.2
        limit = start + (self.choose.uniform(0, 1) if starting else 120)
        steps = STEPS_A_KILL * kill + (STEPS_A_KILL if starting else self.choose.randrange(STEPS_A_KILL))
        while time.time() < limit and self.steps_seen(run) < steps:
            self.assertIsNone(process.poll(), f'the job left by itself before kill {kill + 1}')
            time.sleep(0.002)
        time.sleep(self.choose.uniform(0, 0.04))

    def kill(self, process, name):
        """One rank or all of them; then whatever is left of the job."""
        ranks = t.ranks_of(name)
        victims = self.choose.choice([[0], [1], [0, 1]])
        for rank in victims:
            if rank in ranks:
                os.kill(ranks[rank], signal.SIGKILL)
        if self.choose.random() < 0.75 or not ranks:  # mpirun as well, at once
            os.killpg(process.pid, signal.SIGKILL)
        process.wait(60)
        t.kill_all(self.words[0], f'run.name={name}')
        while t.ranks_of(name):
            time.sleep(0.01)

    def test_final_state_is_that_of_an_unbroken_run(self):
        result = t.run('train', *self.words, 'run.name=unbroken', ranks=RANKS)
        self.assertEqual(result.returncode, 0, result.stderr)
        run, lost = self.where / 'killed', []
        for kill in range(KILLS):
            process = t.start('train', *self.words, 'run.name=killed', ranks=RANKS)
            self.wait_for_moment(process, run, kill)
            self.kill(process, 'killed')
            folder = run / 'checkpoints'
            names = [p.name for p in folder.iterdir()] if folder.exists() else []
            lost.append(any(name.endswith(('.tmp', '.old')) for name in names))
        result = t.run('train', *self.words, 'run.name=killed', ranks=RANKS)
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertEqual(t.losses(run), t.losses(self.where / 'unbroken'))
        name = f'checkpoints/step-{STEPS_A_KILL * (KILLS + 1):08d}'
        _, expected = read_checkpoint.read(self.where / 'unbroken' / name)
        _, found = read_checkpoint.read(run / name)
        self.assertEqual(found, expected)
        print(f'{KILLS} kills, {sum(lost)} of them in the middle of a save')


if __name__ == '__main__':
    t.main()
