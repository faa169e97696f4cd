// Makes a pattern mean the same whatever Unicode version the system's PCRE2 was built for.
#pragma once

#include <string>

namespace tessera::data {

// `pattern` with \p{L}, \p{N} and \s spelt so that code points which PCRE2 does not know yet count
// as in unicode_flags(). Error{data} naming `name` for what Hugging Face's regular expressions
// (Oniguruma) read otherwise than PCRE2: \h, \H, a class inside a class, && in a class, {n,m}+.
std::string pin_unicode_classes(const std::string& pattern, const std::string& name);

}  // namespace tessera::data
