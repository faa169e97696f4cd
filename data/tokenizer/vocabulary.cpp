#include "data/tokenizer/vocabulary.h"

#include <algorithm>
#include <optional>
#include <unordered_set>

#include <spdlog/spdlog.h>

#include "core/error.h"
#include "core/text.h"
#include "data/tokenizer/byte_alphabet.h"

namespace tessera::data {
namespace {

// Valid UTF-8 never contains the others.
bool byte_of_utf8(int byte) {
  return byte != 0xC0 && byte != 0xC1 && byte < 0xF5;
}

struct Token {
  std::string text;
  bool special = false;
};

// Ids -> tokens while they are collected.
class Tokens {
 public:
  explicit Tokens(const std::string& name) : name_(name) {}

  void add(std::int32_t id, std::string text, bool special) {
    const auto at = static_cast<std::size_t>(id);
    if (at >= tokens_.size()) tokens_.resize(at + 1);
    if (tokens_[at])
      throw Error(Category::data, name_ + ": id " + std::to_string(id) +
                                      " stands for two tokens, " + in_quotes(tokens_[at]->text) +
                                      " and " + in_quotes(text));
    tokens_[at] = Token{std::move(text), special};
  }

  void mark(std::int32_t id, std::string text, bool special) {
    tokens_[static_cast<std::size_t>(id)] = Token{std::move(text), special};
  }

  const std::vector<std::optional<Token>>& all() const { return tokens_; }

 private:
  const std::string& name_;
  std::vector<std::optional<Token>> tokens_;
};

void add_model_tokens(const TokenizerJson& json, const std::string& name, Tokens& tokens) {
  std::unordered_set<std::string_view> added;
  for (const AddedToken& token : json.added) added.insert(token.content);
  for (const auto& [written, id] : json.vocab) {
    std::optional<std::string> bytes = bytes_of(written);
    if (!bytes && !added.contains(written))
      throw Error(Category::data,
                  name + ": the token " + in_quotes(written) + " (id " + std::to_string(id) +
                      ") is not written in the byte-level alphabet: only byte-level vocabularies "
                      "are supported");
    tokens.add(id, bytes ? std::move(*bytes) : written, false);
  }
}

// Hugging Face's library does not take an added token's id from the file: it is the model's id of
// the same text, else the next free one. A file that says otherwise means two things at once.
void add_added_tokens(const TokenizerJson& json, const std::string& name, Tokens& tokens) {
  std::unordered_map<std::string_view, std::int32_t> model;
  for (const auto& [written, id] : json.vocab) model.emplace(written, id);
  std::unordered_set<std::string_view> seen;
  const auto count = static_cast<std::int64_t>(json.vocab.size());
  std::int64_t next = count;
  for (const AddedToken& token : json.added) {
    if (!seen.insert(token.content).second)
      throw Error(Category::data,
                  name + ": added_tokens has " + in_quotes(token.content) + " twice");
    const auto at = model.find(token.content);
    const std::int64_t expected = at == model.end() ? next : at->second;
    if (token.id != expected)
      throw Error(Category::data,
                  name + ": the added token " + in_quotes(token.content) + " has id " +
                      std::to_string(token.id) + ", but Hugging Face's library gives it " +
                      std::to_string(expected) +
                      (at == model.end() ? " (the next after the vocabulary); list added tokens in "
                                           "order of id, without holes"
                                         : " (its id in model.vocab); correct the file"));
    next = std::max(next, expected + 1);
    if (at == model.end())
      tokens.add(token.id, token.content, token.special);
    else
      tokens.mark(token.id, token.content, token.special);
  }
}

}  // namespace

Vocabulary::Vocabulary(const TokenizerJson& json, const std::string& name) {
  if (json.vocab.empty()) throw Error(Category::data, name + ": model.vocab is empty");
  Tokens tokens(name);
  add_model_tokens(json, name, tokens);
  add_added_tokens(json, name, tokens);

  begins_.push_back(0);
  for (const std::optional<Token>& token : tokens.all()) {
    known_.push_back(token.has_value());
    if (token) texts_ += token->text;
    begins_.push_back(static_cast<std::uint32_t>(texts_.size()));
    const std::size_t bytes = token && !token->special ? token->text.size() : 0;
    token_bytes_.push_back(static_cast<std::int32_t>(bytes));
  }

  byte_ids_.fill(-1);
  for (const auto& [written, id] : json.vocab) {
    const std::optional<std::string> bytes = bytes_of(written);
    if (bytes && bytes->size() == 1) byte_ids_[static_cast<unsigned char>((*bytes)[0])] = id;
  }
  check_bytes(json, name);
}

void Vocabulary::check_bytes(const TokenizerJson& json, const std::string& name) const {
  int missing = 0, first = 0;
  for (int byte = 255; byte >= 0; --byte)
    if (byte_of_utf8(byte) && byte_ids_[static_cast<std::size_t>(byte)] < 0) {
      ++missing;
      first = byte;
    }
  if (missing == 0) return;
  const std::string what = name + ": the vocabulary lacks " + std::to_string(missing) +
                           " byte values, the first is " + std::to_string(first);
  if (json.has_unknown)
    throw Error(Category::data, what +
                                    ", and model.unk_token or byte_fallback, which would stand "
                                    "in for them, are not supported");
  spdlog::warn("{}: they are left out of every text, as Hugging Face's library does", what);
}

std::vector<Merge> resolve_merges(const TokenizerJson& json, const std::string& name) {
  std::unordered_map<std::string_view, std::int32_t> ids;
  for (const auto& [written, id] : json.vocab) ids.emplace(written, id);
  std::vector<Merge> merges;
  merges.reserve(json.merges.size());
  for (const auto& merge : json.merges) {
    const auto &left = merge.first, &right = merge.second;
    const auto find = [&](const std::string& token) {
      const auto at = ids.find(token);
      if (at == ids.end())
        throw Error(Category::data, name + ": model.merges[" + std::to_string(merges.size()) +
                                        "] joins " + in_quotes(left) + " and " + in_quotes(right) +
                                        ", but " + in_quotes(token) + " is not in model.vocab");
      return at->second;
    };
    merges.push_back({find(left), find(right), find(left + right)});
  }
  return merges;
}

std::unordered_map<std::string, std::int32_t> tokens_by_bytes(const TokenizerJson& json) {
  std::unordered_map<std::string, std::int32_t> ids;
  for (const auto& [written, id] : json.vocab)
    if (std::optional<std::string> bytes = bytes_of(written)) ids.emplace(std::move(*bytes), id);
  return ids;
}

}  // namespace tessera::data
