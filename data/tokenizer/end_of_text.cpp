#include "data/tokenizer/end_of_text.h"

#include "core/error.h"

namespace tessera::data {
namespace {

const char* const kOtherNames[] = {"<|end_of_text|>",   "</s>", "<eos>", "<|eos|>", "[EOS]",
                                   "<|endofdocument|>", "<EOT>"};

}  // namespace

std::int32_t find_end_of_text(const std::vector<AddedToken>& added, const std::string& name) {
  for (const AddedToken& token : added)
    if (token.content == kEndOfText) return token.id;
  std::string looked_for = kEndOfText;
  for (const char* content : kOtherNames) {
    for (const AddedToken& token : added)
      if (token.special && token.content == content) return token.id;
    looked_for += std::string(", ") + content;
  }
  throw Error(Category::data, name + ": no token ends a document; looked in added_tokens for " +
                                  looked_for + ": add one, marked special");
}

}  // namespace tessera::data
