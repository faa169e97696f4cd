// Unicode normalisation form C, as the NFC normaliser of Hugging Face's tokenizers does it.
#pragma once

#include <string>
#include <string_view>

namespace tessera::data {

// `text` (valid UTF-8) in NFC: a view of `text` itself when nothing changes, else of `buffer`,
// whose old content is lost.
std::string_view normalize_nfc(std::string_view text, std::string& buffer);

}  // namespace tessera::data
