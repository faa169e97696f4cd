#include "data/tokenizer/bpe_tokenizer.h"

#include <algorithm>
#include <utility>

#include "core/error.h"
#include "core/sha256.h"
#include "data/tokenizer/end_of_text.h"
#include "data/tokenizer/gpt2_pattern.h"
#include "data/tokenizer/normalize.h"
#include "data/tokenizer/unicode.h"
#include "data/tokenizer/word_cache.h"

namespace tessera::data {
namespace {

// Tokens with the given `normalized` flag, spelt as they are looked for.
AddedTokenMatcher matcher(const TokenizerJson& json, bool normalized, const std::string& name) {
  std::vector<AddedToken> tokens;
  std::unordered_map<std::string, std::string> spelt;  // as looked for -> as in the file
  for (const AddedToken& token : json.added) {
    if (token.normalized != normalized) continue;
    tokens.push_back(token);
    std::string& content = tokens.back().content;
    std::string buffer;
    if (normalized && json.nfc) content = std::string(normalize_nfc(token.content, buffer));
    const auto [other, fresh] = spelt.emplace(content, token.content);
    if (!fresh)
      throw Error(Category::data, name + ": the added tokens \"" + other->second + "\" and \"" +
                                      token.content +
                                      "\" are the same text in NFC, so that it is left to chance "
                                      "which of them is found; remove one");
  }
  return AddedTokenMatcher(std::move(tokens));
}

}  // namespace

struct BpeTokenizer::Scratch {
  std::string valid;       // the text, when it was not valid UTF-8
  std::string normalized;  // a stretch in NFC
  std::string prefixed;    // a piece with a blank put before it
  std::vector<AddedTokenMatcher::Piece> raw_pieces;
  std::vector<AddedTokenMatcher::Piece> pieces;
  std::vector<Span> spans;
  std::vector<Span> next_spans;
  std::vector<std::int32_t> word;  // ids of one word
  MergeScratch merge;
  WordCache cache;

  // More than ordinary documents need: not worth keeping after a very long one.
  bool oversized() const {
    constexpr std::size_t kKeptBytes = std::size_t{32} << 20;
    return valid.capacity() + normalized.capacity() + prefixed.capacity() +
               (spans.capacity() + next_spans.capacity()) * sizeof(Span) +
               (raw_pieces.capacity() + pieces.capacity()) * sizeof(AddedTokenMatcher::Piece) +
               merge.symbols.capacity() * sizeof(MergeScratch::Symbol) +
               merge.queue.capacity() * sizeof(std::uint64_t) >
           kKeptBytes;
  }
};

class BpeTokenizer::ScratchLease {
 public:
  explicit ScratchLease(const BpeTokenizer& owner) : owner_(owner) {
    {
      const std::lock_guard lock(owner_.pool_mutex_);
      if (!owner_.pool_.empty()) {
        scratch_ = std::move(owner_.pool_.back());
        owner_.pool_.pop_back();
      }
    }
    if (!scratch_) scratch_ = std::make_unique<Scratch>();
  }
  ~ScratchLease() {
    if (scratch_->oversized()) return;
    const std::lock_guard lock(owner_.pool_mutex_);
    owner_.pool_.push_back(std::move(scratch_));
  }
  ScratchLease(const ScratchLease&) = delete;
  ScratchLease& operator=(const ScratchLease&) = delete;

  Scratch& operator*() const { return *scratch_; }

