// Graphs of cuDNN operations: as much of its backend interface as attention needs, and no more.
//
// cuDNN is given a graph of small operations (matrix products, pointwise functions, reductions) on
// tensors of which most are "virtual", never in memory; where it knows the pattern, as it does for
// attention, it runs the whole graph as one fused kernel. Every refusal is an Error{device} that
// names the descriptor refused and cuDNN's own reason.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include <cudnn.h>

namespace tessera::kernels::cuda {

// Throws Error{device}: "cuDNN WHAT: STATUS: REASON" unless status is success.
void check_cudnn(cudnnStatus_t status, const std::string& what);

// One descriptor of the backend interface, owned.
class CudnnDescriptor {
 public:
  CudnnDescriptor(cudnnBackendDescriptorType_t type, std::string name);
  ~CudnnDescriptor();
  CudnnDescriptor(CudnnDescriptor&& other) noexcept;
  CudnnDescriptor& operator=(CudnnDescriptor&& other) noexcept;

  void set(cudnnBackendAttributeName_t attribute, cudnnBackendAttributeType_t type,
           std::int64_t count, const void* values);
  template <typename Value>
  void set(cudnnBackendAttributeName_t attribute, cudnnBackendAttributeType_t type,
           const Value& value) {
    set(attribute, type, 1, &value);
  }
  void set(cudnnBackendAttributeName_t attribute, const CudnnDescriptor& value);
  void set(cudnnBackendAttributeName_t attribute, const std::vector<CudnnDescriptor>& values);
  void finalize();

  cudnnBackendDescriptor_t get() const { return descriptor_; }
  const std::string& name() const { return name_; }

 private:
  cudnnBackendDescriptor_t descriptor_ = nullptr;
  std::string name_;
};

// A compiled graph. Pointers are bound at each run, by the ids that the graph's builder gave.
class CudnnPlan {
 public:
  using Binding = std::pair<std::int64_t, void*>;  // tensor id, its memory (values: host memory)

  std::int64_t workspace_bytes() const { return workspace_bytes_; }
  // Asynchronous on the handle's stream; can be captured.
  void run(cudnnHandle_t handle, const std::vector<Binding>& bindings, void* workspace) const;

 private:
  friend class CudnnGraph;
  CudnnPlan(CudnnDescriptor plan, std::vector<CudnnDescriptor> parts);

  std::vector<CudnnDescriptor> parts_;  // what the plan was built from, gone after it
  CudnnDescriptor plan_;
  std::int64_t workspace_bytes_ = 0;
};

class CudnnGraph {
 public:
  using Dims = std::array<std::int64_t, 4>;
  struct Layout {
    Dims dims, strides;
  };
  static Layout packed(const Dims& dims);
  static Layout transposed(const Layout& layout);  // the last two dimensions swapped

  // A tensor of this graph.
  struct Tensor {
    std::size_t index = 0;
  };

  explicit CudnnGraph(std::string name) : name_(std::move(name)) {}

  // Tensors in memory, bound by `id` (below kFirstVirtualId) at each run.
  Tensor memory(std::int64_t id, const std::string& name, cudnnDataType_t type,
                const Layout& layout);
  Tensor scalar(std::int64_t id, const std::string& name);  // one float, passed by value
  Tensor between(const std::string& name, cudnnDataType_t type, const Layout& layout);  // virtual

  // Operations, in order; each returns `out`.
  Tensor matmul(const std::string& name, Tensor a, Tensor b, Tensor out);
  Tensor pointwise(const std::string& name, cudnnPointwiseMode_t mode,
                   const std::vector<Tensor>& inputs, Tensor out,
                   cudnnDataType_t compute = CUDNN_DATA_FLOAT);
  Tensor position(const std::string& name, std::int64_t axis, Tensor like, Tensor out);
  Tensor reduce(const std::string& name, cudnnReduceTensorOp_t reduction, Tensor x, Tensor out);
  Tensor view(const std::string& name, Tensor x, Tensor out);

  // For the first engine, in cuDNN's own order, that takes the graph and is not noted as
  // nondeterministic. Ends the graph.
  CudnnPlan compile(cudnnHandle_t handle) &&;

 private:
  static constexpr std::int64_t kFirstVirtualId = 1000;

  Tensor add_tensor(CudnnDescriptor tensor);
  CudnnDescriptor tensor(std::int64_t id, const std::string& name, cudnnDataType_t type,
                         const Layout& layout, bool is_virtual) const;
  const CudnnDescriptor& at(Tensor tensor) const { return tensors_[tensor.index]; }
  // The function (matrix product, pointwise, reduction) that the operation applies.
  CudnnDescriptor& add_function(cudnnBackendDescriptorType_t type, const std::string& name);
  void add_operation(CudnnDescriptor operation);

  std::string name_;
  std::vector<CudnnDescriptor> tensors_, functions_, operations_;
};

}  // namespace tessera::kernels::cuda
