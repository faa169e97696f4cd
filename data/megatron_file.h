// Megatron's indexed data set, NAME.bin with NAME.idx (data/import_tokens.h has the layout).
#pragma once

#include <memory>
#include <string>

#include "data/import_tokens.h"

namespace tessera::data {

// `path` is the .bin; the .idx stands beside it.
std::unique_ptr<TokenFile> open_megatron(const std::string& path, const ImportOptions& options);

}  // namespace tessera::data
