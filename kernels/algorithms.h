// Choices between implementations that were measured once and must not change while a run lives:
// matrix-product algorithms and attention kernels, by shape. Kept in RUN/algorithms.json and in
// checkpoints, so that a resumed run computes the same bits.
//
// JSON: {"version": 1, "device": "NVIDIA H100 80GB HBM3", "library": "cuBLASLt 13.0.0.19",
//        "choices": {"KEY": {"value": "...", "microseconds": 12.3}, ...}}
// Keys are readable ("linear forward bf16 rows 32768 in 768 out 3072 ..."); values are opaque to
// all but the operation that wrote them.
#pragma once

#include <map>
#include <string>

namespace tessera::kernels {

class Algorithms {
 public:
  struct Choice {
    std::string value;
    double microseconds = 0;  // measured when it was chosen
  };

  std::string device, library;

  // Null when the key has no choice yet.
  const Choice* find(const std::string& key) const;
  void set(const std::string& key, Choice choice);
  bool empty() const { return choices_.empty(); }
  // Takes the choices of `other` for keys that have none here.
  void add(const Algorithms& other) {
    choices_.insert(other.choices_.begin(), other.choices_.end());
  }

  std::string to_json() const;
  // Error{data} naming `where` for text that is not such an object.
  static Algorithms from_json(const std::string& text, const std::string& where);

 private:
  std::map<std::string, Choice> choices_;
};

}  // namespace tessera::kernels
