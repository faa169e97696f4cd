// Text for people: numbers with units, and a table with aligned columns.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace tessera {

std::string human_bytes(std::int64_t bytes);  // "1.5 GiB"
std::string human_count(double count);        // "173.2M", "1.05k"
std::string human_duration(double seconds);   // "2m 05s", "3h 12m"
std::string with_commas(std::int64_t value);  // "173,164,032"
// Text from a file for a message: in quotes, on one line (control characters as \x0a), cut after
// `most` bytes.
std::string in_quotes(std::string_view text, std::size_t most = 60);

// Rows of cells, first row the header; numbers (cells that start with a digit, '-' or '+') are set
// to the right. Lines end with '\n', indented by two blanks.
std::string format_table(const std::vector<std::vector<std::string>>& rows);

// The candidate with the smallest edit distance to `word`, or "" when none is near (distance over
// max(2, a third of the word)).
std::string nearest(std::string_view word, const std::vector<std::string>& candidates);

}  // namespace tessera
