#include "data/tokenizer/bytes_tokenizer.h"

#include <algorithm>

#include "core/sha256.h"
#include "data/tokenizer/end_of_text.h"
#include "data/tokenizer/unicode.h"

namespace tessera::data {

BytesTokenizer::BytesTokenizer()
    : token_bytes_(257, 1), json_("{\"type\": \"bytes\"}"), digest_(sha256(json_)) {
  token_bytes_[256] = 0;
}

void BytesTokenizer::encode(std::string_view text, std::vector<std::int32_t>& ids) const {
  std::string valid;
  if (!valid_utf8(text)) {
    valid = replace_invalid_utf8(text);
    text = valid;
  }
  ids.reserve(ids.size() + text.size());
  const std::string_view end_mark = kEndOfText;
  for (std::size_t position = 0; position < text.size();) {
    const std::size_t end = std::min(text.find(end_mark, position), text.size());
    for (; position < end; ++position) ids.push_back(static_cast<unsigned char>(text[position]));
    if (end == text.size()) break;
    ids.push_back(end_of_text());
    position = end + end_mark.size();
  }
}

std::string BytesTokenizer::decode(std::span<const std::int32_t> ids) const {
  std::string text;
  for (const std::int32_t id : ids) {
    if (id >= 0 && id < 256) text.push_back(static_cast<char>(id));
    if (id == end_of_text()) text += kEndOfText;
  }
  return text;
}

std::string BytesTokenizer::normalized(std::string_view text) const {
  return replace_invalid_utf8(text);
}

}  // namespace tessera::data
