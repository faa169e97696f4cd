// The tokenizer on its own, for tokenizer_speed.py and tests/fuzz/tokenizer_compare.py:
//   bench_tokenizer speed TOKENIZER FILE.jsonl THREADS ROUNDS
//       encodes the "text" of each line; prints one JSON object with the seconds of every round
//   bench_tokenizer ids TOKENIZER
//       a JSON string a line from standard input; prints {"ids": [...], "text": decoded} a line
#include <atomic>
#include <chrono>
#include <fstream>
#include <iostream>
#include <string>
#include <thread>
#include <vector>

#include "core/error.h"
#include "core/json.h"
#include "data/tokenizer.h"

namespace tessera::data {
namespace {

// Seconds to encode all texts, which threads take one by one; `tokens` becomes their total.
double encode_all(const Tokenizer& tokenizer, const std::vector<std::string>& texts, int threads,
                  std::size_t& tokens) {
  std::vector<std::vector<std::int32_t>> ids(texts.size());
  std::atomic<std::size_t> next = 0;
  const auto work = [&] {
    for (std::size_t k = next++; k < texts.size(); k = next++) tokenizer.encode(texts[k], ids[k]);
  };
  const auto start = std::chrono::steady_clock::now();
  std::vector<std::thread> others;
  for (int k = 1; k < threads; ++k) others.emplace_back(work);
  work();
  for (std::thread& other : others) other.join();
  const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
  tokens = 0;
  for (const auto& document : ids) tokens += document.size();
  return seconds.count();
}

int speed(const Tokenizer& tokenizer, const std::string& file, int threads, int rounds) {
  std::vector<std::string> texts;
  std::ifstream lines(file);
  for (std::string line; std::getline(lines, line);)
    texts.push_back(parse_json(line, file).at("text").get<std::string>());
  std::size_t bytes = 0, tokens = 0;
  for (const std::string& text : texts) bytes += text.size();
  Json seconds = Json::array();
  for (int round = 0; round < rounds; ++round)
    seconds.push_back(encode_all(tokenizer, texts, threads, tokens));
  std::cout << Json{{"seconds", seconds}, {"bytes", bytes}, {"tokens", tokens}} << "\n";
  return 0;
}

int ids(const Tokenizer& tokenizer) {
  for (std::string line; std::getline(std::cin, line);) {
    const std::vector<std::int32_t> found = tokenizer.encode(Json::parse(line).get<std::string>());
    const Json result{{"ids", found}, {"text", tokenizer.decode(found)}};
    std::cout << result.dump(-1, ' ', true, Json::error_handler_t::replace) << "\n";
  }
  return 0;
}

int run(const std::vector<std::string>& arguments) {
  if (arguments.size() == 3 && arguments[1] == "ids") return ids(*load_tokenizer(arguments[2]));
  if (arguments.size() == 6 && arguments[1] == "speed")
    return speed(*load_tokenizer(arguments[2]), arguments[3], std::stoi(arguments[4]),
                 std::stoi(arguments[5]));
  std::cerr << "usage: bench_tokenizer speed TOKENIZER FILE.jsonl THREADS ROUNDS\n"
               "       bench_tokenizer ids TOKENIZER < STRINGS.jsonl\n";
  return 64;
}

}  // namespace
}  // namespace tessera::data

int main(int count, char** arguments) {
  try {
    std::ios::sync_with_stdio(false);
    return tessera::data::run({arguments, arguments + count});
  } catch (const tessera::Error& error) {
    std::cerr << error.what() << "\n";
    return tessera::exit_code(error.category());
  } catch (const std::exception& error) {
    std::cerr << error.what() << "\n";
    return 65;
  }
}
