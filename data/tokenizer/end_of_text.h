// Which token ends a document.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "data/tokenizer/added_tokens.h"

namespace tessera::data {

// How the `bytes` tokenizer, GPT-2, GPT-NeoX and many others write it.
inline constexpr const char* kEndOfText = "<|endoftext|>";

// The id of the added token <|endoftext|>, else of the first special token among the other usual
// names; Error{data} naming `name` and what was looked for when there is none.
std::int32_t find_end_of_text(const std::vector<AddedToken>& added, const std::string& name);

}  // namespace tessera::data
