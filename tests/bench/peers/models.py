"""What the peer scripts share: the benchmark's models in plain PyTorch, their cost, and timing.

The models are those of ../curves/reference.py, named as configs/bench names them.
"""
import json
import os
import statistics
import sys

import torch

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'curves'))
from reference import Config, build  # noqa: E402

CONTEXT = 2048
MODELS = {
    'vanilla_70m': Config(width=512, heads=8, layers=6, block_length=0),
    'vanilla_160m': Config(width=768, heads=12, layers=12, block_length=0),
    'vanilla_410m': Config(width=1024, heads=16, layers=24, block_length=0),
    'block_170m': Config(width=768, heads=12, block_layers=6, token_layers=6),
    'block_420m': Config(width=1024, heads=16, block_layers=12, token_layers=12),
    'block_1400m': Config(width=2048, heads=16, block_layers=12, token_layers=12),
}


def flops_per_token(c, context=CONTEXT):
    """Forward and backward: 6 x the multiply-adds of every matrix product that a token takes, and of
    causal attention counted at half. Look-ups of embeddings count nothing."""
    width, layer = c.width, 12 * c.width ** 2
    head = width * c.vocab
    if not c.block_length:
        return 6 * (c.layers * (layer + context * width) + head)
    positions = c.prefix + c.block_length - 1     # of a token decoder's window
    blocks = context / c.block_length
    block_decoder = c.block_layers * (layer + blocks * width) + c.prefix * width ** 2
    token_decoder = c.token_layers * (layer + positions * width)
    return 6 * ((block_decoder + positions * token_decoder) / c.block_length + head)


def median_ms(run, warm_ups, runs):
    """Milliseconds of device time that run() takes."""
    for _ in range(warm_ups):
        run()
    torch.cuda.synchronize()
    times = []
    for _ in range(runs):
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        run()
        end.record()
        torch.cuda.synchronize()
        times.append(begin.elapsed_time(end))
    return statistics.median(times)


def trainer(model, batch):
    """A function that runs one optimizer step of a compiled, wrapped or plain model on random tokens:
    bf16 autocast, gradients clipped, fused AdamW."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, betas=(.9, .95), weight_decay=.1,
                                  fused=True)
    ids = torch.randint(0, 50000, (batch, CONTEXT), device='cuda')

    def step():
        with torch.autocast('cuda', torch.bfloat16):
            loss = model(ids)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    return step


def new_model(name):
    torch.set_float32_matmul_precision('high')
    torch.manual_seed(0)
    return build(MODELS[name]).cuda()


def forget():
    """Frees what the last model left, compiled code included."""
    torch.compiler.reset()
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()


def report(**fields):
    print(json.dumps(fields), flush=True)


def peak_gib():
    return round(torch.cuda.max_memory_allocated() / 2 ** 30, 1)
