// Ids one after the other, as nanoGPT and llm.c keep them (data/import_tokens.h).
#pragma once

#include <memory>
#include <string>

#include "data/import_tokens.h"

namespace tessera::data {

std::unique_ptr<TokenFile> open_flat(const std::string& path, const ImportOptions& options);

}  // namespace tessera::data
