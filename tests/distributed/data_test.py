"""Training data that changes or is bad: noticed on resume and in the run, skipped alike on all ranks, verified."""
import json, os, pathlib, shutil, sys, unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / 'support'))
import tessera_run as t


class Data(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.where = t.folder('data')
        cls.good = t.prepare(cls.where)

    def setUp(self):
        self.data = self.where / 'shards'
        shutil.rmtree(self.data, ignore_errors=True)
        shutil.copytree(self.good, self.data)
        self.shard = self.data / 'train' / 'shard-00000.h5'

    def train(self, name, *overrides, ranks=0, expected=0, stop_at=10):
        words = t.write_config(self.where / 'config.yaml', self.data)
        result = t.run('train', *words, f'run.name={name}', 'train.micro_batch=1', f'train.stop_at={stop_at}',
                       *overrides, ranks=ranks)
        self.assertEqual(result.returncode, expected, result.stdout + result.stderr)
        return t.metrics(self.where / name) if expected == 0 else result.stderr

    def damage(self):
        """One bit of the tokens, where text stands; sizes and times stay."""
        content, times = bytearray(self.shard.read_bytes()), self.shard.stat()
        content[content.index(b'\0'.join(bytes([c]) for c in b'the')) + 40 * 2] ^= 1
        self.shard.write_bytes(content)
        os.utime(self.shard, ns=(times.st_atime_ns, times.st_mtime_ns))

    def test_touched_shards_pass_on_resume_and_changed_ones_are_named(self):
        self.train('changed', stop_at=3)
        os.utime(self.shard)
        self.assertEqual(len(self.train('changed', stop_at=5)), 5)
        self.damage()
        os.utime(self.shard)
        error = self.train('changed', stop_at=7, expected=65)
        self.assertIn(str(self.shard), error)
        self.assertIn('changed since the run began', error)
        shutil.copy(self.good / 'train' / self.shard.name, self.shard)
        self.assertEqual(len(self.train('changed', stop_at=7)), 7)
        record = json.loads((self.where / 'changed' / 'data.json').read_text())
        self.assertEqual(len(record['files']), 2)
        (self.where / 'changed' / 'data.json').write_text('{')
        self.assertEqual(len(self.train('changed', stop_at=8)), 8)  # compared in full

    def test_verify_finds_what_a_start_does_not_read(self):
        self.damage()
        for ranks in (0, 2):
            error = self.train('verified', '--verify', ranks=ranks, expected=65)
            self.assertIn(str(self.shard), error)
        shutil.copy(self.good / 'train' / self.shard.name, self.shard)
        self.assertEqual(len(self.train('verified', '--verify', stop_at=2)), 2)

    def test_a_bad_chunk_stops_the_run_or_is_skipped_alike_on_all_ranks(self):
        self.damage()
        error = self.train('stops', expected=65, stop_at=40)
        self.assertIn(f'{self.shard}: dataset tokens chunk', error)
        found = {}
        for name, ranks in [('one', 0), ('two', 2)]:
            found[name] = self.train(name, 'data.on_bad_chunk=skip', ranks=ranks)
            self.assertGreater(sum(m.get('lost_targets', 0) for m in found[name]), 0)
        for a, b in zip(found['one'], found['two']):
            self.assertEqual(a.get('lost_targets'), b.get('lost_targets'))
            self.assertLess(abs(a['loss'] - b['loss']), 1e-6 * b['loss'])
        halves = [self.train('halves', 'data.on_bad_chunk=skip', stop_at=n) for n in (4, 10)][-1]
        self.assertEqual([m['loss'] for m in halves], [m['loss'] for m in found['one']])

    def test_the_wait_for_data_is_told(self):
        self.assertTrue(all(m['data_wait_ms'] >= 0 for m in self.train('waits', stop_at=2)))


if __name__ == '__main__':
    t.main()
