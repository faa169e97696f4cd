// A checkpoint's manifest of a stranger who computes digests: the input is all but the last key.
#include "checkpoints/layout.h"
#include "checkpoints/manifest.h"
#include "core/sha256.h"
#include "tests/fuzz/input.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace tessera;
  const std::string body(reinterpret_cast<const char*>(data), size);
  const auto parse = [](const std::string& text) {
    Json json;
    const auto manifest = checkpoints::parse_manifest(text, "manifest.json", json);
    const checkpoints::Layout layout(manifest.tensors, manifest.parts, "manifest.json");
    for (std::size_t i = 0; i < manifest.tensors.size(); ++i)
      TESSERA_CHECK(layout.pieces(static_cast<std::int64_t>(i)).back().end ==
                    layout.count(static_cast<std::int64_t>(i)));
  };
  fuzz::attempt([&] { parse(body); });
  return fuzz::attempt(
      [&] { parse(body + ",\n \"manifest_sha256\": \"" + sha256(body) + "\"\n}\n"); });
}
