#!/usr/bin/env python3
"""Generation speed of Hugging Face transformers: greedy `generate` of a GPT-NeoX model in bf16.

    peer_generate.py NAME:BATCH:PROMPT:NEW ...        NAME one of vanilla_70m, vanilla_160m, vanilla_410m

Random weights and random prompts of PROMPT tokens; NEW tokens a prompt, none of which ends it. One
line of JSON a case; tokens/s counts new tokens, the prompt's time included.
"""
import sys
import time

import torch
from transformers import GPTNeoXConfig, GPTNeoXForCausalLM

from models import MODELS, peak_gib, report


def load(name):
    c = MODELS[name]
    config = GPTNeoXConfig(
        vocab_size=c.vocab, hidden_size=c.width, num_hidden_layers=c.layers,
        num_attention_heads=c.heads, intermediate_size=c.ffn_mult * c.width,
        rotary_pct=c.rotary_pct, hidden_act='gelu', max_position_embeddings=4096,
        attn_implementation='sdpa', bos_token_id=0, eos_token_id=None, pad_token_id=0)
    model = GPTNeoXForCausalLM(config).to('cuda', torch.bfloat16).eval()
    model.generation_config.eos_token_id = None
    return model


@torch.inference_mode()
def measure(name, batch, prompt, new):
    model = load(name)
    ids = torch.randint(1, 50000, (batch, prompt), device='cuda')
    model.generate(ids, max_new_tokens=4, do_sample=False)
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    begin = time.time()
    out = model.generate(ids, max_new_tokens=new, do_sample=False)
    torch.cuda.synchronize()
    seconds = time.time() - begin
    if out.shape[1] != prompt + new:
        sys.exit(f'{name}: generated {out.shape[1] - prompt} tokens a prompt, not {new}')
    report(model=name, batch=batch, prompt=prompt, new=new, s=round(seconds, 2),
           new_tokens_per_s=int(batch * new / seconds), gib=peak_gib())


if __name__ == '__main__':
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    for spec in sys.argv[1:]:
        name, *numbers = spec.split(':')
        if MODELS[name].block_length:
            sys.exit(f'{name}: transformers has no Block Transformer')
        try:
            measure(name, *map(int, numbers))
        except torch.OutOfMemoryError:
            report(model=name, case=spec, failed='out of memory')
        torch.cuda.empty_cache()
