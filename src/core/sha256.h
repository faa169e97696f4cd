// SHA-256 (FIPS 180-4, through OpenSSL), as lower-case hexadecimal.
#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <string_view>

namespace tessera {

class Sha256 {
 public:
  Sha256();
  ~Sha256();
  Sha256(const Sha256&) = delete;
  Sha256& operator=(const Sha256&) = delete;

  void update(const void* bytes, std::size_t count);
  // 64 hexadecimal digits of everything given so far; ends the computation.
  std::string finish();

 private:
  struct Context;
  std::unique_ptr<Context> context_;
};

std::string sha256(std::string_view bytes);
// Digest of a whole file, read in pieces; Error{io} when it cannot be read.
std::string sha256_file(const std::string& path);

}  // namespace tessera
