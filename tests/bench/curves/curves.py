#!/usr/bin/env python3
"""Compares loss curves of one run on several backends with PyTorch's.

    curves.py inputs SHARDS RUN_CONFIG OUT.npz     batches of the run, from the shards' order (h5py)
    curves.py torch INITIAL.safetensors RUN_CONFIG OUT.npz LOSSES.json   reference.py on the GPU or CPU
    curves.py compare LOSSES.json NAME=metrics.jsonl ... --svg OUT.svg   differences, and a picture

INITIAL is an export of the run's parameters before its first step (a run of one step at
optimizer.lr 1e-30, weight decay 0). Batches follow data/sample_order.h: position p of the run is a keyed permutation of the samples.
"""
import json
import sys


def philox(counter, key):
    c, k, mask = list(counter), list(key), 0xFFFFFFFF
    for _ in range(10):
        a, b = 0xD2511F53 * c[0], 0xCD9E8D57 * c[2]
        c = [(b >> 32) ^ c[1] ^ k[0], b & mask, (a >> 32) ^ c[3] ^ k[1], a & mask]
        k = [(k[0] + 0x9E3779B9) & mask, (k[1] + 0xBB67AE85) & mask]
    return c


def hash_name(name):
    h = 0xCBF29CE484222325
    for byte in name.encode():
        h = (h ^ byte) * 0x100000001B3 & (1 << 64) - 1
    return h


def sample_at(seed, samples, position):
    epoch, value = divmod(position, samples)
    half = ((samples - 1).bit_length() + 1) // 2
    seed ^= hash_name('data.sample_order')
    key, mask = (seed & 0xFFFFFFFF, seed >> 32), (1 << half) - 1
    while True:
        left, right = value >> half, value & mask
        for step in range(8):
            block = philox((right, step, epoch & 0xFFFFFFFF, epoch >> 32), key)
            left, right = right, (left ^ block[0]) & mask
        value = left << half | right
        if value < samples:
            return value


def settings(path):
    import yaml
    c = yaml.safe_load(open(path))
    c['optimizer']['lr'] = float(c['optimizer']['lr'])   # YAML 1.1 reads 1e-3 as text
    return c


def inputs(shards, config, out):
    import glob
    import h5py
    import numpy as np
    c = settings(config)
    tokens = np.concatenate([h5py.File(f)['tokens'][:] for f in sorted(glob.glob(shards + '/*.h5'))])
    context, batch = c['model']['context'], c['train']['global_batch']
    samples = len(tokens) // context
    rows = [sample_at(c['seed'], samples, p) for p in range(c['train']['steps'] * batch)]
    ids = np.stack([tokens[r * context:(r + 1) * context] for r in rows])
    np.savez_compressed(out, ids=ids.reshape(c['train']['steps'], batch, context).astype(np.uint16))


def run_torch(initial, config, batches, out):
    import os
    import numpy as np
    import torch
    from safetensors.torch import load_file
    sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
    import reference
    c = settings(config)
    m, o = c['model'], c['optimizer']
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False   # the expansion is a convolution
    torch.backends.cuda.enable_flash_sdp(False)
    torch.backends.cuda.enable_mem_efficient_sdp(False)   # plain float32 attention
    torch.backends.cuda.enable_cudnn_sdp(False)
    device = 'cuda' if torch.cuda.is_available() else 'cpu'
    model = reference.build(reference.Config(
        vocab=m['vocab'], width=m['width'], heads=m['heads'], block_layers=m['block_layers'],
        token_layers=m['token_layers'], block_length=m['block_length'], prefix=m['prefix'],
        projection=m.get('embedder') == 'projection'))
    state = load_file(initial)
    missing = model.load_state_dict({n: state[n].float() for n in model.state_dict()}, strict=True)
    assert not missing.missing_keys
    model.to(device)
    groups = [{'params': [p for p in model.parameters() if (p.dim() >= 2) == matrix],
               'weight_decay': 0.1 if matrix else 0.0} for matrix in (True, False)]
    if o.get('decay', 'all') == 'all':
        groups[1]['weight_decay'] = 0.1
    optimizer = torch.optim.AdamW(groups, lr=o['lr'], betas=(0.9, 0.95), eps=1e-8, foreach=False)
    ids = np.load(batches)['ids']
    steps, warmup, least, losses = c['train']['steps'], o['warmup'], o.get('min_lr_ratio', 0.1), []
    import math
    for n in range(1, steps + 1):
        rate = o['lr'] * n / warmup if n <= warmup else o['lr'] * (
            least + (1 - least) * (1 + math.cos(math.pi * (n - warmup) / (steps - warmup))) / 2)
        for group in optimizer.param_groups:
            group['lr'] = rate
        loss = model(torch.from_numpy(ids[n - 1].astype('int64')).to(device))
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        losses.append(loss.item())
    json.dump({'device': device, 'torch': torch.__version__, 'losses': losses}, open(out, 'w'))
    print('PyTorch', torch.__version__, device, 'first', losses[0], 'last', losses[-1])


