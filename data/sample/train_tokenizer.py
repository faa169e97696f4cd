#!/usr/bin/env python3
"""Makes the bundled tokenizer: a byte-level BPE of the training text, with <|endoftext|> as id 0.

    data/sample/train_tokenizer.py VOCABULARY OUTPUT.json [TRAIN.jsonl.zst [VALID.jsonl.zst]]

VOCABULARY is the number of ids in all: 1 for <|endoftext|>, 256 for the bytes, the rest merges. Text is
split as GPT-2 splits it, without normalisation. Prints the bytes a token of the validation text. Needs
the Python package `tokenizers` (0.23 made the bundled file) and the `zstd` program.
"""
import json
import pathlib
import subprocess
import sys

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

END_OF_TEXT = "<|endoftext|>"


def texts(path):
    packed = subprocess.run(["zstd", "-dcq", str(path)], stdout=subprocess.PIPE, check=True)
    return [json.loads(line)["text"] for line in packed.stdout.decode().split("\n") if line]


def train(vocabulary, documents):
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=vocabulary, special_tokens=[END_OF_TEXT],
                                  initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
                                  show_progress=False)
    tokenizer.train_from_iterator(documents, trainer)
    return tokenizer


def main():
    if not 3 <= len(sys.argv) <= 5:
        sys.exit("usage: train_tokenizer.py VOCABULARY OUTPUT.json [TRAIN.jsonl.zst [VALID.jsonl.zst]]")
    here = pathlib.Path(__file__).parent
    train_path = sys.argv[3] if len(sys.argv) > 3 else here / "train.jsonl.zst"
    valid_path = sys.argv[4] if len(sys.argv) > 4 else here / "valid.jsonl.zst"
    tokenizer = train(int(sys.argv[1]), texts(train_path))
    if tokenizer.token_to_id(END_OF_TEXT) != 0 or tokenizer.get_vocab_size() != int(sys.argv[1]):
        sys.exit("train_tokenizer: the text is too small for this vocabulary")
    compact = json.dumps(json.loads(tokenizer.to_str()), ensure_ascii=False, separators=(",", ":"))
    pathlib.Path(sys.argv[2]).write_text(compact + "\n", encoding="utf-8")

    valid = texts(valid_path)
    for text in valid:
        if tokenizer.decode(tokenizer.encode(text).ids, skip_special_tokens=False) != text:
            sys.exit("train_tokenizer: a validation text does not survive encoding and decoding")
    tokens = sum(len(tokenizer.encode(text).ids) for text in valid)
    size = sum(len(text.encode()) for text in valid)
    print(f"{sys.argv[2]}: {tokenizer.get_vocab_size()} ids; validation text {size:,} bytes, "
          f"{tokens:,} tokens, {size / tokens:.4f} bytes a token")


if __name__ == "__main__":
    main()
