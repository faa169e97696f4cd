#include "data/flat_file.h"

#include "core/error.h"
#include "data/id_array.h"

namespace tessera::data {
namespace {

// llm.c: a header of 256 int32, the first three magic, version and number of ids.
constexpr std::int64_t kLlmcHeader = 1024;
constexpr std::int32_t kLlmcMagic = 20240520, kLlmcMagicLlama = 20240801;

class FlatFile : public TokenFile {
 public:
  FlatFile(const std::string& path, const ImportOptions& options)
      : file_(path), header_(options.header_bytes) {
    if (!options.dtype.empty() && options.dtype != "uint16" && options.dtype != "uint32")
      throw Error(Category::config,
                  "--dtype is \"" + options.dtype + "\", expected uint16 or uint32");
    if (header_ < 0 || header_ > file_.size())
      throw Error(Category::config, path + ": has " + std::to_string(file_.size()) +
                                        " bytes, so --header-bytes " + std::to_string(header_) +
                                        " does not fit");
    if (options.dtype == "uint32") type_ = IdType::uint32;
    if (header_ == 0) take_llmc_header(options.dtype);
    if ((file_.size() - header_) % size_of(type_) != 0)
      throw Error(Category::data, path + ": has " + std::to_string(file_.size() - header_) +
                                      " bytes of ids, not a multiple of " +
                                      std::to_string(size_of(type_)) +
                                      ": it is truncated, or --dtype or --header-bytes is wrong");
  }

  std::int64_t tokens() const override { return (file_.size() - header_) / size_of(type_); }
  std::int64_t scan_vocab() const override { return array().scan_vocab(); }

  std::int64_t read(const ImportOptions& options, DocumentSink& sink) const override {
    if (options.append == AppendEndOfText::always)
      throw Error(Category::config, file_.path() +
                                        ": documents of a flat file end at the "
                                        "end-of-text id; none can be appended");
    const IdArray ids = array();
    for (std::int64_t first = 0; first < ids.size();) {
      const std::int64_t end = options.end_of_text < 0
                                   ? ids.size()
                                   : std::min(ids.size(), ids.find(first, options.end_of_text) + 1);
      sink.begin(end - first);
      copy_ids(ids, first, end - first, options.vocab_size, sink);
      first = end;
    }
    return 0;
  }

 private:
  IdArray array() const { return {file_, header_, tokens(), type_}; }

  void take_llmc_header(const std::string& dtype) {
    if (file_.size() < kLlmcHeader) return;
    const auto magic = file_.at<std::int32_t>(0), version = file_.at<std::int32_t>(4);
    if (magic != kLlmcMagic && magic != kLlmcMagicLlama) return;
    const bool wide = magic == kLlmcMagicLlama;
    if (version != (wide ? 7 : 1))
      throw Error(Category::data, file_.path() + ": has llm.c's magic " + std::to_string(magic) +
                                      " but version " + std::to_string(version) + ", expected " +
                                      (wide ? "7" : "1"));
    if (!dtype.empty() && (dtype == "uint32") != wide)
      throw Error(Category::config, file_.path() + ": its llm.c header says " +
                                        (wide ? "uint32" : "uint16") + ", but --dtype is " + dtype);
    type_ = wide ? IdType::uint32 : IdType::uint16;
    header_ = kLlmcHeader;
    const std::int64_t claimed = file_.at<std::int32_t>(8);
    if (claimed != tokens() || (file_.size() - header_) % size_of(type_) != 0)
      throw Error(Category::data, file_.path() + ": its llm.c header says " +
                                      std::to_string(claimed) + " ids, but it holds " +
                                      std::to_string(file_.size() - header_) +
                                      " bytes of them: it is truncated");
  }

  MappedFile file_;
  std::int64_t header_ = 0;  // bytes
  IdType type_ = IdType::uint16;
};

}  // namespace

std::unique_ptr<TokenFile> open_flat(const std::string& path, const ImportOptions& options) {
  return std::make_unique<FlatFile>(path, options);
}

}  // namespace tessera::data
