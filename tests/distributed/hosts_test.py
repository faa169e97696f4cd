"""Four hosts on one machine: the same losses as one process; a cut link ends the attempt within the limit
and supervise.sh brings the job back to the same bits. Root only; skipped with its reason elsewhere."""
import json, pathlib, signal, subprocess, sys, time, unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / 'support'))
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
import hosts
import tessera_run as t

HOSTS = 4
LAYOUTS = {'DP4': [], 'DP2xPP2': ['parallel.pipeline=2']}  # name -> overrides
LIMIT = 4              # seconds a step may take
STEPS = 120            # of the run whose link is cut: a few seconds
WHY_NOT = hosts.why_not()


@unittest.skipIf(WHY_NOT, WHY_NOT)
class SeveralHosts(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.where = t.folder('hosts')
        cls.data = t.prepare(cls.where)
        cls.hosts = cls.enterClassContext(hosts.Hosts(HOSTS, cls.where))

    @classmethod
    def enterClassContext(cls, context):  # unittest's own from Python 3.11 on
        cls.addClassCleanup(context.__exit__, None, None, None)
        return context.__enter__()

    def words(self, name, *more):
        config = t.write_config(self.where / 'config.yaml', self.data)
        return [t.PROGRAM, 'train', *config, f'run.name={name}', *more]

    def spread(self, words):
        """`words` on all hosts, by the script that users have."""
        return [t.SOURCE / 'launch/multinode.sh', '--agent', self.hosts.agent, '--network',
                self.hosts.network, self.hosts.hostfile, *words]

    def start(self, words, output):
        return subprocess.Popen(self.hosts.inside(0, words), env=t.ENVIRONMENT, cwd=t.BUILD,
                                stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT,
                                start_new_session=True)

    def run_to_end(self, words, seconds=60):
        with open(self.where / 'output', 'w+') as output:
            process = self.start(words, output)
            try:
                code = process.wait(seconds)
            finally:
                process.kill()
            output.seek(0)
            self.assertEqual(code, 0, output.read())

    def test_losses_equal_those_of_one_process(self):
        alone = t.run(*self.words('alone')[1:])
        self.assertEqual(alone.returncode, 0, alone.stderr)
        expected = t.losses(self.where / 'alone')
        for layout, overrides in LAYOUTS.items():
            with self.subTest(layout=layout):
                self.run_to_end(self.spread(self.words(layout, *overrides)))
                found = t.losses(self.where / layout)
                self.assertEqual(len(found), len(expected))
                worst = max(abs(a - b) / b for a, b in zip(found, expected))
                self.assertLess(worst, 1e-6)

    def test_cut_link_ends_the_attempt_and_the_job_comes_back(self):
        for layout, overrides in LAYOUTS.items():
            with self.subTest(layout=layout):
                self.cut_and_mend(layout, overrides)

    def cut_and_mend(self, layout, overrides):
        more = [*overrides, f'train.steps={STEPS}', 'checkpoint.every=20',
                f'watchdog.step_seconds={LIMIT}', f'watchdog.checkpoint_seconds={LIMIT}']
        self.run_to_end(self.spread(self.words('unbroken-' + layout, *more)))
        expected = t.losses(self.where / ('unbroken-' + layout))

        run, missing = self.where / ('cut-' + layout), 2
        supervise = [t.SOURCE / 'launch/supervise.sh', '--run', run, '--grace', 5, '--pause', 2, '--']
        output = open(self.where / 'cut-output', 'w+')
        self.addCleanup(output.close)
        process = self.start(supervise + self.spread(self.words(run.name, *more)), output)
        self.addCleanup(process.kill)

        def text():
            output.seek(0)
            return output.read()

        def wait_for(what, seconds):
            until = time.time() + seconds
            while not what():
                self.assertIsNone(process.poll(), text())
                self.assertLess(time.time(), until, text())
                time.sleep(0.02)

        wait_for(lambda: (run / 'metrics.jsonl').exists() and len(t.metrics(run)) > 30, 30)
        self.hosts.cut(missing)
        cut = time.time()
        wait_for((run / 'exit.json').exists, LIMIT + 8)
        record = json.loads((run / 'exit.json').read_text())
        self.assertEqual(record['code'], 70)
        self.assertEqual(record['behind'], [missing])
        self.assertIn(f'rank {missing} ({self.hosts.names[missing]}) has been silent',
                      record['reason'])
        others = [i for i in range(HOSTS) if i != missing]
        wait_for(lambda: not any(self.ranks(i) for i in others), 12)
        print(f'{layout}: link cut, the others left after {time.time() - cut:.1f} s')
        # Beside the limit: an answer to be waited for, the grace, mpirun's own word.
        self.assertLess(time.time() - cut, LIMIT + 8)
        wait_for(lambda: 'attempt 1: code 70' in text(), 20)
        self.hosts.mend(missing)
        self.assertEqual(process.wait(60), 0, text())
        self.assertIn('starting again', text())
        for i in others:
            self.assertIn('watchdog: ', (run / f'log/rank-{i}.log').read_text())
        self.assertEqual(t.losses(run), expected)

    def ranks(self, i):
        """Processes of the program on host i."""
        found = []
        for process in self.hosts.processes(i):
            try:
                first = pathlib.Path(f'/proc/{process}/cmdline').read_bytes().split(b'\0')[0]
            except OSError:
                continue
            if first == str(t.PROGRAM).encode():
                found.append(process)
        return found


if __name__ == '__main__':
    t.main()
