// Made-up inputs of `prepare` and what it leaves, for tests.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "data/prepare.h"

namespace tessera::data {

// Encodes `inputs` with the bytes tokenizer and three threads.
PrepareOptions bytes_options(const std::vector<std::string>& inputs, const std::string& out);

// A JSON line each, with another key before "text".
std::string json_lines(const std::vector<std::string>& texts);

// `count` texts of 1..longest bytes (about), each beginning with its number.
std::vector<std::string> made_texts(std::int64_t count, std::int64_t longest);

// Names and bytes of all files below a folder; empty where it is not there.
std::map<std::string, std::string> tree_of(const std::string& folder);

}  // namespace tessera::data
