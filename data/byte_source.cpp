#include "data/byte_source.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <limits>
#include <vector>

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>
#include <zstd.h>

#include "core/error.h"

namespace tessera::data {
namespace {

constexpr std::size_t kBuffer = std::size_t{1} << 18;  // compressed bytes read at a time
constexpr int kLargestWindow = 31;                     // log2 of bytes

class PlainSource : public ByteSource {
 public:
  PlainSource(const std::string& path, std::atomic<std::int64_t>& consumed)
      : path_(path), consumed_(consumed), descriptor_(::open(path.c_str(), O_RDONLY | O_CLOEXEC)) {
    if (descriptor_ < 0)
      throw Error(Category::io, path + ": cannot be opened: " + std::strerror(errno));
    ::posix_fadvise(descriptor_, 0, 0, POSIX_FADV_SEQUENTIAL);
  }
  ~PlainSource() override { ::close(descriptor_); }
  PlainSource(const PlainSource&) = delete;
  PlainSource& operator=(const PlainSource&) = delete;

  std::size_t read(char* out, std::size_t count) override {
    while (true) {
      const ssize_t got = ::read(descriptor_, out, count);
      if (got < 0 && errno == EINTR) continue;
      if (got < 0) throw Error(Category::io, path_ + ": cannot be read: " + std::strerror(errno));
      consumed_ += got;
      return static_cast<std::size_t>(got);
    }
  }

  const std::string& path() const { return path_; }

 private:
  std::string path_;
  std::atomic<std::int64_t>& consumed_;
  int descriptor_;
};

// Compressed bytes on their way to a decompressor.
class CompressedInput {
 public:
  CompressedInput(const std::string& path, std::atomic<std::int64_t>& consumed)
      : file_(path, consumed), buffer_(kBuffer) {}

  const std::string& path() const { return file_.path(); }
  // Bytes waiting; false at the end of the file.
  bool fill() {
    if (begin_ < end_) return true;
    begin_ = 0;
    end_ = file_.read(buffer_.data(), buffer_.size());
    return end_ > 0;
  }
  char* data() { return buffer_.data() + begin_; }
  std::size_t size() const { return end_ - begin_; }
  void use(std::size_t count) { begin_ += count; }

 private:
  PlainSource file_;
  std::vector<char> buffer_;
  std::size_t begin_ = 0, end_ = 0;
};

[[noreturn]] void fail(const CompressedInput& input, const char* what, const std::string& reason) {
  throw Error(Category::data, input.path() + ": " + what + " data is damaged: " + reason);
}

[[noreturn]] void ends_early(const CompressedInput& input, const char* what) {
  throw Error(Category::data,
              input.path() + ": " + what + " data ends early: the file is truncated");
}

class ZstdSource : public ByteSource {
 public:
  ZstdSource(const std::string& path, std::atomic<std::int64_t>& consumed)
      : input_(path, consumed), stream_(ZSTD_createDStream(), ZSTD_freeDStream) {
    if (!stream_) throw std::bad_alloc();
    ZSTD_DCtx_setParameter(stream_.get(), ZSTD_d_windowLogMax, kLargestWindow);
  }

  std::size_t read(char* out, std::size_t count) override {
    ZSTD_outBuffer to{out, count, 0};
    while (to.pos == 0) {
      const bool more = input_.fill();
      // A frame may still hold output after its last input byte was taken.
      if (!more && !pending_) {
        if (!started_) fail(input_, "zstd", "the file is empty");
        return 0;
      }
      ZSTD_inBuffer from{input_.data(), input_.size(), 0};
      const std::size_t result = ZSTD_decompressStream(stream_.get(), &to, &from);
      if (ZSTD_isError(result)) fail(input_, "zstd", ZSTD_getErrorName(result));
      input_.use(from.pos);
      started_ = true;
      pending_ = result != 0;
      if (!more && pending_ && to.pos == 0) ends_early(input_, "zstd");
    }
    return to.pos;
  }

 private:
  CompressedInput input_;
  std::unique_ptr<ZSTD_DStream, std::size_t (*)(ZSTD_DStream*)> stream_;
  bool started_ = false, pending_ = false;  // pending: inside a frame
};

class GzipSource : public ByteSource {
 public:
  GzipSource(const std::string& path, std::atomic<std::int64_t>& consumed)
      : input_(path, consumed) {
    if (inflateInit2(&stream_, 15 + 16) != Z_OK) throw std::bad_alloc();
  }
  ~GzipSource() override { inflateEnd(&stream_); }
  GzipSource(const GzipSource&) = delete;
  GzipSource& operator=(const GzipSource&) = delete;

  std::size_t read(char* out, std::size_t count) override {
    const auto room =
        static_cast<uInt>(std::min<std::size_t>(count, std::numeric_limits<uInt>::max()));
    stream_.next_out = reinterpret_cast<Bytef*>(out);
    stream_.avail_out = room;
    while (stream_.avail_out == room) {
      const bool more = input_.fill();
      if (!more && between_members_) {
        if (!started_) fail(input_, "gzip", "the file is empty");
        return 0;
      }
      if (between_members_ && started_ && input_.data()[0] == '\0') {
        input_.use(1);  // padding after the last member, as tape drives leave it
        continue;
      }
      stream_.next_in = reinterpret_cast<Bytef*>(input_.data());
      stream_.avail_in = static_cast<uInt>(input_.size());
      const int result = inflate(&stream_, Z_NO_FLUSH);
      if (result == Z_BUF_ERROR && !more) ends_early(input_, "gzip");
      if (result != Z_OK && result != Z_STREAM_END && result != Z_BUF_ERROR)
        fail(input_, "gzip", stream_.msg != nullptr ? stream_.msg : "unknown reason");
      input_.use(input_.size() - stream_.avail_in);
      started_ = true;
      between_members_ = result == Z_STREAM_END;
      if (between_members_ && inflateReset(&stream_) != Z_OK) throw std::bad_alloc();
    }
    return room - stream_.avail_out;
  }

 private:
  CompressedInput input_;
  z_stream stream_{};
  bool started_ = false, between_members_ = true;
};

}  // namespace

std::unique_ptr<ByteSource> open_bytes(const std::string& path,
                                       std::atomic<std::int64_t>& consumed) {
  struct stat status {};
  if (::stat(path.c_str(), &status) != 0)
    throw Error(Category::io, path + ": cannot be opened: " + std::strerror(errno));
  if (S_ISDIR(status.st_mode)) throw Error(Category::io, path + ": is a folder, not a file");
  if (path.ends_with(".zst")) return std::make_unique<ZstdSource>(path, consumed);
  if (path.ends_with(".gz")) return std::make_unique<GzipSource>(path, consumed);
  return std::make_unique<PlainSource>(path, consumed);
}

}  // namespace tessera::data
