"""Reads a checkpoint as docs/formats.md describes it, with nothing but Python: a second implementation.

    python3 read_checkpoint.py RUN/checkpoints/step-00000100
"""
import array, hashlib, json, math, pathlib, re, struct, sys


def checked(path, record):
    data = path.read_bytes()
    if len(data) != record['bytes'] or hashlib.sha256(data).hexdigest() != record['sha256']:
        raise ValueError(f'{path.name}: size or SHA-256 differs')
    return data


def safetensors(data):
    """-> name -> (type, shape, bytes)"""
    length, = struct.unpack('<Q', data[:8])
    header = json.loads(data[8:8 + length])
    header.pop('__metadata__', None)
    body = memoryview(data)[8 + length:]
    return {name: (t['dtype'], t['shape'], body[slice(*t['data_offsets'])]) for name, t in header.items()}


def read(folder):
    """-> manifest, {'param' | 'm' | 'v': {tensor: array of float32}}; ValueError where it is no checkpoint."""
    folder = pathlib.Path(folder)
    text = (folder / 'manifest.json').read_bytes()
    covered, _, last = text.rpartition(b',\n')
    manifest = json.loads(text)
    if not re.fullmatch(rb' *"manifest_sha256": *"[0-9a-f]{64}"\n}\n', last) or \
            hashlib.sha256(covered).hexdigest() != manifest['manifest_sha256']:
        raise ValueError('manifest.json: SHA-256 differs')
    if (manifest['format'], manifest['version']) != ('tessera-checkpoint', 1):
        raise ValueError('manifest.json: another format or version')
    if folder.name != f'step-{manifest["step"]:08d}':
        raise ValueError('manifest.json: of another step')
    for name, record in manifest['files'].items():
        checked(folder / name, record)

    tensors = manifest['tensors']
    counts = [math.prod(t['shape']) for t in tensors]
    state = {kind: {t['name']: array.array('f', bytes(4 * n)) for t, n in zip(tensors, counts)}
             for kind in ('param', 'm', 'v')}
    covered = [[] for _ in tensors]
    for part in manifest['parts']:
        arrays = safetensors(checked(folder / part['file'], part))
        for piece in part['slices']:
            begin, end, name = piece['begin'], piece['end'], tensors[piece['tensor']]['name']
            covered[piece['tensor']].append((begin, end))
            for kind, whole in state.items():
                dtype, shape, data = arrays.pop(f'{kind}.{name}[{begin}:{end}]')
                assert (dtype, shape) == ('F32', [end - begin])
                memoryview(whole[name])[begin:end] = data.cast('B').cast('f')
        assert not arrays, f'{part["file"]}: arrays beyond the manifest'
    for pieces, count, tensor in zip(covered, counts, tensors):
        ends = [0] + [end for _, end in sorted(pieces)]
        assert [b for b, _ in sorted(pieces)] == ends[:-1] and ends[-1] == count, tensor['name']
    return manifest, state


if __name__ == '__main__':
    manifest, state = read(sys.argv[1])
    print(f'step {manifest["step"]}: {sum(map(len, state["param"].values())):,} parameters')
