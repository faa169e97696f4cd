// The first piece of either family: rows of a table for every token.
//
// Vanilla: out [B L, D] = table[ids], table [V, D]. Block embedder (look-up + concatenation):
// u_i = concat(table[x_i,0], ..., table[x_i,L_B-1]), table [V, D / L_B]; the concatenation is the
// row-major layout itself, out [B N, D].
#pragma once

#include "kernels/embedding.h"
#include "model/piece.h"

namespace tessera::model {

template <typename T>
class TokenEmbedding : public Piece<T> {
 public:
  // `tokens_a_row`: 1, or L_B for the block embedder.
  TokenEmbedding(const ModelConfig& config, ParameterTable& table, const std::string& parameter,
                 std::string label, std::int64_t tokens_a_row);

  std::string name() const override { return label_; }
  Boundary output(std::int64_t sequences) const override;
  void plan(std::int64_t, PiecePlan) override {}
  void forward(const Pass<T>& pass, const T* in, T* out) override;
  void backward(const Pass<T>& pass, const T* in, const T* dout, T* din) override;
  double multiply_adds() const override { return 0; }

 private:
  kernels::EmbeddingShape shape(const Pass<T>& pass) const;

  ModelConfig config_;
  std::string label_;
  std::int64_t tokens_a_row_;
  std::int64_t table_;
};

}  // namespace tessera::model
