#!/usr/bin/env python3
"""Training speed of PyTorch on one GPU: a whole optimizer step on random tokens, context 2048.

    peer_train.py NAME:BATCH[:eager] ...        NAME of models.py; compiled unless :eager

One line of JSON a model: ms a step (median), tokens/s, TFLOP/s, share of 989 TFLOP/s.
"""
import sys
import time

import torch

from models import CONTEXT, MODELS, flops_per_token, forget, median_ms, new_model, peak_gib, report, trainer


def measure(name, batch, eager):
    model = new_model(name)
    parameters = sum(p.numel() for p in model.parameters())
    step = trainer(model if eager else torch.compile(model), batch)
    begin = time.time()
    step()
    torch.cuda.synchronize()
    first = time.time() - begin
    ms = median_ms(step, warm_ups=3, runs=10)
    tokens, flops = batch * CONTEXT / ms * 1e3, flops_per_token(MODELS[name])
    report(model=name, compile=not eager, batch=batch, ms=round(ms, 2), tokens_per_s=int(tokens),
           tflops=round(tokens * flops / 1e12, 1), mfu_989=round(tokens * flops / 989e12, 3),
           gflop_per_token=round(flops / 1e9, 3), gib=peak_gib(), parameters=parameters,
           first_step_s=round(first, 1))


if __name__ == '__main__':
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    for spec in sys.argv[1:]:
        name, batch, *eager = spec.split(':')
        try:
            measure(name, int(batch), eager == ['eager'])
        except torch.OutOfMemoryError:
            report(model=name, batch=int(batch), failed='out of memory')
        forget()
