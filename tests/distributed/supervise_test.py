"""launch/supervise.sh with made-up jobs: what is started again, what not, with which code it leaves."""
import os, pathlib, signal, subprocess, sys, time, unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / 'support'))
import tessera_run as t

SCRIPT = t.SOURCE / 'launch/supervise.sh'

# A job: what its n-th attempt does stands in the file `n` of its folder; the last one repeats.
JOB = r'''#!/usr/bin/env bash
set -u
cd "$(dirname "$0")"
n=$(($(cat count 2> /dev/null || echo 0) + 1))
echo "$n" > count
file=$n
while [ ! -e "do-$file" ]; do file=$((file - 1)); done
step() { echo "{\"kind\":\"step\",\"step\":$1,\"loss\":1.5}" >> run/metrics.jsonl; }
record() { printf '{\n"code": %s,\n"reason": "%s",\n"asked": "%s"\n}\n' "$1" "$2" "${3:-}" > run/exit.json; }
. "./do-$file"
'''


class Supervise(unittest.TestCase):
    def setUp(self):
        self.where = t.folder('supervise/' + self.id().split('.')[-1])
        self.job = self.where / 'job.sh'
        self.job.write_text(JOB)
        self.job.chmod(0o755)

    def words(self, *options):
        return [str(SCRIPT), '--run', str(self.where / 'run'), '--pause', '0', *options, '--',
                str(self.job)]

    def attempts(self, *does):
        for n, text in enumerate(does, 1):
            (self.where / f'do-{n}').write_text(text + '\n')

    def check(self, code, count, *does, options=(), says=()):
        self.attempts(*does)
        result = subprocess.run(self.words(*options), capture_output=True, text=True, timeout=60)
        self.assertEqual(result.returncode, code, result.stderr)
        self.assertEqual(int((self.where / 'count').read_text()), count, result.stderr)
        for text in (says if isinstance(says, tuple) else (says,)):
            self.assertIn(text, result.stderr)
        return result.stderr

    def started(self):
        process = subprocess.Popen(self.words('--grace', '2'), stderr=subprocess.PIPE, text=True)
        self.addCleanup(process.kill)
        self.wait_for(lambda: (self.where / 'run/ready').exists())
        return process

    def wait_for(self, what, seconds=20):
        until = time.time() + seconds
        while not what():
            self.assertLess(time.time(), until)
            time.sleep(0.01)

    # --- Codes.

    def test_done_is_not_started_again(self):
        self.check(0, 1, 'step 1; exit 0')

    def test_failures_that_may_pass_are_started_again(self):
        self.check(0, 3, 'step 1; exit 70', 'step 2; exit 74', 'exit 0')

    def test_failures_that_stay_are_not(self):
        for code in (17, 64, 65, 126, 127):
            with self.subTest(code=code):
                (self.where / 'count').unlink(missing_ok=True)
                self.check(code, 1, f'step 1; exit {code}')

    def test_mpiruns_own_codes_mean_what_the_record_says(self):
        for code in (1, 137, 139, 143):
            with self.subTest(code=code):
                (self.where / 'count').unlink(missing_ok=True)
                self.check(65, 1, f'record 65 "shard x is torn, \\"y\\" too"; exit {code}',
                           says=(f'code 65 (mpirun: {code})', 'shard x is torn'))

    def test_mpiruns_own_codes_without_a_record_are_70(self):
        for code in (1, 137, 143):
            with self.subTest(code=code):
                (self.where / 'count').unlink(missing_ok=True)
                self.check(0, 2, f'exit {code}', 'exit 0', says=f'code 70 (mpirun: {code})')

    def test_the_record_of_an_earlier_attempt_does_not_count(self):
        self.check(0, 3, 'step 1; record 65 old; exit 70', 'exit 137', 'exit 0')

    # --- Stops.

    def test_a_stop_that_nobody_here_asked_for_goes_on(self):
        self.check(0, 2, 'step 1; record 75 stopped signal; exit 75', 'exit 0')

    def test_a_stop_file_is_the_end(self):
        self.check(75, 1, 'step 1; record 75 stopped file; exit 75', 'exit 0')

    def test_a_stop_file_that_nobody_has_read_is_the_end_too(self):
        self.check(70, 1, 'touch run/stop; exit 70', 'exit 0', says='run/stop asks for the end')
        self.assertFalse((self.where / 'run/stop').exists())

    def test_signals_reach_the_job_as_usr1_and_are_the_end(self):
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1):
            with self.subTest(signal=number.name):
                for name in ('count', 'run/ready'):
                    (self.where / name).unlink(missing_ok=True)
                self.attempts('trap "step 7; record 75 saved signal; exit 75" USR1\n'
                              'touch run/ready; while :; do sleep 0.1; done', 'exit 0')
                process = self.started()
                process.send_signal(number)
                _, text = process.communicate(timeout=20)
                self.assertEqual(process.returncode, 75, text)
                self.assertEqual((self.where / 'count').read_text(), '1\n')

    def test_a_second_signal_ends_the_job(self):
        self.attempts('trap "" USR1 TERM; touch run/ready; while :; do sleep 0.1; done')
        process = self.started()
        process.terminate()
        time.sleep(0.3)
        self.assertIsNone(process.poll())
        process.terminate()
        process.communicate(timeout=20)
        self.assertEqual(process.returncode, 75)
        self.assertEqual(self.left(), [])

    # --- Progress.

    def test_gives_up_after_three_attempts_without_a_step_more(self):
        text = self.check(70, 3, 'record 70 first; exit 70', 'record 74 second; exit 74',
                          'record 70 third; exit 70', says='giving up: 3 attempts')
        for cause in ('first', 'second', 'third'):  # each when it happens, and in the summary
            self.assertEqual(text.count(cause), 2, text)

    def test_steps_reached_before_are_no_progress(self):
        self.check(74, 4, 'step 5; exit 70', 'step 4; exit 70', 'step 5; exit 70', 'exit 74')

    def test_any_step_more_starts_the_count_anew(self):
        self.check(0, 7, 'exit 70', 'exit 70', 'step 1; exit 70', 'exit 70', 'exit 70',
                   'mkdir -p run/checkpoints/step-00000012\n'
                   'touch run/checkpoints/step-00000012/manifest.json; exit 70', 'exit 0')

    def test_attempts_is_an_option(self):
        self.check(70, 1, 'exit 70', options=('--attempts', '1'))

    # --- Jobs that do not leave.

    def left(self):
        """Processes of the job."""
        found = []
        for entry in pathlib.Path('/proc').iterdir():
            try:
                if entry.name.isdigit() and str(self.job).encode() in (
                        entry / 'cmdline').read_bytes().split(b'\0'):
                    if str(SCRIPT).encode() not in (entry / 'cmdline').read_bytes().split(b'\0'):
                        found.append(int(entry.name))
            except OSError:
                pass
        return found

    def test_a_job_that_has_said_why_but_stays_is_ended(self):
        self.check(0, 2, 'step 1; trap "" TERM; record 70 "rank 2 is silent"; while :; do sleep 0.1; done',
                   'exit 0', options=('--grace', '1'),
                   says=('mpirun is still there', 'code 70 (mpirun: 137)', 'rank 2 is silent'))
        self.assertEqual(self.left(), [])

    def test_a_job_that_writes_nothing_is_ended(self):
        self.check(0, 2, 'sleep 60', 'exit 0', options=('--quiet-seconds', '1'),
                   says='nothing was written')

    def test_the_time_limit_asks_and_is_the_end(self):
        self.check(75, 1, 'trap "step 7; record 75 saved signal; exit 75" USR1\n'
                          'while :; do sleep 0.1; done', 'exit 0',
                   options=('--max-seconds', '1'), says='1 s have passed')

    def test_what_a_killed_mpirun_leaves_behind_is_ended(self):
        # A rank in a process group of its own, as mpirun makes them.
        self.check(0, 2, 'step 1; set -m; sleep 61 & echo $! > pid; kill -9 $$', 'exit 0')
        state = pathlib.Path('/proc') / (self.where / 'pid').read_text().strip() / 'status'
        self.assertTrue(not state.exists() or 'State:\tZ' in state.read_text())

    def test_usage(self):
        for words, says in (([], '--run RUN_FOLDER is missing'),
                            (['--run', 'x'], 'a command is missing'),
                            (['--run', 'x', '--attempts', 'many', 'true'], 'whole number'),
                            (['--run', 'x', '--attempts', '0', 'true'], 'at least 1'),
                            (['--fast', 'true'], "unknown option '--fast'"),
                            (['--run'], '--run needs a value')):
            with self.subTest(words=words):
                result = subprocess.run([str(SCRIPT), *words], capture_output=True, text=True,
                                        cwd=self.where)
                self.assertEqual(result.returncode, 64)
                self.assertIn(says, result.stderr)
        self.assertIn('--attempts N', subprocess.run([str(SCRIPT), '--help'], capture_output=True,
                                                     text=True).stdout)


if __name__ == '__main__':
    t.main()
