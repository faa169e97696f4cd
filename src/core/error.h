// The one exception type of the host code, and the exit code each category ends the program with.
//
// A message is one sentence for a person: what went wrong and where (file, key, rank), what was
// expected and what was found, and what to do. `TESSERA_CHECK` is for our own invariants only.
#pragma once

#include <stdexcept>
#include <string>

namespace tessera {

enum class Category {
  config,        // usage or configuration: 64
  data,          // a shard, tokenizer or checkpoint that is not what it says: 65
  internal,      // our bug: 70
  device,        // device or communication failure: 70
  io,            // the operating system refused: 74
  stopped,       // stopped on request after saving: 75
  disagreement,  // replicas or a repeated step disagree, or too many non-finite steps: 17
};

// Exit code of the program for a category (docs/operations.md, "Exit codes").
int exit_code(Category category);

class Error : public std::runtime_error {
 public:
  Error(Category category, const std::string& message)
      : std::runtime_error(message), category_(category) {}
  Category category() const { return category_; }

 private:
  Category category_;
};

[[noreturn]] void check_failed(const char* condition, const char* file, int line);

// Throws Error{internal} with the condition and its place when it does not hold; always on.
#define TESSERA_CHECK(condition) \
  ((condition) ? static_cast<void>(0) : ::tessera::check_failed(#condition, __FILE__, __LINE__))

}  // namespace tessera
