#include "core/error.h"

namespace tessera {

int exit_code(Category category) {
  switch (category) {
    case Category::config:
      return 64;
    case Category::data:
      return 65;
    case Category::internal:
    case Category::device:
      return 70;
    case Category::io:
      return 74;
    case Category::stopped:
      return 75;
    case Category::disagreement:
      return 17;
  }
  return 70;
}

void check_failed(const char* condition, const char* file, int line) {
  throw Error(Category::internal, std::string("internal error: ") + condition +
                                      " does not hold at " + file + ":" + std::to_string(line) +
                                      "; this is a bug in Tessera, please report it");
}

}  // namespace tessera
