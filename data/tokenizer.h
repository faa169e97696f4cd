// Text to token ids and back.
//
// Two kinds: byte-level BPE read from a Hugging Face `tokenizer.json` (GPT-2, GPT-NeoX-20B and
// their like: optional NFC normaliser, added tokens cut out first, pre-splitting by the ByteLevel
// regular expression, merges by rank), and `bytes` (ids 0-255, end-of-text 256), which needs no
// file. Ids equal those of Hugging Face's `tokenizers` library exactly. Immutable after
// construction: every const method may be called from many threads.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace tessera::data {

class Tokenizer {
 public:
  virtual ~Tokenizer() = default;

  // Appends the ids of `text` to `ids`. Special tokens spelt out in the text become their ids.
  // Invalid UTF-8 is replaced by U+FFFD, as a JSON reader would.
  virtual void encode(std::string_view text, std::vector<std::int32_t>& ids) const = 0;
  // The text of `ids`, special tokens spelt out. Ids beyond the vocabulary add nothing. The result
  // may end inside a UTF-8 sequence when the ids do.
  virtual std::string decode(std::span<const std::int32_t> ids) const = 0;

  // What decode gives back for the ids of `text`: the text in the tokenizer's normal form (NFC, or
  // as it is), invalid UTF-8 replaced. Tokens that take blanks beside them along, or a blank put
  // before the text, are not accounted for.
  virtual std::string normalized(std::string_view text) const = 0;

  // One past the largest id.
  virtual std::int64_t vocab_size() const = 0;
  // Id written after each document.
  virtual std::int32_t end_of_text() const = 0;
  // Bytes of text that each id stands for, [vocab_size]; special tokens: 0 (they are not text).
  virtual const std::vector<std::int32_t>& token_bytes() const = 0;
  // False for ids below vocab_size that stand for nothing (holes); sampling must not choose them.
  virtual bool known(std::int32_t id) const = 0;
  // The tokenizer.json this was made from, byte for byte; for `bytes` a small JSON that
  // parse_tokenizer takes: {"type": "bytes"}.
  virtual const std::string& json() const = 0;
  // SHA-256 of json().
  virtual const std::string& digest() const = 0;

  std::vector<std::int32_t> encode(std::string_view text) const {
    std::vector<std::int32_t> ids;
    encode(text, ids);
    return ids;
  }
};

// `path` is "bytes", a tokenizer.json, or a folder that holds one. Error{data} naming the file and
// what in it is not supported (another model type, normaliser, pre-tokenizer, ...) or inconsistent.
std::unique_ptr<Tokenizer> load_tokenizer(const std::string& path);

// The same from text; `name` stands for the file in messages.
std::unique_ptr<Tokenizer> parse_tokenizer(const std::string& json, const std::string& name);

}  // namespace tessera::data