def losses_of(path):
    return [json.loads(line)['loss'] for line in open(path) if '"step"' in line.split(',')[0]]


COLOURS = ['#000000', '#1f77b4', '#2ca02c', '#d62728']


def draw(curves, path):
    """Losses above, absolute differences from the first curve (logarithmic) below."""
    import math
    width, height, gap, left = 760, 260, 40, 60
    steps = len(curves[0][1])
    x = lambda i: left + i * (width - left - 20) / max(1, steps - 1)
    top = max(max(v) for _, v in curves)
    low = min(min(v) for _, v in curves)
    y = lambda v: 20 + (top - v) / (top - low) * (height - 40)
    base = height + gap
    z = lambda d: base + (0 - math.log10(max(d, 1e-8))) / 8 * (height - 40)
    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {2 * height + gap}" '
             'font-family="sans-serif" font-size="12">', '<rect width="100%" height="100%" fill="white"/>']
    for v in range(math.ceil(low), math.floor(top) + 1):
        parts.append(f'<text x="10" y="{y(v):.0f}">{v}</text>'
                     f'<path d="M{left} {y(v):.1f}H{width - 20}" stroke="#ddd"/>')
    for e in range(0, 9, 2):
        parts.append(f'<text x="10" y="{z(10.0 ** -e) + 4:.0f}">1e-{e}</text>'
                     f'<path d="M{left} {z(10.0 ** -e):.1f}H{width - 20}" stroke="#ddd"/>')
    for i, (name, values) in enumerate(curves):
        colour = COLOURS[i % len(COLOURS)]
        points = ' '.join(f'{x(n):.1f},{y(v):.1f}' for n, v in enumerate(values))
        parts.append(f'<polyline points="{points}" fill="none" stroke="{colour}"/>')
        parts.append(f'<text x="{width - 260}" y="{30 + 16 * i}" fill="{colour}">{name}</text>')
        if i:
            points = ' '.join(f'{x(n):.1f},{z(abs(v - w)):.1f}'
                              for n, (v, w) in enumerate(zip(values, curves[0][1])))
            parts.append(f'<polyline points="{points}" fill="none" stroke="{colour}"/>')
    parts.append(f'<text x="{left}" y="{height + 24}">|loss - {curves[0][0]}| by step, nats</text></svg>')
    open(path, 'w').write('\n'.join(parts) + '\n')


def compare(reference, arguments):
    svg = arguments[arguments.index('--svg') + 1] if '--svg' in arguments else None
    data = json.load(open(reference))
    curves = [(f"PyTorch {data['torch']} fp32 ({data['device']})", data['losses'])]
    for argument in arguments:
        if '=' in argument:
            name, path = argument.split('=', 1)
            curves.append((name, losses_of(path)))
    print(f"{'':32} {'last loss':>10} {'largest difference':>20} at step")
    for name, values in curves:
        assert len(values) == len(curves[0][1]), f'{name}: {len(values)} steps'
        gaps = [abs(a - b) for a, b in zip(values, curves[0][1])]
        print(f'{name:32} {values[-1]:10.5f} {max(gaps):20.2e} {gaps.index(max(gaps)) + 1}')
    if svg:
        draw(curves, svg)


if __name__ == '__main__':
    commands = {'inputs': lambda a: inputs(*a), 'torch': lambda a: run_torch(*a),
                'compare': lambda a: compare(a[0], a[1:])}
    if len(sys.argv) < 3 or sys.argv[1] not in commands:
        sys.exit(__doc__)
    commands[sys.argv[1]](sys.argv[2:])
