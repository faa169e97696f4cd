// A tokenizer.json of a stranger; what is accepted encodes and decodes.
#include "data/tokenizer.h"
#include "tests/fuzz/input.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace tessera;
  const std::string text(reinterpret_cast<const char*>(data), size);
  return fuzz::attempt([&] {
    const auto tokenizer = data::parse_tokenizer(text, "tokenizer.json");
    const auto ids =
        tokenizer->encode("The quick  brown fox's 12 na\xc3\xafve \xf0\x9f\x98\x80\xff");
    (void)tokenizer->decode(ids);
  });
}
