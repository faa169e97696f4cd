"""bench kernels: times that are told with their work and ceilings, and a filter that must match."""
import json, pathlib, sys, unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / 'support'))
import tessera_run as t


class BenchKernels(unittest.TestCase):
    def test_every_time_follows_from_its_work_and_the_ceilings(self):
        result = t.run('bench', 'kernels', '--cpu', '--json', '--filter', 'expansion')
        self.assertEqual(result.returncode, 0, result.stderr)
        ceilings, *rows = map(json.loads, result.stdout.splitlines())
        self.assertEqual(ceilings['device'], 'cpu')
        self.assertEqual([r['operation'] for r in rows],
                         ['linear forward', 'linear dx', 'linear dw', 'copy rows'])
        for row in rows:
            moving = row['bytes'] / ceilings['copy_bytes_per_second']
            computing = row['flops'] / ceilings['gemm_flops_per_second']
            self.assertGreater(row['microseconds'], 0)
            self.assertAlmostEqual(row['fraction'] * row['microseconds'] * 1e-6 / max(moving, computing), 1)
            self.assertEqual(row['limit'], 'matrix product' if computing > moving else 'copy')
        # 512 rows, 256 -> 2 x 256: x, W and b read, y written; dw read and written.
        forward, dx, dw, copy = rows
        self.assertEqual(forward['shape'], '512 x 256 x 512')
        self.assertEqual(forward['flops'], 2 * 512 * 256 * 512)
        self.assertEqual(forward['bytes'], 4 * (512 * 256 + 512 * 256 + 512 + 512 * 512))
        self.assertEqual(dw['bytes'], 4 * (512 * 256 + 512 * 512 + 2 * 512 * 256))
        self.assertEqual(copy['bytes'], 2 * 4 * 8 * 63 * 2 * 256)

    def test_a_filter_without_a_match_is_an_error(self):
        result = t.run('bench', 'kernels', '--cpu', '--filter', 'nothing like it')
        self.assertEqual(result.returncode, 64, result.stdout)
        self.assertIn('--filter', result.stderr)


if __name__ == '__main__':
    t.main()
