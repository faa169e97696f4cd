// Where a program computes.
#pragma once

#include <string>

namespace tessera {

enum class Device { cpu, cuda };

inline const char* name(Device device) {
  return device == Device::cpu ? "cpu" : "cuda";
}

}  // namespace tessera
