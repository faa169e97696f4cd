// Which files a `prepare` reads, and what is in them.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace tessera::data {

enum class InputFormat {
  automatic,  // by the name: .jsonl .ndjson .json .txt, each also with .zst or .gz; .bin .idx
  jsonl,      // one JSON object a line
  text,       // one document a file
  megatron,   // NAME.bin with NAME.idx
  flat,       // ids one after the other
};

struct InputFile {
  std::string path;
  InputFormat format = InputFormat::automatic;  // never automatic in results
  std::int64_t bytes = 0;                       // as stored
};

// The files of `inputs` in the order given; a folder stands for its files of known formats, those
// of its sub-folders included, sorted by path (hidden ones are left out). With a `format` other
// than automatic every file named is of that format, and folders give their files of that format.
// Error{config} for a name of no known format or a folder without any; Error{io} for one that is
// not there (NAME alone may stand for the pair NAME.bin, NAME.idx).
std::vector<InputFile> find_inputs(const std::vector<std::string>& inputs, InputFormat format);

// Whether a format holds token ids instead of text.
bool holds_ids(InputFormat format);

}  // namespace tessera::data
