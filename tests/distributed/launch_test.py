"""launch/multinode.sh and launch/slurm.sbatch: the commands they make, with Slurm's and MPI's programs
made up."""
import os, pathlib, signal, subprocess, sys, time, unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / 'support'))
import tessera_run as t

MULTINODE = t.SOURCE / 'launch/multinode.sh'


class Launch(unittest.TestCase):
    def setUp(self):
        self.where = t.folder('launch/' + self.id().split('.')[-1])
        self.programs = self.where / 'bin'
        self.programs.mkdir()
        (self.where / 'launch').symlink_to(t.SOURCE / 'launch')
        self.environment = {name: value for name, value in os.environ.items()
                            if not name.startswith(('OMPI_', 'NCCL_', 'TESSERA_', 'SLURM_'))}
        self.environment['PATH'] = f'{self.programs}:{os.environ["PATH"]}'

    def program(self, name, text):
        path = self.programs / name
        path.write_text('#!/usr/bin/env bash\n' + text)
        path.chmod(0o755)

    def multinode(self, *words, code=0, **variables):
        result = subprocess.run([MULTINODE, *map(str, words)], capture_output=True, text=True,
                                env=dict(self.environment, **variables), cwd=self.where)
        self.assertEqual(result.returncode, code, result.stderr)
        return result.stdout.split() if code == 0 else result.stderr

    def hosts(self, text):
        path = self.where / 'hosts'
        path.write_text(text)
        return path

    def test_slots_are_counted(self):
        hosts = self.hosts('# machines\nnode1 slots=8\n\nnode2 slots=3 max_slots=4  # smaller\nnode3\n')
        words = self.multinode('--dry-run', hosts, 'program', 'key=value')
        self.assertEqual(words[:5], ['mpirun', '-np', '12', '--hostfile', str(hosts)])
        self.assertEqual(words[-2:], ['program', 'key=value'])
        self.assertEqual(self.multinode('--dry-run', '--ranks', '5', hosts, 'program')[2], '5')

    def test_variables_are_handed_on_by_name(self):
        hosts = self.hosts('node1\n')
        words = self.multinode('--dry-run', hosts, 'program', NCCL_SOCKET_IFNAME='eth1', SECRET='x')
        handed = {words[i + 1] for i, word in enumerate(words) if word == '-x'}
        self.assertIn('NCCL_SOCKET_IFNAME', handed)
        self.assertIn('LC_ALL', handed)
        self.assertNotIn('SECRET', handed)
        self.assertNotIn('OMP_NUM_THREADS', handed - set(self.environment))
        exported = {line.split('=')[0].split()[-1] for line in
                    (t.SOURCE / 'launch/env.sh').read_text().splitlines()
                    if line.strip().startswith('export ')}
        own = {name for name in exported if not name.startswith(('OMPI_', 'PRTE_'))}
        self.assertLessEqual(own, handed)  # mpirun hands its own settings on itself

    def test_network_and_agent(self):
        words = ' '.join(self.multinode('--dry-run', '--network', '10.1.0.0/16', '--agent', 'rsh',
                                        self.hosts('a\n'), 'program'))
        for text in ('--mca plm_rsh_agent rsh', '--mca btl_tcp_if_include 10.1.0.0/16',
                     '--mca oob_tcp_if_include 10.1.0.0/16'):
            self.assertIn(text, words)

    def test_mistakes_are_named(self):
        hosts = self.hosts('a\n')
        self.assertIn('cannot be read', self.multinode('absent', 'program', code=64))
        self.assertIn('a command is missing', self.multinode(hosts, code=64))
        self.assertIn('--ranks must be', self.multinode('--ranks', '0', hosts, 'program', code=64))
        self.assertIn("unknown option '--rank'", self.multinode('--rank', hosts, 'x', code=64))
        self.assertIn('line 2: slots', self.multinode(self.hosts('a\nb slots = 8\n'), 'x', code=64))
        self.assertIn('names no machine', self.multinode(self.hosts('# none\n'), 'x', code=64))

    # --- Slurm.

    def slurm(self, launcher, job):
        """-> a started slurm.sbatch; RUN/job.log, requeued and hosts tell what was done."""
        self.program('scontrol', f'cd "{self.where}"\n'
                     'if [ "$1" = show ]; then printf "node1\\nnode2\\n"; else echo "$*" >> requeued; fi\n')
        self.program('mpirun', f'cp "$4" "{self.where}/hosts-seen"\n'
                     'while [ "$1" != "job" ]; do shift; done\nexec "$@"\n')
        self.program('srun', 'while [ "$1" != "job" ]; do shift; done\nexec "$@"\n')
        self.program('job', f'cd "{self.where}"\n' + job)
        process = subprocess.Popen(
            [t.SOURCE / 'launch/slurm.sbatch', self.where / 'run', 'job'], cwd=self.where,
            env=dict(self.environment, SLURM_SUBMIT_DIR=str(self.where), SLURM_JOB_ID='7',
                     SLURM_JOB_NODELIST='node[1-2]', SLURM_NTASKS_PER_NODE='8',
                     TESSERA_LAUNCHER=launcher),
            stderr=subprocess.PIPE, text=True)
        self.addCleanup(process.kill)
        return process

    def end(self, process):
        _, text = process.communicate(timeout=30)
        self.assertEqual(list(self.where.glob('hosts-7-*')), [])
        return process.returncode, text

    WAITS = ('trap \'printf "{\\n\\"code\\": 75,\\n\\"asked\\": \\"%s\\"\\n}\\n" "$asked" > run/exit.json;'
             ' exit 75\' USR1\n')

    def requeued(self):
        path = self.where / 'requeued'
        return path.read_text() if path.exists() else ''

    def test_time_limit_saves_and_queues_again(self):
        for launcher in ('mpirun', 'srun'):
            with self.subTest(launcher=launcher):
                for name in ('requeued', 'ready'):
                    (self.where / name).unlink(missing_ok=True)
                process = self.slurm(launcher, 'asked=signal\n' + self.WAITS +
                                     'touch ready; while :; do sleep 0.1; done\n')
                until = time.time() + 20
                while not (self.where / 'ready').exists():
                    self.assertLess(time.time(), until)
                    time.sleep(0.01)
                process.send_signal(signal.SIGUSR1)
                code, text = self.end(process)
                self.assertEqual(code, 75, text)
                self.assertEqual(self.requeued(), 'requeue 7\n')
        self.assertEqual((self.where / 'hosts-seen').read_text(), 'node1 slots=8\nnode2 slots=8\n')

    def test_stop_file_is_not_queued_again(self):
        process = self.slurm('mpirun', 'asked=file\n' + self.WAITS + 'kill -USR1 $$; sleep 5\n')
        code, text = self.end(process)
        self.assertEqual(code, 75, text)
        self.assertEqual(self.requeued(), '')

    def test_failure_keeps_its_code(self):
        code, text = self.end(self.slurm('mpirun', 'exit 65\n'))
        self.assertEqual(code, 65, text)
        self.assertEqual(self.requeued(), '')
        code, text = self.end(self.slurm('ssh', 'exit 0\n'))
        self.assertEqual(code, 64)
        self.assertIn('TESSERA_LAUNCHER must be', text)


if __name__ == '__main__':
    t.main()
