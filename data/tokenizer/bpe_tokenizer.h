// Byte-level BPE: cut out added tokens, normalise, split into words, merge each word's bytes.
#pragma once

#include <memory>
#include <mutex>
#include <string>
#include <unordered_map>
#include <vector>

#include "data/tokenizer.h"
#include "data/tokenizer/added_tokens.h"
#include "data/tokenizer/merge_table.h"
#include "data/tokenizer/regex_split.h"
#include "data/tokenizer/tokenizer_json.h"
#include "data/tokenizer/vocabulary.h"

namespace tessera::data {

class BpeTokenizer : public Tokenizer {
 public:
  // `text` is the file that `json` was read from, `name` its name in errors.
  BpeTokenizer(const TokenizerJson& json, std::string text, const std::string& name);
  ~BpeTokenizer() override;

  using Tokenizer::encode;
  void encode(std::string_view text, std::vector<std::int32_t>& ids) const override;
  std::string decode(std::span<const std::int32_t> ids) const override;
  std::string normalized(std::string_view text) const override;

  std::int64_t vocab_size() const override { return vocabulary_.size(); }
  std::int32_t end_of_text() const override { return end_of_text_; }
  const std::vector<std::int32_t>& token_bytes() const override {
    return vocabulary_.token_bytes();
  }
  bool known(std::int32_t id) const override { return vocabulary_.known(id); }
  const std::string& json() const override { return json_; }
  const std::string& digest() const override { return digest_; }

 private:
  struct Scratch;      // buffers and word cache of one call at a time
  class ScratchLease;  // takes one from the pool and puts it back

  void encode_stretch(std::string_view text, Scratch& scratch,
                      std::vector<std::int32_t>& ids) const;
  void encode_words(std::string_view text, Scratch& scratch, std::vector<std::int32_t>& ids) const;
  void split(std::string_view text, Scratch& scratch) const;
  void byte_level(std::string_view text, Scratch& scratch, std::vector<std::int32_t>& ids) const;
  void encode_word(std::string_view word, Scratch& scratch, std::vector<std::int32_t>& ids) const;
  void merge(std::string_view word, Scratch& scratch) const;

  Vocabulary vocabulary_;
  MergeTable merges_;
  AddedTokenMatcher raw_tokens_;         // looked for before normalising
  AddedTokenMatcher normalized_tokens_;  // looked for after it
  std::vector<RegexSplit> splits_;
  std::unordered_map<std::string, std::int32_t> whole_words_;  // empty unless ignore_merges
  bool nfc_;
  bool add_prefix_space_;
  bool use_pattern_;
  std::int32_t end_of_text_;
  std::string json_;
  std::string digest_;

  mutable std::mutex pool_mutex_;
  mutable std::vector<std::unique_ptr<Scratch>> pool_;  // as many as ever ran at once
};

}  // namespace tessera::data
