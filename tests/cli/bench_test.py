"""bench kernels: times that are told with their work and ceilings, and a filter that must match. bench data: what a
rate follows from."""
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



class BenchData(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.where = t.folder('bench-data')
        cls.data = t.prepare(cls.where)

    def measure(self, *words, ranks=0):
        result = t.run('bench', 'data', *words, '--seconds', '0.3', '--json', ranks=ranks)
        self.assertEqual(result.returncode, 0, result.stderr)
        line, = map(json.loads, result.stdout.splitlines())
        self.assertGreater(line['micro_batches'], 0)
        self.assertGreater(line['open_seconds'], 0)
        self.assertGreater(line['first_batch_seconds'], 0)
        self.assertGreaterEqual(line['seconds'], 0.3)
        self.assertLess(line['seconds'], 30)
        self.assertGreater(line['tokens_per_second'], 0)
        if not ranks:  # of several each has its own seconds
            taken = line['micro_batches'] * line['micro_batch'] * line['context']
            self.assertAlmostEqual(line['tokens_per_second'] / (taken / line['seconds']), 1, 6)
        return line

    def test_folders_with_keys(self):
        line = self.measure(self.data / 'train', 'model.context=64', 'train.micro_batch=2', 'train.global_batch=4')
        self.assertEqual((line['context'], line['micro_batch'], line['global_batch'], line['ranks']), (64, 2, 4, 1))
        self.assertEqual((line['shards'], line['padding_fraction'], line['cached']), (1, 0, True))
        self.assertEqual(line['data'], [{'path': str(self.data / 'train'), 'weight': 1}])

    def test_blends_padding_and_ranks(self):
        folders = [self.data / 'train', self.data / 'valid']
        blend = self.measure(*folders, '--weights', '3,1', '--cold', 'model.context=64',
                             'data.padding=random_pad_first_block')
        self.assertEqual([d['weight'] for d in blend['data']], [3, 1])
        self.assertFalse(blend['cached'])
        self.assertGreater(blend['padding_fraction'], 0)
        self.assertLess(blend['padding_fraction'], 0.05)  # 1.5 + 1.5 pads a document of some 500 bytes
        self.assertEqual(self.measure(folders[0], 'model.context=64', ranks=2)['ranks'], 2)

    def test_configurations(self):
        words = t.write_config(self.where / 'config.yaml', self.data)
        line = self.measure(*words, 'train.micro_batch=4')
        self.assertEqual((line['context'], line['micro_batch'], line['global_batch']), (64, 4, 8))

    def test_refusals(self):
        for words, said in (((self.where / 'none',), 'none'), ((self.data, 'model.context=64'), 'dataset.json'),
                            ((self.data / 'train', '--weights', '1,2'), '2 weights for 1'),
                            (('model.context=64',), 'name a configuration or shard folders'),
                            ((self.data / 'train', 'model.context=0'), 'model.context')):
            result = t.run('bench', 'data', *words)
            self.assertIn(result.returncode, (64, 65, 74), result.stderr)
            self.assertIn(said, result.stderr)


if __name__ == '__main__':
    t.main()
