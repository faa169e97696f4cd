// Between block decoder and token decoder (prefix form): context embeddings become P prefix rows
// and the next block's tokens follow them.
//
//   e_i = W_e c_i + b_e, cut into P rows of D           W_e [P D, D, 1], N(0, 1/sqrt(D)); b_e 0
//   window i (i = 0 .. N-2) = [e_i rows; E_tok[x_{i+1,0}], ..., E_tok[x_{i+1,L_B-2}]]
// in: c [B N, D] (the last of each sequence is not used); out: [B (N-1) S, D], S = P + L_B - 1.
#pragma once

#include "kernels/copy_rows.h"
#include "kernels/embedding.h"
#include "model/piece.h"

namespace tessera::model {

template <typename T>
class Expansion : public Piece<T> {
 public:
  Expansion(const ModelConfig& config, ParameterTable& table);

  std::string name() const override { return "expansion and token embedding"; }
  Boundary output(std::int64_t sequences) const override;
  void plan(std::int64_t sequences, PiecePlan plan) override;
  void forward(const Pass<T>& pass, const T* in, T* out) override;
  void backward(const Pass<T>& pass, const T* in, const T* dout, T* din) override;
  double multiply_adds() const override;

 private:
  std::int64_t blocks() const { return config_.context / config_.block_length; }
  std::int64_t window() const { return config_.prefix + config_.block_length - 1; }

  // Where the fed tokens and the prefix rows of all windows of a micro-batch lie.
  kernels::EmbeddingShape tokens(const Pass<T>& pass) const;
  kernels::CopyRows<T> prefixes(const Pass<T>& pass) const;

  ModelConfig config_;
  std::int64_t weight_, bias_, table_;
  Buffer expanded_;  // [B N, P D]
};

}  // namespace tessera::model
