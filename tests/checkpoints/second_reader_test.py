"""docs/formats.md is complete: a reader that knows nothing else reads what Tessera wrote, and finds damage."""
import pathlib, shutil, sys, unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / 'support'))
import read_checkpoint, tessera_run as t


class SecondReader(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.where = t.folder('second-reader')
        words = t.write_config(cls.where / 'config.yaml', t.prepare(cls.where))
        result = t.run('train', *words, 'train.stop_at=10', 'checkpoint.every=0', ranks=2)
        assert result.returncode == 0, result.stderr
        cls.checkpoint = cls.where / 'run/checkpoints/step-00000010'

    def test_same_parameters_as_the_export(self):
        out = self.where / 'export'
        result = t.run('export', self.checkpoint, '--out', out)
        self.assertEqual(result.returncode, 0, result.stderr)
        exported = read_checkpoint.safetensors((out / 'model.safetensors').read_bytes())
        manifest, state = read_checkpoint.read(self.checkpoint)
        self.assertEqual(manifest['samples'], 80)
        self.assertEqual(len(manifest['parts']), 2)
        self.assertEqual(set(exported), set(state['param']))
        for name, (dtype, _, data) in exported.items():
            self.assertEqual((dtype, bytes(data)), ('F32', state['param'][name].tobytes()), name)
            self.assertTrue(any(state['v'][name]) and min(state['v'][name]) >= 0, name)

    def test_the_frozen_checkpoint(self):
        manifest, state = read_checkpoint.read(t.SOURCE / 'tests/checkpoints/fixtures/checkpoint-v1/step-00000003')
        self.assertEqual((manifest['step'], manifest['samples'], len(state['m'])), (3, 48, 3))

    def test_one_flipped_bit_in_each_file_is_found_by_both_and_named(self):
        for file in sorted(self.checkpoint.iterdir()):
            with self.subTest(file=file.name):
                copy = self.where / 'damaged' / self.checkpoint.name
                shutil.copytree(self.checkpoint, copy)
                data = bytearray(file.read_bytes())
                data[len(data) * 2 // 3] ^= 16
                (copy / file.name).write_bytes(data)
                with self.assertRaises(ValueError):
                    read_checkpoint.read(copy)
                found = t.run('inspect', '--verify', copy)
                self.assertEqual(found.returncode, 65)
                self.assertIn(file.name, found.stderr)
                shutil.rmtree(copy)
        self.assertEqual(t.run('inspect', '--verify', self.checkpoint).returncode, 0)

    def test_it_is_short(self):
        lines = pathlib.Path(read_checkpoint.__file__).read_text().splitlines()
        self.assertLessEqual(sum(bool(line.strip()) for line in lines), 60)


if __name__ == '__main__':
    t.main()
