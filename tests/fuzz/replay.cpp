// Runs a fuzz target without a fuzzer: over the files of its corpus, and over variations of them
// that are the same each time.
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <string>
#include <vector>

#include "core/file_system.h"
#include "core/random.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size);

namespace {

constexpr std::uint64_t kVariations = 1500;  // of each file
constexpr std::int64_t kLargest = 1 << 20;

// One to four changes: a flipped bit, another byte, a piece left out, a piece put elsewhere, an
// end.
std::string varied(std::string text, const tessera::CounterRandom& random) {
  std::uint64_t at = 0;
  const auto below = [&](std::uint64_t bound) { return random.bits(at++) % bound; };
  for (std::uint64_t changes = 1 + below(4); changes > 0 && !text.empty(); --changes) {
    const std::size_t place = below(text.size());
    const std::string piece = text.substr(place, 1 + below(40));
    switch (below(5)) {
      case 0:
        text[place] = static_cast<char>(text[place] ^ (1 << below(8)));
        break;
      case 1:
        text[place] = "\0\xff\"{}[]:,-0919e.\n\\"[below(18)];
        break;
      case 2:
        text.erase(place, piece.size());
        break;
      case 3:
        text.insert(below(text.size()), piece);
        break;
      default:
        if (below(4) == 0) text.resize(place);
    }
  }
  return text;
}

void run(const std::string& text) {
  // A buffer of exactly this size, so that sanitizers see a step beyond it.
  const std::vector<std::uint8_t> bytes(text.begin(), text.end());
  LLVMFuzzerTestOneInput(bytes.data(), bytes.size());
}

}  // namespace

int main(int count, char** arguments) {
  if (count != 2) return 64;
  tessera::FileSystem& files = tessera::FileSystem::posix();
  const std::vector<std::string> names = files.list(arguments[1]);
  if (names.empty()) {
    std::fprintf(stderr, "%s: no corpus\n", arguments[1]);
    return 1;
  }
  for (const std::string& name : names) {
    const std::string text = files.read(std::string(arguments[1]) + "/" + name, kLargest);
    run(text);
    for (std::uint64_t i = 0; i < kVariations; ++i)
      run(varied(text, tessera::CounterRandom(i, tessera::hash_name(name))));
  }
  std::printf("%zu files, %llu variations of each\n", names.size(),
              static_cast<unsigned long long>(kVariations));
  return 0;
}
