#!/usr/bin/env python3
"""Training speed of PyTorch on several GPUs: DistributedDataParallel, one all-reduce a step.

    torchrun --nproc_per_node=GPUS peer_ddp.py NAME:BATCH ...      BATCH a GPU

Two lines of JSON a model: one GPU by itself (every GPU runs at once, the first one's time counts),
then all of them together with tokens/s of the whole and how many times one GPU that is.
"""
import os
import sys

import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel

from models import CONTEXT, forget, median_ms, new_model, report, trainer


def measure(name, batch, together):
    model = new_model(name)
    step = trainer(torch.compile(DistributedDataParallel(model) if together else model), batch)
    step()
    dist.barrier()
    return batch * CONTEXT / median_ms(step, warm_ups=3, runs=10) * 1e3


def main(specs):
    dist.init_process_group('nccl')
    rank, gpus = dist.get_rank(), dist.get_world_size()
    for spec in specs:
        name, batch = spec.split(':')
        alone = measure(name, int(batch), together=False)
        forget()
        together = measure(name, int(batch), together=True) * gpus
        forget()
        if rank == 0:
            report(model=name, batch=int(batch), gpus=1, tokens_per_s=int(alone))
            report(model=name, batch=int(batch), gpus=gpus, tokens_per_s=int(together),
                   times_one=round(together / alone, 2))
    dist.destroy_process_group()


if __name__ == '__main__':
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    torch.cuda.set_device(int(os.environ['LOCAL_RANK']))
    main(sys.argv[1:])
