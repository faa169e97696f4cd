// What a Hugging Face tokenizer.json says, for the byte-level BPE kind.
//
// Read: added_tokens, normalizer (null or NFC), pre_tokenizer (ByteLevel, or Split and Digits steps
// before one), model (BPE), decoder (null or ByteLevel). Passed over: post_processor (it adds
// special tokens around a text, and we encode without them), truncation and padding (never
// applied). Anything else is refused, because ids would differ.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "core/json.h"
#include "data/tokenizer/added_tokens.h"

namespace tessera::data {

// Ids of a tokenizer.json are below this.
inline constexpr std::int64_t kMaxTokenizerIds = std::int64_t{1} << 24;

struct SplitStep {
  std::string pattern;
  bool literal = false;       // plain text, not a regular expression
  bool only_matches = false;  // text between matches is dropped
};

struct TokenizerJson {
  std::vector<AddedToken> added;  // in the order of the file
  bool nfc = false;
  std::vector<SplitStep> splits;  // applied one after the other, before ByteLevel
  bool add_prefix_space = false;
  bool use_regex = true;                                    // ByteLevel's own pattern, last
  std::vector<std::pair<std::string, std::int32_t>> vocab;  // as written, ids in 0..2^24-1
  std::vector<std::pair<std::string, std::string>> merges;  // as written, by rank
  bool ignore_merges = false;                               // a word in the vocabulary stays whole
  bool has_unknown = false;  // unk_token or byte_fallback: for characters outside the vocabulary
};

// Error{data} naming `name`, the key, what was found and what is supported.
TokenizerJson read_tokenizer_json(const Json& json, const std::string& name);

}  // namespace tessera::data
