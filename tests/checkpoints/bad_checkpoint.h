// A small complete checkpoint for tests to damage, and the check that it is then refused.
#pragma once

#include <functional>
#include <string>

#include <gtest/gtest.h>

#include "checkpoints/checkpoint.h"
#include "core/sha256.h"
#include "tests/checkpoints/support.h"

namespace tessera::checkpoints::testing {

// A manifest's text for changed JSON, with a digest of itself that is right.
inline std::string sealed(std::string body) {
  while (!body.empty() && (body.back() == '\n' || body.back() == '}')) {
    const bool brace = body.back() == '}';
    body.pop_back();
    if (brace) break;
  }
  while (!body.empty() && body.back() == '\n') body.pop_back();
  return body + ",\n \"manifest_sha256\": \"" + sha256(body) + "\"\n}\n";
}

class BadCheckpoint : public ::testing::Test {
 protected:
  BadCheckpoint() : path_(write_checkpoint(FileSystem::posix(), folder_.path(), 7, 2, 3)) {
    manifest_ = OrderedJson::parse(read_bytes(path_ + "/manifest.json"));
    manifest_.erase("manifest_sha256");
  }

  void save_manifest(const OrderedJson& json) {
    write_bytes(path_ + "/manifest.json", sealed(json.dump(1)));
  }
  // Opening must fail; the message names `file` of the checkpoint first and contains `expected`.
  void refused(const std::string& file, const std::string& expected) {
    const std::string message = message_of(Category::data, [&] { CheckpointReader reader(path_); });
    EXPECT_EQ(message.rfind(path_ + "/" + file + ":", 0), 0u) << message;
    EXPECT_NE(message.find(expected), std::string::npos) << message;
    EXPECT_EQ(message.find('\n'), std::string::npos) << message;
  }
  void refused_manifest(const std::function<void(OrderedJson&)>& change,
                        const std::string& expected) {
    OrderedJson json = manifest_;
    change(json);
    save_manifest(json);
    refused("manifest.json", expected);
  }

  const TemporaryFolder folder_;
  const std::string path_;
  OrderedJson manifest_;
};

}  // namespace tessera::checkpoints::testing
