// The tokenizer that needs no file: a token a byte, and one that ends a document.
#pragma once

#include "data/tokenizer.h"

namespace tessera::data {

class BytesTokenizer : public Tokenizer {
 public:
  BytesTokenizer();

  using Tokenizer::encode;
  void encode(std::string_view text, std::vector<std::int32_t>& ids) const override;
  std::string decode(std::span<const std::int32_t> ids) const override;
  std::string normalized(std::string_view text) const override;

  std::int64_t vocab_size() const override { return 257; }
  std::int32_t end_of_text() const override { return 256; }
  const std::vector<std::int32_t>& token_bytes() const override { return token_bytes_; }
  bool known(std::int32_t id) const override { return id >= 0 && id <= 256; }
  const std::string& json() const override { return json_; }
  const std::string& digest() const override { return digest_; }

 private:
  std::vector<std::int32_t> token_bytes_;
  std::string json_;
  std::string digest_;
};

}  // namespace tessera::data
