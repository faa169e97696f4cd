#include "tests/data/failing_calls.h"

#include <atomic>
#include <cerrno>
#include <csignal>
#include <cstdarg>
#include <cstddef>
#include <cstdint>

#include <dlfcn.h>
#include <fcntl.h>
#include <sys/types.h>

namespace tessera::data {
namespace {

std::atomic<bool> counting = false;
std::atomic<long> calls = 0;
long wrong = 0;
Fault fault = Fault::input_output;

enum class Kind { write, grow, other };

// Whether this call, which is counted, goes wrong; errno is then set, but for a short write.
bool goes_wrong(Kind kind) {
  if (!counting || ++calls != wrong) return false;
  if (fault == Fault::kill) ::raise(SIGKILL);
  if (fault == Fault::short_write) return kind == Kind::write;
  if (fault == Fault::no_space && kind == Kind::other) return false;
  errno = fault == Fault::no_space ? ENOSPC : EIO;
  return true;
}

template <typename Function>
Function next(const char* name) {
  return reinterpret_cast<Function>(::dlsym(RTLD_NEXT, name));
}

// `rest(count)` does the call's work on so many bytes.
template <typename Rest>
ssize_t write_or_fail(int file, std::size_t count, Rest rest) {
  if (file <= 2 || !goes_wrong(Kind::write)) return rest(count);
  if (fault != Fault::short_write) return -1;
  return rest(count > 1 ? count / 2 : count);
}

int open_or_fail(const char* name, const char* path, int flags, mode_t mode) {
  const bool changes = (flags & (O_CREAT | O_TRUNC)) != 0;
  if (changes && goes_wrong(Kind::grow)) return -1;
  return next<int (*)(const char*, int, ...)>(name)(path, flags, mode);
}

}  // namespace

void fail_call(long n, Fault kind) {
  calls = 0;
  wrong = n;
  fault = kind;
  counting = true;
}

long counted_calls() {
  return calls;
}

}  // namespace tessera::data

// Other names in C++, so that they agree with no header's declaration; the linker's are these.
#define TESSERA_CALL(name) __asm__(name) __attribute__((visibility("default")))

extern "C" {

int failing_open(const char*, int, ...) TESSERA_CALL("open");
int failing_open64(const char*, int, ...) TESSERA_CALL("open64");
ssize_t failing_write(int, const void*, std::size_t) TESSERA_CALL("write");
ssize_t failing_pwrite(int, const void*, std::size_t, std::int64_t) TESSERA_CALL("pwrite");
ssize_t failing_pwrite64(int, const void*, std::size_t, std::int64_t) TESSERA_CALL("pwrite64");
int failing_fsync(int) TESSERA_CALL("fsync");
int failing_ftruncate(int, std::int64_t) TESSERA_CALL("ftruncate");
int failing_ftruncate64(int, std::int64_t) TESSERA_CALL("ftruncate64");
int failing_rename(const char*, const char*) TESSERA_CALL("rename");

int failing_open(const char* path, int flags, ...) {
  va_list list;
  va_start(list, flags);
  const auto mode = static_cast<mode_t>((flags & O_CREAT) != 0 ? va_arg(list, int) : 0);
  va_end(list);
  return tessera::data::open_or_fail("open", path, flags, mode);
}

int failing_open64(const char* path, int flags, ...) {
  va_list list;
  va_start(list, flags);
  const auto mode = static_cast<mode_t>((flags & O_CREAT) != 0 ? va_arg(list, int) : 0);
  va_end(list);
  return tessera::data::open_or_fail("open64", path, flags, mode);
}

ssize_t failing_write(int file, const void* bytes, std::size_t count) {
  return tessera::data::write_or_fail(file, count, [&](std::size_t some) {
    return tessera::data::next<ssize_t (*)(int, const void*, std::size_t)>("write")(file, bytes,
                                                                                    some);
  });
}

ssize_t failing_pwrite(int file, const void* bytes, std::size_t count, std::int64_t at) {
  return tessera::data::write_or_fail(file, count, [&](std::size_t some) {
    return tessera::data::next<ssize_t (*)(int, const void*, std::size_t, std::int64_t)>("pwrite")(
        file, bytes, some, at);
  });
}

ssize_t failing_pwrite64(int file, const void* bytes, std::size_t count, std::int64_t at) {
  return failing_pwrite(file, bytes, count, at);
}

int failing_fsync(int file) {
  if (tessera::data::goes_wrong(tessera::data::Kind::grow)) return -1;
  return tessera::data::next<int (*)(int)>("fsync")(file);
}

int failing_ftruncate(int file, std::int64_t size) {
  if (tessera::data::goes_wrong(tessera::data::Kind::grow)) return -1;
  return tessera::data::next<int (*)(int, std::int64_t)>("ftruncate")(file, size);
}

int failing_ftruncate64(int file, std::int64_t size) {
  return failing_ftruncate(file, size);
}

int failing_rename(const char* from, const char* to) {
  if (tessera::data::goes_wrong(tessera::data::Kind::other)) return -1;
  return tessera::data::next<int (*)(const char*, const char*)>("rename")(from, to);
}

}  // extern "C"
