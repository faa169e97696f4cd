"""import --uptrain as a command: a vanilla run becomes a block model that trains, resumes, writes and is exported."""
import json, pathlib, sys, unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / 'support'))
import tessera_run as t

PROJECTING = ['model.embedder=projection', 'train.steps=40']


class UptrainTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.where = t.folder('uptrain')
        cls.data = t.prepare(cls.where)
        cls.vanilla = t.write_config(cls.where / 'vanilla.yaml', cls.data, 'vanilla')
        result = t.run('train', *cls.vanilla, 'run.name=vanilla', 'optimizer.lr=4e-3')
        assert result.returncode == 0, result.stderr
        # One layer for each decoder, as write_config's block model has them.
        cls.block = t.write_config(cls.where / 'block.yaml', cls.data, 'block')

    def good(self, *words, ranks=0):
        result = t.run(*words, cwd=self.where, ranks=ranks)
        self.assertEqual(result.returncode, 0, f'{words}\n{result.stdout}{result.stderr}')
        return result.stdout

    def bad(self, code, fragment, *words):
        result = t.run(*words, cwd=self.where)
        self.assertEqual(result.returncode, code, f'{words}\n{result.stdout}{result.stderr}')
        self.assertIn(fragment, result.stderr)
        self.assertEqual(len(result.stderr.strip().splitlines()), 1, result.stderr)

    def uptrain(self, source, run, method='partition', *words):
        return json.loads(self.good('import', '--uptrain', method, source, *self.block, *PROJECTING, *words,
                                    '--run', run, '--json'))

    def test_a_run_goes_on_as_a_block_model(self):
        made = self.uptrain('vanilla', 'goes-on')
        self.assertEqual((made['kind'], made['uptrain']), ('block', 'partition'))
        config = made['config']
        # Resumes from step 0 of what was made, on one rank and on two stages of a pipeline.
        self.good('train', config, 'train.stop_at=3')
        self.good('train', config, 'train.stop_at=6', 'parallel.pipeline=2', ranks=2)
        losses = t.losses(self.where / 'goes-on')
        self.assertEqual(len(losses), 6)
        # It begins with what the vanilla model has learnt of the text, not at ln 257.
        fresh = t.run('train', *self.block, *PROJECTING, 'run.name=fresh', 'train.stop_at=3', cwd=self.where)
        self.assertEqual(fresh.returncode, 0, fresh.stderr)
        self.assertLess(losses[0], t.losses(self.where / 'fresh')[0] - 0.5)
        # Evaluation, generation, plan and export know the embedder.
        self.assertGreater(json.loads(self.good('eval', 'goes-on', '--json').splitlines()[-1])['loss'], 0)
        self.assertTrue(self.good('generate', 'goes-on', '--prompt', 'The time of', '--tokens', 9))
        self.assertIn('projected', self.good('plan', config, '--ranks', 2))
        self.good('export', 'goes-on', '--out', 'exported')
        described = json.loads((self.where / 'exported/tessera.json').read_text())
        self.assertEqual(described['model']['embedder'], 'projection')
        again = json.loads(self.good('import', 'exported', '--run', 'again', '--json', f'run.root={self.where}'))
        self.assertEqual(again['parameters'], made['parameters'])
        self.good('export', 'again', '--out', 'twice')
        self.assertEqual((self.where / 'exported/model.safetensors').read_bytes(),
                         (self.where / 'twice/model.safetensors').read_bytes())
        # The same data and seed, but another embedder: no resume.
        self.bad(65, 'model.embedder: projection -> concat', 'train', config, 'parallel.pipeline=1',
                 'model.embedder=concat')

    def test_an_export_gives_the_same_bits_by_every_method(self):
        self.good('export', 'vanilla', '--out', 'neox')
        for method, layers in (('partition', 1), ('skip', 1), ('duplicate', 2)):
            depth = [f'model.block_layers={layers}', f'model.token_layers={layers}']
            contents = []
            for source in ('neox', 'vanilla'):
                made = self.uptrain(source, f'{method}-{source}', method, *depth)
                parts = sorted((self.where / made['checkpoint']).glob('part-*'))
                contents.append([p.read_bytes() for p in parts])
            self.assertEqual(contents[0], contents[1])

    def test_refusals(self):
        command = ['import', 'vanilla', '--uptrain']
        block = [*self.block, *PROJECTING, '--run', 'refused']
        self.bad(64, '--uptrain needs a CONFIG.yaml', *command, 'partition', '--run', 'refused')
        self.bad(64, 'model.embedder is concat', *command, 'partition', *self.block, '--run', 'refused')
        self.bad(64, 'their sum must be 2', *command, 'partition', *block, 'model.token_layers=2')
        self.bad(64, 'each must be 2', *command, 'duplicate', *block)
        self.bad(64, 'model.heads: the source has 2, the configuration 4', *command, 'partition', *block,
                 'model.heads=4')
        self.bad(64, 'does not exist', 'import', 'absent', '--uptrain', 'partition', *block)
        result = t.run(*command, 'halve', *block, cwd=self.where)
        self.assertEqual(result.returncode, 64, result.stderr)
        self.assertFalse((self.where / 'refused').exists())
        self.uptrain('vanilla', 'taken')
        self.bad(64, 'choose another run', *command, 'partition', *self.block, *PROJECTING, '--run', 'taken')


if __name__ == '__main__':
    t.main()
