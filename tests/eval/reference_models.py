"""Other programs' models behind one call, from an export: what their logits are for the tokens of a
continuation. Needs torch, safetensors and, for vanilla models, transformers."""
import importlib.util, json, pathlib, sys

import torch
from safetensors.torch import load_file

REFERENCE = pathlib.Path(__file__).resolve().parents[1] / 'bench' / 'curves' / 'reference.py'


def tensors_of(folder):
    """All tensors of a folder, from one file or the shards of its index."""
    index = folder / 'model.safetensors.index.json'
    names = sorted(set(json.loads(index.read_text())['weight_map'].values())) if index.exists() else ['model.safetensors']
    found = {}
    for name in names:
        found.update(load_file(folder / name))
    return found


class Vanilla:
    """transformers' GPTNeoXForCausalLM in float32."""
    def __init__(self, folder, device='cpu'):
        from transformers import GPTNeoXForCausalLM
        self.model = GPTNeoXForCausalLM.from_pretrained(folder).float().to(device).eval()
        self.device, self.context = device, self.model.config.max_position_embeddings

    def __call__(self, context, continuation):
        """-> logits [n, V] in float64, the n tokens that they predict"""
        whole = (context + continuation)[-(self.context + 1):]
        logits = self.model(torch.tensor([whole[:-1]], device=self.device)).logits[0].double()
        return logits[-len(continuation):], continuation


class Block:
    """A Python file with the block model: class Config and build(), parameters by published names."""
    def __init__(self, folder, device='cpu', reference=REFERENCE, padding='no-pad'):
        module = load_reference(reference)
        c = json.loads((folder / 'config.json').read_text())
        self.c = module.Config(
            vocab=c['vocab_size'], width=c['hidden_size'], heads=c['num_attention_heads'],
            block_layers=c['block_layers'], token_layers=c['token_layers'], block_length=c['block_length'],
            prefix=c['prefix'], rotary_pct=c['rotary_pct'], rotary_base=c['rotary_emb_base'],
            eps=c['layer_norm_eps'], ffn_mult=c['intermediate_size'] // c['hidden_size'],
            projection=c.get('embedder') == 'projection')
        self.model = module.build(self.c).to(device).float().eval()
        self.model.load_state_dict(tensors_of(folder))
        self.device, self.pad = device, padding == 'pad'

    def __call__(self, context, continuation):
        """-> logits [n, V] in float64, the n tokens that they predict: none of the first block"""
        L = self.c.block_length
        ids = [0] * (L - 1 if self.pad else 0) + context + continuation
        size = len(ids)
        ids = ids + [0] * (-size % L)
        logits = self.model.logits(torch.tensor([ids], device=self.device)).flatten(0, 1).double()  # tokens L, L + 1, ...
        begin = max(L, size - len(continuation))
        return logits[begin - L:size - L], ids[begin:size]


def load_reference(path=REFERENCE):
    spec = importlib.util.spec_from_file_location('reference', path)
    module = importlib.util.module_from_spec(spec)
    sys.modules['reference'] = module
    spec.loader.exec_module(module)
    return module
