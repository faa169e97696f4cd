// Fixtures of the tokenizer tests.
#pragma once

#include <memory>
#include <string>

#include "core/json.h"
#include "data/tokenizer.h"

namespace tessera::data {

// The whole of tests/data/fixtures/NAME, unpacked when it ends in .gz.
std::string fixture(const std::string& name);

// data/sample/tokenizer.json: 4,096 tokens, merges as pairs.
Json sample_tokenizer();

// "gpt2" or "neox"; made once.
const Tokenizer& fixture_tokenizer(std::string name);

std::unique_ptr<Tokenizer> tokenizer_of(const Json& json);

}  // namespace tessera::data
