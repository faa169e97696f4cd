// The tokens of a byte-level BPE model: the bytes each id stands for, and the ids of single bytes.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "data/tokenizer/merge_table.h"
#include "data/tokenizer/tokenizer_json.h"

namespace tessera::data {

class Vocabulary {
 public:
  // Error{data} naming `name` when an id stands for two tokens, a token is neither written in the
  // byte alphabet nor an added one, an added token's id is not the one Hugging Face's library
  // would give it, or the vocabulary is empty.
  Vocabulary(const TokenizerJson& json, const std::string& name);

  // One past the largest id.
  std::int64_t size() const { return static_cast<std::int64_t>(known_.size()); }
  bool known(std::int32_t id) const {
    return id >= 0 && id < size() && known_[static_cast<std::size_t>(id)];
  }
  // What `id` is decoded to; "" for unknown ids.
  std::string_view text(std::int32_t id) const {
    if (!known(id)) return {};
    const auto at = static_cast<std::size_t>(id);
    return std::string_view(texts_).substr(begins_[at], begins_[at + 1] - begins_[at]);
  }
  // Length of text(id); 0 for special tokens.
  const std::vector<std::int32_t>& token_bytes() const { return token_bytes_; }
  // The token of each byte value; -1 where the model has none.
  const std::array<std::int32_t, 256>& byte_ids() const { return byte_ids_; }

 private:
  void check_bytes(const TokenizerJson& json, const std::string& name) const;

  std::vector<bool> known_;            // [size]
  std::string texts_;                  // of all ids, one after the other
  std::vector<std::uint32_t> begins_;  // [size + 1], into texts_
  std::vector<std::int32_t> token_bytes_;
  std::array<std::int32_t, 256> byte_ids_{};
};

// The merges as ids; Error{data} naming `name` and the merge when a token of it, or its result, is
// not in the vocabulary.
std::vector<Merge> resolve_merges(const TokenizerJson& json, const std::string& name);

// Bytes -> id of all tokens written in the byte alphabet.
std::unordered_map<std::string, std::int32_t> tokens_by_bytes(const TokenizerJson& json);

}  // namespace tessera::data