 private:
  const BpeTokenizer& owner_;
  std::unique_ptr<Scratch> scratch_;
};

BpeTokenizer::BpeTokenizer(const TokenizerJson& json, std::string text, const std::string& name)
    : vocabulary_(json, name),
      merges_(resolve_merges(json, name)),
      raw_tokens_(matcher(json, false, name)),
      normalized_tokens_(matcher(json, true, name)),
      nfc_(json.nfc),
      add_prefix_space_(json.add_prefix_space),
      use_pattern_(json.use_regex),
      end_of_text_(find_end_of_text(json.added, name)),
      json_(std::move(text)),
      digest_(sha256(json_)) {
  for (const SplitStep& step : json.splits)
    splits_.emplace_back(step.pattern, step.literal, step.only_matches, name);
  if (json.ignore_merges) whole_words_ = tokens_by_bytes(json);
}

BpeTokenizer::~BpeTokenizer() = default;

void BpeTokenizer::encode(std::string_view text, std::vector<std::int32_t>& ids) const {
  if (text.empty()) return;
  const ScratchLease lease(*this);
  Scratch& scratch = *lease;
  if (!valid_utf8(text)) {
    scratch.valid = replace_invalid_utf8(text);
    text = scratch.valid;
  }
  scratch.raw_pieces.clear();
  raw_tokens_.cut(text, scratch.raw_pieces);
  for (const AddedTokenMatcher::Piece& piece : scratch.raw_pieces) {
    if (piece.id >= 0)
      ids.push_back(piece.id);
    else
      encode_stretch(text.substr(piece.begin, piece.end - piece.begin), scratch, ids);
  }
}

// Text between the tokens that are looked for before normalising.
void BpeTokenizer::encode_stretch(std::string_view text, Scratch& scratch,
                                  std::vector<std::int32_t>& ids) const {
  if (nfc_) text = normalize_nfc(text, scratch.normalized);
  scratch.pieces.clear();
  normalized_tokens_.cut(text, scratch.pieces);
  for (const AddedTokenMatcher::Piece& piece : scratch.pieces) {
    if (piece.id >= 0)
      ids.push_back(piece.id);
    else
      encode_words(text.substr(piece.begin, piece.end - piece.begin), scratch, ids);
  }
}

// Text without added tokens: the pre-tokenizer's steps.
void BpeTokenizer::encode_words(std::string_view text, Scratch& scratch,
                                std::vector<std::int32_t>& ids) const {
  if (splits_.empty()) return byte_level(text, scratch, ids);
  split(text, scratch);
  for (const Span& span : scratch.spans)
    byte_level(text.substr(span.begin, span.end - span.begin), scratch, ids);
}

void BpeTokenizer::split(std::string_view text, Scratch& scratch) const {
  scratch.spans.assign(1, Span{0, text.size()});
  for (const RegexSplit& step : splits_) {
    scratch.next_spans.clear();
    for (const Span& span : scratch.spans) step.split(text, span, scratch.next_spans);
    std::swap(scratch.spans, scratch.next_spans);
  }
}

void BpeTokenizer::byte_level(std::string_view text, Scratch& scratch,
                              std::vector<std::int32_t>& ids) const {
  if (add_prefix_space_ && !text.starts_with(' ')) {
    scratch.prefixed.assign(" ").append(text);
    text = scratch.prefixed;
  }
  if (!use_pattern_) return encode_word(text, scratch, ids);
  for (std::size_t begin = 0; begin < text.size();) {
    const std::size_t end = gpt2_word_end(text, begin);
    encode_word(text.substr(begin, end - begin), scratch, ids);
    begin = end;
  }
}

void BpeTokenizer::encode_word(std::string_view word, Scratch& scratch,
                               std::vector<std::int32_t>& ids) const {
  if (word.size() > WordCache::kMaxBytes) {
    merge(word, scratch);
    ids.insert(ids.end(), scratch.word.begin(), scratch.word.end());
    return;
  }
  WordCache::Entry& entry = scratch.cache.slot(word);
  if (WordCache::holds(entry, word)) {
    ids.insert(ids.end(), entry.ids, entry.ids + entry.count);
    return;
  }
  merge(word, scratch);
  WordCache::store(entry, word, scratch.word);
  ids.insert(ids.end(), scratch.word.begin(), scratch.word.end());
}

// Leaves the ids of `word` in scratch.word.
void BpeTokenizer::merge(std::string_view word, Scratch& scratch) const {
  std::vector<std::int32_t>& ids = scratch.word;
  ids.clear();
  if (!whole_words_.empty()) {
    const auto whole = whole_words_.find(std::string(word));
    if (whole != whole_words_.end()) {
      ids.push_back(whole->second);
      return;
    }
  }
  for (const char byte : word) {
    const std::int32_t id = vocabulary_.byte_ids()[static_cast<unsigned char>(byte)];
    if (id >= 0) ids.push_back(id);
  }
  merge_word(merges_, ids, scratch.merge);
}

std::string BpeTokenizer::decode(std::span<const std::int32_t> ids) const {
  std::string text;
  for (const std::int32_t id : ids) text += vocabulary_.text(id);
  return text;
}

std::string BpeTokenizer::normalized(std::string_view text) const {
  std::string valid = replace_invalid_utf8(text);
  if (!nfc_) return valid;
  std::vector<AddedTokenMatcher::Piece> pieces;
  raw_tokens_.cut(valid, pieces);
  std::string result, buffer;
  for (const AddedTokenMatcher::Piece& piece : pieces) {
    const std::string_view stretch =
        std::string_view(valid).substr(piece.begin, piece.end - piece.begin);
    result += piece.id >= 0 ? stretch : normalize_nfc(stretch, buffer);
  }
  return result;
}

}  // namespace tessera::data
