"""tessera plan: figures that add up, layouts that are listed and can be asked for, timelines, measured costs,
and what it refuses."""
import json, pathlib, sys, unittest
import xml.etree.ElementTree as xml

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / 'support'))
import tessera_run as t

BLOCK = t.SOURCE / 'configs/paper/block_1400m.yaml'
USAGE, DATA, IO = 64, 65, 74


class Plan(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.where = t.folder('plan')
        cls.small = t.write_config(cls.where / 'small.yaml', cls.where / 'nowhere')

    def plan(self, *words):
        result = t.run('plan', *words)
        self.assertEqual(result.returncode, 0, result.stderr)
        return result.stdout

    def planned(self, *words):
        return json.loads(self.plan(*words, '--json'))

    def refused(self, code, fragment, *words):
        result = t.run('plan', *words)
        self.assertEqual(result.returncode, code, result.stdout + result.stderr)
        self.assertIn(fragment, result.stderr)
        self.assertNotIn('internal error', result.stderr)

    # --- figures ---------------------------------------------------------------------------------
    def test_a_step_is_the_sum_of_its_parts(self):
        plan = self.planned(BLOCK, '--device', 'cuda', '--ranks', 16, 'parallel.pipeline=4')
        p = plan['prediction']
        self.assertAlmostEqual(sum(p['seconds'].values()), p['step_seconds'])
        self.assertAlmostEqual(plan['tokens_per_step'] / p['step_seconds'], p['tokens_per_second'], delta=1)
        self.assertAlmostEqual(p['mfu'], p['tokens_per_second'] * plan['training_flops_per_token'] / 16 / 989e12)
        self.assertEqual((p['stages'], p['replicas']), (4, 4))
        self.assertGreaterEqual(p['bubble'], p['ideal_bubble'])
        # Every piece once, in order; memory as in the fullest stage.
        pieces = [piece for s in p['stage'] for a, b in s['pieces'] for piece in range(a, b)]
        self.assertEqual(pieces, list(range(12 + 12 + 4)))
        totals = [sum(s['memory_bytes'].values()) for s in p['stage']]
        self.assertEqual(max(totals), p['memory_bytes_fullest'])
        self.assertEqual(max(totals), plan['memory_bytes_total'])
        self.assertEqual(sum(plan['memory_bytes'].values()), plan['memory_bytes_total'])

    def test_the_text_says_what_it_rests_on(self):
        text = self.plan(BLOCK, '--device', 'cuda', '--ranks', 8, 'parallel.pipeline=4')
        for fragment in ['8 ranks = 2 replicas x 4 stages', 'master parameters', 'timeline of a replica',
                         'stage 3 |', 'gradient sums', 'inside a node', 'tokens/s, MFU', 'first bottleneck', 'assumed: H100']:
            self.assertIn(fragment, text)
        alone = self.plan(BLOCK, '--device', 'cuda', 'train.micro_batch=16')
        self.assertNotIn('timeline', alone)
        self.assertIn('1 rank = 1 replica x 1 stage; no pipeline', alone)
        self.assertIn('TOO LARGE', self.plan(BLOCK, '--device', 'cuda', 'train.micro_batch=64'))
        cpu = self.plan(*self.small, '--device', 'cpu')
        self.assertIn('assumed: CPU', cpu)
        self.assertNotIn('MFU', cpu)

    def test_nodes_decide_which_links_cross(self):
        def crossing(*words):
            p = self.planned(BLOCK, '--device', 'cuda', '--ranks', 8, 'parallel.pipeline=2', *words)['prediction']
            return {link['what'] for link in p['links'] if link['between_nodes']}
        self.assertEqual(crossing(), set())
        self.assertEqual(crossing('--gpus-per-node', 2), {'gradient sums', 'parameters'})
        self.assertEqual(crossing('--gpus-per-node', 4, 'parallel.order=data_first'),
                         {'activations', 'gradients back'})

    def test_a_picture_has_a_box_an_instruction(self):
        path = self.where / 'timeline.svg'
        p = self.planned(BLOCK, '--device', 'cuda', '--ranks', 4, 'parallel.pipeline=4', 'train.global_batch=128',
                         '--svg', path)['prediction']
        boxes = {'box k0': 0, 'box k1': 0}  # forwards, backwards: a part of a path each
        for e in xml.parse(path).iter():
            if e.get('class') in boxes:
                boxes[e.get('class')] += e.get('d').count('M')
        self.assertEqual(boxes, {kind: 4 * p['micro_batches'] for kind in boxes})

    # --- search ----------------------------------------------------------------------------------
    def test_search_lists_layouts_that_can_be_asked_for(self):
        found = self.planned(BLOCK, '--device', 'cuda', '--ranks', 64, '--search=4')
        best = found['best']
        self.assertEqual(len(best), 4)
        self.assertEqual(sorted(b['step_seconds'] for b in best), [b['step_seconds'] for b in best])
        for b in best:
            self.assertTrue(b['fits'])
            again = self.planned(BLOCK, '--device', 'cuda', '--ranks', 64, *b['overrides'].split())['prediction']
            self.assertEqual(again['step_seconds'], b['step_seconds'])
        text = self.plan(BLOCK, '--device', 'cuda', '--ranks', 64, '--search')
        self.assertIn(best[0]['overrides'], text)
        self.assertIn(f'{found["layouts"]} layouts', text)

    # --- measured costs --------------------------------------------------------------------------
    def test_measured_pieces_are_what_is_predicted(self):
        path = self.where / 'pieces.json'
        # Several ranks share the processor here, so only rough agreement with whole steps can be asked for.
        result = t.run('bench', 'train', *self.small, '--steps', 3, '--pieces', path)
        self.assertEqual(result.returncode, 0, result.stderr)
        times = json.loads(path.read_text())
        names = [p['piece'] for p in times['pieces']]
        self.assertEqual(names[0], 'block embedder')
        self.assertEqual(names[-1], 'head')
        plan = self.planned(*self.small, '--device', 'cpu', '--costs', path)
        stage = plan['prediction']['stage'][0]
        self.assertAlmostEqual(stage['forward_seconds'], sum(p['forward_ms'] for p in times['pieces']) / 1e3)
        self.assertAlmostEqual(stage['backward_seconds'], sum(p['backward_ms'] for p in times['pieces']) / 1e3)
        self.assertEqual(plan['assumptions']['measured_pieces'], str(path))
        self.refused(USAGE, 'model.width', *self.small, 'model.width=64', '--device', 'cpu', '--costs', path)
        self.refused(USAGE, 'cuda', *self.small, '--device', 'cuda', '--costs', path)

    # --- refusals --------------------------------------------------------------------------------
    def test_what_cannot_run_is_refused(self):
        cuda = ['--device', 'cuda']
        self.refused(USAGE, 'parallel.pipeline', BLOCK, *cuda, '--ranks', 8, 'parallel.pipeline=3')
        self.refused(USAGE, 'train.global_batch', BLOCK, *cuda, '--ranks', 1000)
        self.refused(USAGE, 'train.global_batch', BLOCK, *cuda, '--ranks', 8191, '--search')
        self.refused(USAGE, '29 pieces', BLOCK, *cuda, '--ranks', 32, 'parallel.pipeline=32',
                     'model.token_layers=13')
        self.refused(USAGE, '--ranks', BLOCK, '--ranks', 0)
        self.refused(USAGE, 'bf16', BLOCK, '--device', 'cpu', 'precision=bf16')
        self.refused(USAGE, '--machine h200 is a GPU', BLOCK, '--device', 'cpu', '--machine', 'h200')
        self.refused(USAGE, '--machine', BLOCK, *cuda, '--machine', 'h300')

    def test_a_machine_can_be_named(self):
        cuda = ['--device', 'cuda', '--machine']
        old, new = (self.planned(BLOCK, *cuda, name) for name in ('h100', 'h200'))
        self.assertIn('H100', old['assumptions']['machine'])
        self.assertIn('H200', new['assumptions']['machine'])
        self.assertNotEqual(old['prediction']['step_seconds'], new['prediction']['step_seconds'])

    def test_bad_cost_files_are_refused(self):
        small = [*self.small, '--device', 'cpu', '--costs']
        self.refused(IO, 'missing.json', *small, self.where / 'missing.json')
        for content in ['', '{}', '[1, 2]', '{"format": "tessera-piece-times-1"}']:
            path = self.where / 'bad.json'
            path.write_text(content)
            self.refused(DATA, 'bad.json', *small, path)


if __name__ == '__main__':
    t.main()
