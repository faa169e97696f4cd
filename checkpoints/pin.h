// Keeps a checkpoint from being removed while it is read: a shared lock on its manifest, by any
// process; whoever removes it needs the exclusive one. Where the file system has no locks nothing
// is kept and nothing is refused.
#pragma once

#include <optional>
#include <string>

namespace tessera::checkpoints {

class Pin {
 public:
  // For reading the checkpoint at `path`. Error{data} when somebody is removing it; Error{io} when
  // its manifest cannot be opened.
  static Pin for_reading(const std::string& path);
  // For removing it; nothing while somebody reads it. A folder without a manifest is free to go.
  static std::optional<Pin> for_removal(const std::string& path);

  ~Pin();
  Pin(Pin&& other) noexcept;
  Pin& operator=(Pin&&) = delete;

 private:
  explicit Pin(int descriptor) : descriptor_(descriptor) {}
  int descriptor_ = -1;
};

}  // namespace tessera::checkpoints
