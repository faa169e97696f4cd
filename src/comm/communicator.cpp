#include "comm/communicator.h"

namespace tessera::comm {
namespace {

class Single : public Communicator {
 public:
  std::int64_t rank() const override { return 0; }
  std::int64_t size() const override { return 1; }
  void all_reduce(double*, std::int64_t) override {}
  void broadcast(void*, std::int64_t) override {}
  std::vector<std::string> gather_text(const std::string& text) override { return {text}; }
  void barrier() override {}
  std::unique_ptr<Communicator> split(std::int64_t color, std::int64_t) override {
    return color < 0 ? nullptr : make_single();
  }
};

}  // namespace

std::unique_ptr<Communicator> make_single() {
  return std::make_unique<Single>();
}

std::string broadcast_text(Communicator& communicator, std::string text) {
  auto size = static_cast<std::int64_t>(text.size());
  communicator.broadcast(&size, sizeof size);
  text.resize(static_cast<std::size_t>(size));
  communicator.broadcast(text.data(), size);
  return text;
}

}  // namespace tessera::comm
