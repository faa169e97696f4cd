// The last piece: final norm, classifier and cross entropy, fused so that all logits never exist.
//
// From each window of `length` rows the rows `first` .. `first + count - 1` predict tokens
// (vanilla: rows 0 .. L-2 predict tokens 1 .. L-1; token decoder: rows P-1 .. S-1 predict the
// block's L_B tokens). They are packed into [rows, D] and normalised to h; then, `chunk` rows at a
// time,
//   z = h W_out^T;  loss = sum of cross entropies;  dz in place;  dh = dz W_out;  dW_out += dz^T h
// so the forward already has the input's gradient and the backward hands it on.
#pragma once

#include "model/layer.h"
#include "model/piece.h"

namespace tessera::model {

// Which rows of a window predict which tokens.
struct HeadRows {
  std::int64_t first = 0;        // first predicting row of a window
  std::int64_t count = 0;        // predicting rows a window
  std::int64_t first_token = 0;  // token (within the sequence) predicted by window 0's first row;
                                 // the following rows and windows predict the following tokens
};

// Rows of logits that the head holds at a time, of `rows` predicting ones.
std::int64_t head_chunk_rows(const ModelConfig& config, Device device, std::int64_t rows);

template <typename T>
class Head : public Piece<T> {
 public:
  Head(const ModelConfig& config, ParameterTable& table, const std::string& norm_prefix,
       const std::string& classifier, WindowShape windows, HeadRows rows);

  std::string name() const override { return "head"; }
  Boundary output(std::int64_t) const override { return {0, 0}; }
  void plan(std::int64_t sequences, PiecePlan plan) override;
  void forward(const Pass<T>& pass, const T* in, T* out) override;
  void backward(const Pass<T>& pass, const T* in, const T* dout, T* din) override;
  double multiply_adds() const override;

  // Logits of all predicting rows, [rows, vocab], for tests and small inputs.
  void logits(const Pass<T>& pass, const T* in, T* out);
  std::int64_t predicting_rows(std::int64_t sequences) const {
    return sequences * windows_.a_sequence * rows_.count;
  }

 private:
  // Packs the predicting rows into `selected_` and normalises them into `hidden_`.
  void select(const Pass<T>& pass, const T* in);
  // The likeliest tokens of `rows` rows from predicting row `first` on, into pass.scores.
  void likeliest(const Pass<T>& pass, const T* logits, std::int64_t rows, std::int64_t first) const;
  // Row stride of logits.
  std::int64_t stride() const;

  ModelConfig config_;
  WindowShape windows_;
  HeadRows rows_;
  std::int64_t gain_, bias_, weight_;
  Buffer selected_, hidden_, mean_, rstd_;  // kept
  Buffer dhidden_;                          // kept: the forward's gradient of hidden_
  Buffer logits_, losses_, dselected_;      // scratch
};

}  // namespace tessera::model
