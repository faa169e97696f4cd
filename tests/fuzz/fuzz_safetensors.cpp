// A safetensors file of a stranger: opened, and all of it read.
#include <vector>

#include "checkpoints/safetensors.h"
#include "tests/fuzz/input.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace tessera;
  const fuzz::InputFile file(data, size);
  return fuzz::attempt([&] {
    const checkpoints::SafetensorsReader reader(file.path());
    std::int64_t bytes = 0;
    for (const checkpoints::TensorEntry& entry : reader.tensors()) {
      bytes += entry.bytes;
      TESSERA_CHECK(reader.find(entry.name) == &entry);
      // What is accepted is inside the file, so memory stays below a multiple of its size.
      TESSERA_CHECK(entry.count() * checkpoints::element_bytes(entry.type) == entry.bytes);
      TESSERA_CHECK(bytes <= static_cast<std::int64_t>(size));
      fuzz::attempt([&] {
        std::vector<float> values(static_cast<std::size_t>(entry.count()));
        reader.read_floats(entry, 0, entry.count(), values.data());
      });
      fuzz::attempt([&] { (void)reader.read_integers(entry); });
    }
  });
}
