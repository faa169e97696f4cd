// How a block model begins from a trained vanilla one (uptraining; Block Transformer paper, 3.7 and
// G.8). Pure: names, shapes and numbers.
//
//   embedder table         <- input embedding
//   embedder projection    W[o, c, k] = 1 / L_B where o = c, else 0; b = 0: the block embedding is
//                          the mean of its tokens' embeddings
//   block decoder layers   <- layers by method; its final norm starts at 1 / 0
//   expansion              P stacked identities, 0: every prefix row is the context embedding
//   token decoder          <- layers by method; final norm, classifier and input table as they are
//
// Methods, of n vanilla layers: `partition` gives the first n_b to the block decoder and the other
// n_t = n - n_b to the token decoder; `skip` gives layers 0, 2, 4, ... to both (n_b = n_t = n / 2);
// `duplicate` gives all to both (n_b = n_t = n).
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "model/parameter_table.h"

namespace tessera::model {

enum class UptrainMethod { partition, skip, duplicate };

// "partition", "skip", "duplicate".
std::string name_of(UptrainMethod method);

// What stands against making `block` of `vanilla`, a clause each; empty when nothing does. The
// context may differ.
std::vector<std::string> uptrain_problems(const ModelConfig& vanilla, const ModelConfig& block,
                                          UptrainMethod method);

// Where a parameter of the block model comes from.
struct UptrainSource {
  enum class Kind { copy, mean, identities, ones, zeros };
  Kind kind = Kind::copy;
  std::string from;  // of `copy`: the vanilla model's parameter, of the same shape
};
// `parameter` is of a block model without problems.
UptrainSource uptrain_source(const std::string& parameter, const ModelConfig& block,
                             UptrainMethod method);

// Elements [begin, end) of a parameter that is made, not copied.
void uptrain_slice(UptrainSource::Kind kind, const ModelConfig& block, std::int64_t begin,
                   std::int64_t end, float* out);

}  // namespace tessera::model
