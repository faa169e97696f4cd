"""Log-likelihoods of tessera eval against other programs on the same items.

    tessera export RUN --out FOLDER
    tessera eval RUN --tasks lambada --task-data DATA --limit 200 --precision fp32 --items ITEMS
    python3 compare_references.py FOLDER ITEMS DATA [--reference REFERENCE.py] [--padding pad|no-pad]

Vanilla models: transformers' GPTNeoXForCausalLM from FOLDER. Block models: a Python file with the
model (--reference: class Config and build(), parameters by their published names), both ways of padding.
Requests are built anew from DATA by the harness's rules with Hugging Face's tokenizers; ids must be
equal, sums within 1e-3, arg-max flags equal. Needs torch and, for vanilla models, transformers: ends
with 77 (skipped) where they are missing."""
import argparse, gzip, json, pathlib, sys

try:
    import torch
    import tokenizers
    from reference_models import Block, Vanilla
except ImportError as missing:
    print(f'skipped: {missing}')
    sys.exit(77)

FILES = {'lambada': 'lambada_openai_test.jsonl', 'hellaswag': 'hellaswag_val.jsonl'}


def lines(folder, task):
    plain, packed = folder / FILES[task], folder / (FILES[task] + '.gz')
    text = plain.read_text() if plain.exists() else gzip.open(packed, 'rt').read()
    return [json.loads(l) for l in text.split('\n') if l.strip()]


def pairs(folder, task):
    for item in lines(folder, task):
        if task == 'lambada':
            context, _, word = item['text'].rpartition(' ')
            yield context, ' ' + word
        else:
            for choice in item['choices']:
                yield item['query'], ' ' + choice


def encode_pair(encode, context, continuation):
    blanks = len(context) - len(context.rstrip())
    if blanks:
        context, continuation = context[:-blanks], context[-blanks:] + continuation
    whole, start = encode(context + continuation), len(encode(context))
    return whole[:start], whole[start:]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument('folder', type=pathlib.Path)
    parser.add_argument('items', type=pathlib.Path)
    parser.add_argument('data', type=pathlib.Path)
    parser.add_argument('--reference')
    parser.add_argument('--padding', default='no-pad')
    a = parser.parse_args()
    torch.backends.cuda.matmul.allow_tf32 = False
    device = 'cuda' if torch.cuda.is_available() else 'cpu'
    model = Block(a.folder, device, a.reference, a.padding) if a.reference else Vanilla(a.folder, device)
    tokenizer = tokenizers.Tokenizer.from_file(str(a.folder / 'tokenizer.json'))
    encode = lambda text: tokenizer.encode(text, add_special_tokens=False).ids
    found = [json.loads(l) for l in a.items.read_text().splitlines()]
    task = found[0]['task']
    worst, wrong, count = 0.0, 0, 0
    with torch.inference_mode():
        for line, (context, continuation) in zip(found, pairs(a.data, task)):
            before, after = encode_pair(encode, context, continuation)
            assert (before, after) == (line['context'], line['continuation']), (line, before, after)
            logits, targets = model(before, after)
            assert len(targets) == line['scored'], (len(targets), line)
            target = torch.tensor(targets, device=device)
            total = logits.log_softmax(-1).gather(1, target[:, None]).sum().item() if targets else 0.0
            greedy = bool((logits.argmax(-1) == target).all()) if targets else True
            worst = max(worst, abs(total - line['log_likelihood']))
            wrong += greedy != line['greedy']
            count += 1
    print(json.dumps({'task': task, 'requests': count, 'largest_difference': worst,
                      'different_arg_max': wrong, 'device': device}))
    sys.exit(0 if worst < 1e-3 and wrong == 0 and count == len(found) else 1)


if __name__ == '__main__':
    main()
