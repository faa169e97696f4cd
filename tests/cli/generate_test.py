"""generate and bench generate as commands: files of prompts, batches that change nothing, streamed
text, clear refusals, a chart."""
import json, pathlib, sys, unittest, xml.dom.minidom

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / 'support'))
import tessera_run as t


class Generate(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.where = t.folder('generate')
        data = t.prepare(cls.where)
        cls.runs = {}
        for kind in t.MODELS:
            (cls.where / kind).mkdir()
            config = t.write_config(cls.where / kind / 'config.yaml', data, kind, **{'train.steps': 4, 'optimizer.warmup': 2})
            result = t.run('train', *config)
            assert result.returncode == 0, result.stderr
            cls.runs[kind] = cls.where / kind / 'run'

    def lines(self, *arguments):
        result = t.run('generate', *arguments)
        self.assertEqual(result.returncode, 0, result.stderr)
        return list(map(json.loads, result.stdout.splitlines()))

    def test_a_file_of_prompts_gives_a_line_each_in_any_batch(self):
        file = self.where / 'prompts.jsonl'
        prompts = ['the time of', 'a', 'there is more of it than one would say', 'him']
        file.write_text(''.join(json.dumps({'prompt': p, 'id': n}) + '\n'
                                for n, p in enumerate(prompts)) + json.dumps({'ids': [1, 2, 3]}) + '\n')
        for kind, run in self.runs.items():
            options = ('--tokens', 12, '--temperature', 1, '--seed', 3, '--keep-going', '--file', file)
            found = self.lines(run, *options)
            self.assertEqual([line.get('id') for line in found], [0, 1, 2, 3, None])
            self.assertEqual([line['prompt'] for line in found[:4]], prompts)
            for line in found:
                self.assertEqual(len(line['ids']), 12)
            for batch in (1, 2):
                self.assertEqual(self.lines(run, *options, '--batch', batch), found, kind)
            one = self.lines(run, '--tokens', 12, '--temperature', 1, '--seed', 3, '--keep-going',
                             '--prompt', prompts[0], '--json')
            self.assertEqual(one[0]['ids'], found[0]['ids'])

    def test_text_streams(self):
        result = t.run('generate', self.runs['block'], '--prompt', 'the time', '--tokens', 20, '--keep-going',
                       text=False)
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertTrue(result.stdout.startswith(b'the time'))

    def test_refusals_name_file_and_line(self):
        file = self.where / 'bad.jsonl'
        for line, words in (('{"prompt": 3}', ':2'), ('{"ids": [1, 700]}', 'vocabulary'),
                            ('[1]', ':2'), ('{"ids": []}', 'no tokens'), ('nonsense', ':2')):
            file.write_text('{"ids": [1]}\n' + line + '\n')
            result = t.run('generate', self.runs['block'], '--file', file)
            self.assertIn(result.returncode, (64, 65), line)
            self.assertIn(words, result.stderr, line)
        file.write_text('\n')
        self.assertEqual(t.run('generate', self.runs['block'], '--file', file).returncode, 65)
        self.assertNotEqual(t.run('generate', self.runs['block'], '--file', file, '--prompt', 'a').returncode, 0)
        self.assertEqual(t.run('generate', self.runs['block'], '--precision', 'bf16', '--device', 'cpu',
                               '--prompt', 'a').returncode, 64)

    def test_bench_measures_and_draws(self):
        chart = self.where / 'chart.svg'
        small = ('model.width=32', 'model.heads=2', 'model.vocab=97', 'model.block_layers=1',
                 'model.token_layers=1', 'model.layers=1')
        result = t.run('bench', 'generate', t.SOURCE / 'configs/bench/block_170m.yaml',
                       t.SOURCE / 'configs/bench/vanilla_160m.yaml', *small, '--prefill', 12, '--decode', 9,
                       '--batch', '1,3', '--runs', 1, '--device', 'cpu', '--json', '--svg', chart)
        self.assertEqual(result.returncode, 0, result.stderr)
        rows = list(map(json.loads, result.stdout.splitlines()))
        self.assertEqual([(r['config'], r['batch']) for r in rows],
                         [('block_170m', 1), ('block_170m', 3), ('vanilla_160m', 1), ('vanilla_160m', 3)])
        for r in rows:
            self.assertAlmostEqual(r['tokens_per_second'] * r['seconds'], 9 * r['batch'])
            self.assertGreater(r['roofline_tokens_per_second'], 0)
            self.assertGreater(r['memory_bytes_a_sample'], 0)
            self.assertIn('prefill', r['parts_ms'])
        drawing = xml.dom.minidom.parse(str(chart))
        self.assertEqual(len(drawing.getElementsByTagName('polyline')), 2)
        self.assertEqual(len(drawing.getElementsByTagName('circle')), 4)
        self.assertEqual(t.run('bench', 'generate', '--batch', 'many', t.SOURCE /
                               'configs/bench/block_170m.yaml').returncode, 64)


if __name__ == '__main__':
    t.main()
