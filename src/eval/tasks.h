// Zero-shot tasks, scored as the LM Evaluation Harness scores them (docs/evaluation.md has the
// formulas): items become requests, log-likelihoods become metrics.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "data/tokenizer.h"
#include "eval/scoring.h"

namespace tessera::eval {

// Text to token ids and back, and what padding and rolling windows begin with.
struct Encoding {
  std::function<std::vector<std::int32_t>(const std::string&)> encode;
  std::function<std::string(const std::vector<std::int32_t>&)> decode;
  std::int32_t end_of_text = 0;
};
// `tokenizer` outlives it.
Encoding encoding_of(const data::Tokenizer& tokenizer);

struct TaskMetric {
  std::string name;  // "acc", "acc_norm", "perplexity", "word_perplexity", ...
  double value = 0;
  double deviation = -1;  // standard error; -1 = none is given
};

struct TaskResult {
  std::string task;
  std::int64_t items = 0;
  std::int64_t unscored = 0;  // continuation tokens in a first block (no_pad)
  std::vector<TaskMetric> metrics;
};

// lambada, hellaswag, piqa, arc_easy, sciq, winogrande, wikitext.
const std::vector<std::string>& task_names();
// Names from a list, "all" for every one; Error{config} with the nearest name for others.
std::vector<std::string> checked_tasks(const std::vector<std::string>& names);
// Error{config} unless FOLDER has the file of every task, plain or with .zst or .gz.
void require_task_files(const std::string& folder, const std::vector<std::string>& tasks);

using LikelihoodsOf = std::function<std::vector<Likelihood>(const std::vector<Request>&)>;

// The first `limit` items (0: all) of the task's file in `folder`. `windows`: of running text.
// Error{data} naming file and line.
TaskResult run_task(const std::string& task, const std::string& folder, std::int64_t limit,
                    const Encoding& encoding, const Windows& windows,
                    const LikelihoodsOf& likelihoods);

// Running text: perplexities by token, word (runs between whitespace) and byte, and bits per byte,
// of `documents`. Words and bytes are those of `originals`, less those of what was not scored: the
// bytes of a document's unscored tokens, the words that begin in them.
TaskResult run_text(const std::string& name, const std::vector<std::string>& documents,
                    const std::vector<std::string>& originals, const Encoding& encoding,
                    const Windows& windows, const LikelihoodsOf& likelihoods);

// As the harness does it: blanks at the context's end go to the continuation, and the
// continuation's tokens are those of the whole text behind as many as the context alone has.
Request encode_pair(const Encoding& encoding, std::string context, std::string continuation);

// A WikiText page as the harness undoes its tokenisation (" @-@ " and the like).
std::string wikitext_detokenized(const std::string& page);

}  // namespace tessera::eval
