#!/usr/bin/env python3
"""Speed of the attention kernels that PyTorch ships: causal, bf16, forward and backward.

    peer_attention.py [CASE ...]        CASE of the table below; all of them unless given

One line of JSON a case and kernel: ms forward, ms forward and backward, TFLOP/s of each pass (the
causal half counted; a backward is 2.5 forwards), and GB/s as if q, k, v and out (forward: 4 tensors,
with the backward 12) were moved once.
"""
import sys

import torch
import torch.nn.functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

from models import median_ms, report

CASES = {   # windows, heads, length, head size
    'vanilla_160m': (16, 12, 2048, 64),
    'vanilla_410m': (16, 16, 2048, 64),
    'block_170m': (16, 12, 512, 64),
    'block_170m_64': (64, 12, 512, 64),
    'block_1400m': (16, 16, 512, 128),
    'block_170m_tokens': (16 * 511, 12, 5, 64),      # the token decoder's windows of a batch of 16
    'block_1400m_tokens': (8 * 511, 16, 5, 128),
}
KERNELS = {'flash': SDPBackend.FLASH_ATTENTION, 'cudnn': SDPBackend.CUDNN_ATTENTION,
           'efficient': SDPBackend.EFFICIENT_ATTENTION, 'math': SDPBackend.MATH}


def measure(case, kernel):
    windows, heads, length, size = CASES[case]
    q, k, v = (torch.randn(windows, heads, length, size, device='cuda', dtype=torch.bfloat16,
                           requires_grad=True) for _ in range(3))
    dout = torch.randn_like(q)

    def forward():
        return F.scaled_dot_product_attention(q, k, v, is_causal=True)

    def both():
        torch.autograd.grad(forward(), (q, k, v), dout)

    with sdpa_kernel(KERNELS[kernel]):
        with torch.no_grad():
            forward_ms = median_ms(forward, warm_ups=4, runs=15)
        both_ms = median_ms(both, warm_ups=4, runs=15)
    flops = 2 * windows * heads * length ** 2 * size
    tensor = 2 * q.numel()
    report(case=case, kernel=kernel, forward_ms=round(forward_ms, 3), both_ms=round(both_ms, 3),
           forward_tflops=round(flops / forward_ms / 1e9, 1),
           backward_tflops=round(2.5 * flops / (both_ms - forward_ms) / 1e9, 1),
           forward_gb_per_s=round(4 * tensor / forward_ms / 1e6),
           both_gb_per_s=round(12 * tensor / both_ms / 1e6))


if __name__ == '__main__':
    for case in sys.argv[1:] or CASES:
        for kernel in KERNELS:
            if kernel == 'math' and CASES[case][2] > 64:
                continue                 # all scores in memory: nobody's choice for long windows
            try:
                measure(case, kernel)
            except RuntimeError as error:    # a kernel that does not take the shape
                report(case=case, kernel=kernel, failed=str(error).splitlines()[0][:80])
