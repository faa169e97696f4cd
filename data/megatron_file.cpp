#include "data/megatron_file.h"

#include <filesystem>
#include <string_view>

#include "core/error.h"
#include "core/integers.h"
#include "data/id_array.h"

namespace tessera::data {
namespace {

constexpr std::string_view kMagic("MMIDIDX\0\0", 9);
constexpr std::int64_t kHeader = 9 + 8 + 1 + 8 + 8;  // magic, version, dtype, two counts

IdType id_type(int code, const std::string& path) {
  if (code == 4) return IdType::int32;
  if (code == 5) return IdType::int64;
  if (code == 8) return IdType::uint16;
  throw Error(Category::data, path + ": its ids have dtype code " + std::to_string(code) +
                                  "; expected 4 (int32), 5 (int64) or 8 (uint16)");
}

class MegatronFile : public TokenFile {
 public:
  explicit MegatronFile(const std::string& path)
      : index_(std::filesystem::path(path).replace_extension(".idx").string()), ids_(path) {
    check_header();
    type_ = id_type(index_.at<std::uint8_t>(17), index_.path());
    check_sequences();
    check_documents();
  }

  std::int64_t tokens() const override { return tokens_; }
  std::int64_t scan_vocab() const override { return array().scan_vocab(); }

  std::int64_t read(const ImportOptions& options, DocumentSink& sink) const override {
    if (options.append != AppendEndOfText::never && options.end_of_text < 0)
      throw Error(Category::config, ids_.path() +
                                        ": the end-of-text id is not known; give "
                                        "--tokenizer or --eot, or --append-eot never");
    const IdArray ids = array();
    std::int64_t empty = 0, first = 0;
    for (std::int64_t d = 0; d + 1 < documents_; ++d) {
      std::int64_t length = 0;
      for (std::int64_t s = document(d); s < document(d + 1); ++s) length += size(s);
      if (length == 0) {
        ++empty;
        continue;
      }
      const bool append = options.append == AppendEndOfText::always ||
                          (options.append == AppendEndOfText::missing &&
                           ids.at(first + length - 1) != options.end_of_text);
      sink.begin(length + append);
      copy_ids(ids, first, length, options.vocab_size, sink);
      if (append) sink.append(std::span(&options.end_of_text, 1));
      first += length;
    }
    return empty;
  }

 private:
  [[noreturn]] void refuse(const std::string& finding) const {
    throw Error(Category::data, index_.path() + ": " + finding);
  }

  IdArray array() const { return {ids_, 0, tokens_, type_}; }
  std::int64_t size(std::int64_t sequence) const {
    return index_.at<std::int32_t>(kHeader + 4 * sequence);
  }
  std::int64_t pointer(std::int64_t sequence) const {
    return index_.at<std::int64_t>(kHeader + 4 * sequences_ + 8 * sequence);
  }
  std::int64_t document(std::int64_t entry) const {
    return index_.at<std::int64_t>(kHeader + 12 * sequences_ + 8 * entry);
  }

  void check_header() {
    if (index_.size() < kHeader)
      refuse("has " + std::to_string(index_.size()) + " bytes, too few for a Megatron index");
    for (std::size_t i = 0; i < kMagic.size(); ++i)
      if (index_.at<char>(static_cast<std::int64_t>(i)) != kMagic[i])
        refuse("does not start with MMIDIDX, so it is not a Megatron index");
    if (const auto version = index_.at<std::uint64_t>(9); version != 1)
      refuse("has version " + std::to_string(version) + ", expected 1");
    const auto sequences = index_.at<std::uint64_t>(18), documents = index_.at<std::uint64_t>(26);
    const auto most = static_cast<std::uint64_t>(index_.size());  // each takes more than one byte
    const bool possible = sequences <= most && documents <= most;
    sequences_ = possible ? static_cast<std::int64_t>(sequences) : 0;
    documents_ = possible ? static_cast<std::int64_t>(documents) : 0;
    const std::int64_t expected =
        checked_add(kHeader,
                    checked_add(checked_mul(12, sequences_, index_.path()),
                                checked_mul(8, documents_, index_.path()), index_.path()),
                    index_.path());
    if (!possible || index_.size() != expected)
      refuse("has " + std::to_string(index_.size()) + " bytes, which does not fit the " +
             std::to_string(sequences) + " sequences and " + std::to_string(documents) +
             " document entries it claims: it is damaged or truncated");
  }

  void check_sequences() {
    const std::int64_t width = size_of(type_);
    for (std::int64_t s = 0; s < sequences_; ++s) {
      if (size(s) < 0)
        refuse("sequence " + std::to_string(s) + " has the negative size " +
               std::to_string(size(s)));
      if (pointer(s) != tokens_ * width)
        refuse("sequence " + std::to_string(s) + " starts at byte " + std::to_string(pointer(s)) +
               ", expected " + std::to_string(tokens_ * width) + ", right after the one before");
      tokens_ += size(s);
      if (tokens_ > ids_.size() / width) break;
    }
    const bool more = tokens_ > ids_.size() / width;
    if (more || tokens_ * width != ids_.size())
      throw Error(Category::data, ids_.path() + ": has " + std::to_string(ids_.size()) +
                                      " bytes, but its index describes " +
                                      (more ? "more" : "less") +
                                      ": it is truncated or belongs to another index");
  }

  void check_documents() {
    if (documents_ < 1 || document(0) != 0 || document(documents_ - 1) != sequences_)
      refuse("its documents do not start at sequence 0 and end at sequence " +
             std::to_string(sequences_));
    for (std::int64_t d = 0; d + 1 < documents_; ++d)
      if (document(d + 1) < document(d) || document(d + 1) > sequences_)
        refuse("document " + std::to_string(d + 1) + " starts at sequence " +
               std::to_string(document(d + 1)) + ", out of order");
  }

  MappedFile index_, ids_;
  IdType type_ = IdType::uint16;
  std::int64_t sequences_ = 0, documents_ = 0;  // documents_: entries, one more than documents
  std::int64_t tokens_ = 0;
};

}  // namespace

std::unique_ptr<TokenFile> open_megatron(const std::string& path, const ImportOptions& options) {
  if (!options.dtype.empty() || options.header_bytes != 0)
    throw Error(Category::config,
                path +
                    ": --dtype and --header-bytes are for flat files; a Megatron index says its "
                    "type itself");
  return std::make_unique<MegatronFile>(path);
}

}  // namespace tessera::data
