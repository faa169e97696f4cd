"""tessera bench comm on CPU ranks: what it prints follows the definitions of docs/numbers.md."""
import json, pathlib, sys, unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / 'support'))
import tessera_run as t

OPERATIONS = ['all_reduce', 'reduce_scatter', 'all_gather', 'ring']


class BenchComm(unittest.TestCase):
    def bench(self, *arguments, ranks=2, code=0):
        result = t.run('bench', 'comm', '--device', 'cpu', '--samples', '3', '--warmup', '1', *arguments,
                       ranks=ranks)
        self.assertEqual(result.returncode, code, result.stdout + result.stderr)
        return result

    def test_bandwidths_follow_their_definitions(self):
        for ranks in 2, 3:
            found = [json.loads(line) for line in
                     self.bench('--min', '64KiB', '--max', '256KiB', '--json', ranks=ranks).stdout.splitlines()]
            self.assertEqual([line['operation'] for line in found], [o for o in OPERATIONS for _ in range(2)])
            others = (ranks - 1) / ranks
            factors = dict(zip(OPERATIONS, (2 * others, others, others, 1)))
            for line in found:
                self.assertEqual(line['ranks'], ranks)
                self.assertEqual((line['device'], line['transport']), ('cpu', 'mpi'))
                self.assertEqual(line['bytes'] % (4 * ranks), 0)
                rate = line['bytes_per_second']
                self.assertAlmostEqual(line['bytes'] / (1e-6 * line['microseconds']) / rate, 1, places=9)
                self.assertAlmostEqual(line['bus_bytes_per_second'] / rate, factors[line['operation']], places=9)
            self.assertEqual([65536 - line['bytes'] < 4 * ranks for line in found[::2]], [True] * 4)
            self.assertEqual([262144 - line['bytes'] < 4 * ranks for line in found[1::2]], [True] * 4)

    def test_blocks_are_for_nccl(self):
        self.assertIn('--blocks is for NCCL', self.bench('--blocks', '2', code=64).stderr)

    def test_table_filter_and_staging(self):
        text = self.bench('--max', '64KiB', '--filter', 'gather', '--staged').stdout
        self.assertIn('all_gather', text)
        self.assertIn('64.0 KiB', text)
        self.assertIn('2 ranks, cpu, mpi, staged', text)
        self.assertNotIn('all_reduce', text)

    def test_refusals(self):
        self.assertIn('mpirun', self.bench(ranks=0, code=64).stderr)
        self.assertIn('--max', self.bench('--min', '1MiB', '--max', '64KiB', code=64).stderr)
        self.assertIn('--factor', self.bench('--factor', '1', ranks=0, code=64).stderr)


if __name__ == '__main__':
    unittest.main()
