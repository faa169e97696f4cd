#include "parallel/split_search.h"

#include <algorithm>
#include <cstdlib>

#include "core/error.h"
#include "parallel/split_improve.h"

namespace tessera::parallel {
namespace {

std::size_t index(std::int64_t value) {
  return static_cast<std::size_t>(value);
}

// Depth-first search for cuts with less and less of one part of the score, the others kept within
// bounds.
class Search {
 public:
  // Looks for less than `now` of `part`.
  Search(const SplitProblem& problem, const SplitScore& bounds, std::int64_t SplitScore::*part,
         std::int64_t now, std::int64_t limit)
      : problem_(problem),
        most_(bounded(bounds, part, now - 1)),
        part_(part),
        tails_(problem, std::min(most_.run, most_.stage)),
        limit_(limit),
        sums_(index(problem.stages)),
        failures_(index(problem.stages * (problem.pieces() + 1))) {
    for (std::int64_t i = 0; i < problem.pieces(); ++i)
      cheapest_ = std::min(cheapest_, problem.cost(i, i + 1));
  }

  void run() {
    if (tails_.possible()) descend({});
  }
  const Cuts& found() const { return found_; }  // empty: nothing
  bool ended() const { return nodes_ <= limit_; }

 private:
  // What is decided: runs before `run`, which ends where `begin` says.
  struct Node {
    std::int64_t run = 0, begin = 0;
    std::int64_t longest = 0, squares = 0;  // of those runs
    std::int64_t finished = 0;              // sums of the stages that have all their runs
  };
  struct Failure {
    std::int64_t round = 0, squares = 0;
  };

  static SplitScore bounded(SplitScore bounds, std::int64_t SplitScore::*part, std::int64_t most) {
    bounds.*part = most;
    return bounds;
  }

  void descend(const Node& node) {
    if (++nodes_ > limit_) return;
    cuts_.resize(index(node.run));
    cuts_.push_back(node.begin);
    if (node.run == problem_.runs()) return accept();
    Failure* const failure = failure_of(node);
    if (failure && failure->round == round_ && node.squares >= failure->squares) return;
    for (const std::int64_t end : ends_of(node)) {
      const std::int64_t cost = problem_.cost(node.begin, end);
      if (!fits(node, end)) continue;  // any more: the bound may have fallen since
      std::int64_t& sum = sums_[index(node.run % problem_.stages)];
      sum += cost;
      descend({node.run + 1, end, std::max(node.longest, cost), node.squares + cost * cost,
               node.finished + (later(node.run) == 0 ? sum : 0)});
      sum -= cost;
      if (!ended()) return;
    }
    if (failure) *failure = {round_, node.squares};
  }

  // Runs that the stage of `run` gets behind it.
  std::int64_t later(std::int64_t run) const {
    return (problem_.runs() - 1 - run) / problem_.stages;
  }

  bool fits(const Node& node, std::int64_t end) const {
    const std::int64_t cost = problem_.cost(node.begin, end);
    const std::int64_t rest = later(node.run),
                       sum = sums_[index(node.run % problem_.stages)] + cost;
    if (std::max(node.longest, cost) > most_.run || sum + rest * cheapest_ > most_.stage)
      return false;
    const std::int64_t tail = tails_.least(problem_.runs() - node.run - 1, end);
    if (tail == kNever || tail > most_.squares - node.squares - cost * cost) return false;
    // What the stages that are still to be finished must hold beside what they can.
    const std::int64_t open = problem_.runs() - node.run - 1;
    return rest > 0 || problem_.total() - node.finished - sum <= open * most_.stage;
  }

  // Ends of the next run, those that leave most even runs first.
  std::vector<std::int64_t> ends_of(const Node& node) const {
    std::vector<std::int64_t> ends;
    for (std::int64_t end = node.begin + 1; end <= problem_.pieces(); ++end) {
      if (problem_.cost(node.begin, end) > std::min(most_.run, most_.stage)) break;
      if (fits(node, end)) ends.push_back(end);
    }
    const std::int64_t even =
        problem_.cost(node.begin, problem_.pieces()) / (problem_.runs() - node.run);
    std::stable_sort(ends.begin(), ends.end(), [&](std::int64_t a, std::int64_t b) {
      return std::abs(problem_.cost(node.begin, a) - even) <
             std::abs(problem_.cost(node.begin, b) - even);
    });
    return ends;
  }

  // In the last round of stages the sums of those to come are settled, so where nothing was found
  // once nothing will be with as many squares before it. Null in other rounds.
  Failure* failure_of(const Node& node) {
    const std::int64_t first = problem_.runs() - problem_.stages;
    if (node.run < first) return nullptr;
    if (node.run == first) ++round_;
    return &failures_[index((node.run - first) * (problem_.pieces() + 1) + node.begin)];
  }

  // Sums of earlier decisions may be above a bound that has fallen since.
  void accept() {
    const SplitScore now = score(problem_, cuts_);
    if (now.stage > most_.stage || now.run > most_.run || now.squares > most_.squares) return;
    found_ = cuts_;
    most_.*part_ = now.*part_ - 1;
  }

  const SplitProblem& problem_;
  SplitScore most_;
  std::int64_t SplitScore::*part_;
  Tails tails_;
  std::int64_t limit_, nodes_ = 0;
  std::vector<std::int64_t> sums_;  // a stage: of the runs before
  std::vector<Failure> failures_;   // of the last round, visit round_: run, piece
  std::int64_t round_ = 0, cheapest_ = kNever;
  Cuts cuts_, found_;
};

// Lessens one part of the score within the bounds; whether no less is possible.
bool lessen(const SplitProblem& problem, Cuts& cuts, std::int64_t SplitScore::*part,
            const SplitScore& bounds, std::int64_t limit) {
  Search search(problem, bounds, part, score(problem, cuts).*part, limit);
  search.run();
  if (!search.found().empty()) cuts = search.found();
  improve_windows(problem, cuts);
  return search.ended();
}

}  // namespace

SplitResult best_cuts(const SplitProblem& problem, std::int64_t limit) {
  TESSERA_CHECK(problem.stages >= 1 && problem.chunks >= 1 && problem.runs() <= problem.pieces() &&
                problem.total() <= std::int64_t{1} << 31);
  SplitResult result{Tails(problem, least_longest(problem)).cuts(), true};
  // With one chunk the largest run is the largest sum; with one stage there is but one sum.
  if (problem.stages == 1 || problem.chunks == 1) return result;
  Cuts& cuts = result.cuts;
  improve_windows(problem, cuts);
  improve_borders(problem, cuts);
  result.proven &= lessen(problem, cuts, &SplitScore::stage, {kNever, kNever, kNever}, limit);
  const std::int64_t stage = score(problem, cuts).stage;
  result.proven &= lessen(problem, cuts, &SplitScore::run, {stage, kNever, kNever}, limit);
  const std::int64_t run = score(problem, cuts).run;
  result.proven &= lessen(problem, cuts, &SplitScore::squares, {stage, run, kNever}, limit);
  return result;
}

}  // namespace tessera::parallel
