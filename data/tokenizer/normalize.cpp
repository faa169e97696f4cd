#include "data/tokenizer/normalize.h"

#include <algorithm>
#include <cstddef>
#include <vector>

#include <utf8proc.h>

#include "core/error.h"
#include "data/tokenizer/unicode.h"

namespace tessera::data {
namespace {

// True when utf8proc could move or join `c` although the reference treats it as inert: marks, and
// two letters with compositions, that are newer than the reference's Unicode version.
bool newer_than_reference(std::uint32_t c) {
  if (c == 0x105D2 || c == 0x105DA) return true;
  return utf8proc_get_property(static_cast<utf8proc_int32_t>(c))->combining_class != 0;
}

utf8proc_propval_t combining_class(utf8proc_int32_t c) {
  return utf8proc_get_property(c)->combining_class;
}

// Decomposes, orders the marks, composes. The ordering is done here because utf8proc's own takes
// quadratic time on a long run of marks.
void append_normalized(std::string_view run, std::string& out) {
  std::vector<utf8proc_int32_t> points;
  for (std::size_t position = 0; position < run.size();) {
    const CodePoint point = code_point_at(run.data() + position);
    position += point.bytes;
    utf8proc_int32_t parts[8];
    int boundary_class = 0;
    const utf8proc_ssize_t count = utf8proc_decompose_char(
        static_cast<utf8proc_int32_t>(point.value), parts, std::size(parts),
        static_cast<utf8proc_option_t>(UTF8PROC_STABLE | UTF8PROC_DECOMPOSE), &boundary_class);
    TESSERA_CHECK(count > 0 && count <= static_cast<utf8proc_ssize_t>(std::size(parts)));
    points.insert(points.end(), parts, parts + count);
  }
  for (auto mark = points.begin(); mark != points.end();) {
    const auto starter = [](utf8proc_int32_t c) { return combining_class(c) == 0; };
    mark = std::find_if_not(mark, points.end(), starter);
    const auto end = std::find_if(mark, points.end(), starter);
    std::stable_sort(mark, end, [](utf8proc_int32_t a, utf8proc_int32_t b) {
      return combining_class(a) < combining_class(b);
    });
    mark = end;
  }
  const utf8proc_ssize_t size =
      utf8proc_normalize_utf32(points.data(), static_cast<utf8proc_ssize_t>(points.size()),
                               static_cast<utf8proc_option_t>(UTF8PROC_STABLE | UTF8PROC_COMPOSE));
  TESSERA_CHECK(size >= 0 && size <= static_cast<utf8proc_ssize_t>(points.size()));
  for (utf8proc_ssize_t k = 0; k < size; ++k)
    append_utf8(static_cast<std::uint32_t>(points[static_cast<std::size_t>(k)]), out);
}

}  // namespace

// Only a run of active code points, together with the inert one before it, can change: an inert
// code point is a starter that never joins what comes before it. So such runs go to utf8proc one
// by one, and the rest is copied.
std::string_view normalize_nfc(std::string_view text, std::string& buffer) {
  const std::uint8_t* flags = unicode_flags();
  const std::size_t size = text.size();
  std::size_t done = 0;  // copied so far
  bool changed = false;
  std::size_t position = 0, before = 0;  // `before`: start of the code point before `position`
  while (position < size) {
    if (static_cast<unsigned char>(text[position]) < 0x80) {
      before = position++;
      continue;
    }
    const CodePoint point = code_point_at(text.data() + position);
    if (!(flags[point.value] & kActive)) {
      before = position;
      position += point.bytes;
      continue;
    }
    std::size_t begin = position;
    if (position > 0 && !newer_than_reference(code_point_at(text.data() + before).value))
      begin = before;
    while (position < size) {
      const CodePoint next = code_point_at(text.data() + position);
      if (!(flags[next.value] & kActive)) break;
      before = position;
      position += next.bytes;
    }
    if (!changed) buffer.clear();
    changed = true;
    buffer.append(text.substr(done, begin - done));
    append_normalized(text.substr(begin, position - begin), buffer);
    done = position;
  }
  if (!changed) return text;
  buffer.append(text.substr(done));
  return buffer;
}

}  // namespace tessera::data
