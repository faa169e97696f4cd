// cuDNN graphs: descriptors, tensors and operations. Plans are in cudnn_plan.cpp.
#include "kernels/cuda/cudnn_graph.h"

#include <utility>

#include "core/error.h"

namespace tessera::kernels::cuda {

void check_cudnn(cudnnStatus_t status, const std::string& what) {
  if (status == CUDNN_STATUS_SUCCESS) return;
  std::array<char, 1024> reason{};
  cudnnGetLastErrorString(reason.data(), reason.size());
  throw Error(Category::device, "cuDNN " + what + ": " + cudnnGetErrorString(status) +
                                    (reason[0] != 0 ? ": " + std::string(reason.data()) : ""));
}

CudnnDescriptor::CudnnDescriptor(cudnnBackendDescriptorType_t type, std::string name)
    : name_(std::move(name)) {
  check_cudnn(cudnnBackendCreateDescriptor(type, &descriptor_), "create " + name_);
}

CudnnDescriptor::~CudnnDescriptor() {
  if (descriptor_ != nullptr) cudnnBackendDestroyDescriptor(descriptor_);
}

CudnnDescriptor::CudnnDescriptor(CudnnDescriptor&& other) noexcept
    : descriptor_(std::exchange(other.descriptor_, nullptr)), name_(std::move(other.name_)) {}

CudnnDescriptor& CudnnDescriptor::operator=(CudnnDescriptor&& other) noexcept {
  std::swap(descriptor_, other.descriptor_);
  std::swap(name_, other.name_);
  return *this;
}

void CudnnDescriptor::set(cudnnBackendAttributeName_t attribute, cudnnBackendAttributeType_t type,
                          std::int64_t count, const void* values) {
  check_cudnn(cudnnBackendSetAttribute(descriptor_, attribute, type, count, values),
              "attribute " + std::to_string(attribute) + " of " + name_);
}

void CudnnDescriptor::set(cudnnBackendAttributeName_t attribute, const CudnnDescriptor& value) {
  const cudnnBackendDescriptor_t descriptor = value.get();
  set(attribute, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &descriptor);
}

void CudnnDescriptor::set(cudnnBackendAttributeName_t attribute,
                          const std::vector<CudnnDescriptor>& values) {
  std::vector<cudnnBackendDescriptor_t> descriptors;
  for (const CudnnDescriptor& value : values) descriptors.push_back(value.get());
  set(attribute, CUDNN_TYPE_BACKEND_DESCRIPTOR, static_cast<std::int64_t>(descriptors.size()),
      descriptors.data());
}

void CudnnDescriptor::finalize() {
  check_cudnn(cudnnBackendFinalize(descriptor_), name_);
}

CudnnGraph::Layout CudnnGraph::packed(const Dims& dims) {
  return {dims, {dims[1] * dims[2] * dims[3], dims[2] * dims[3], dims[3], 1}};
}

CudnnGraph::Layout CudnnGraph::transposed(const Layout& layout) {
  Layout swapped = layout;
  std::swap(swapped.dims[2], swapped.dims[3]);
  std::swap(swapped.strides[2], swapped.strides[3]);
  return swapped;
}

CudnnDescriptor CudnnGraph::tensor(std::int64_t id, const std::string& name, cudnnDataType_t type,
                                   const Layout& layout, bool is_virtual) const {
  constexpr std::int64_t kAlignment = 16;
  CudnnDescriptor tensor(CUDNN_BACKEND_TENSOR_DESCRIPTOR, name_ + ", tensor " + name);
  tensor.set(CUDNN_ATTR_TENSOR_DATA_TYPE, CUDNN_TYPE_DATA_TYPE, type);
  tensor.set(CUDNN_ATTR_TENSOR_DIMENSIONS, CUDNN_TYPE_INT64, 4, layout.dims.data());
  tensor.set(CUDNN_ATTR_TENSOR_STRIDES, CUDNN_TYPE_INT64, 4, layout.strides.data());
  tensor.set(CUDNN_ATTR_TENSOR_UNIQUE_ID, CUDNN_TYPE_INT64, id);
  tensor.set(CUDNN_ATTR_TENSOR_BYTE_ALIGNMENT, CUDNN_TYPE_INT64, kAlignment);
  if (is_virtual) tensor.set(CUDNN_ATTR_TENSOR_IS_VIRTUAL, CUDNN_TYPE_BOOLEAN, is_virtual);
  return tensor;
}

CudnnGraph::Tensor CudnnGraph::add_tensor(CudnnDescriptor tensor) {
  tensor.finalize();
  tensors_.push_back(std::move(tensor));
  return {tensors_.size() - 1};
}

CudnnGraph::Tensor CudnnGraph::memory(std::int64_t id, const std::string& name,
                                      cudnnDataType_t type, const Layout& layout) {
  return add_tensor(tensor(id, name, type, layout, false));
}

CudnnGraph::Tensor CudnnGraph::scalar(std::int64_t id, const std::string& name) {
  CudnnDescriptor scalar = tensor(id, name, CUDNN_DATA_FLOAT, packed({1, 1, 1, 1}), false);
  scalar.set(CUDNN_ATTR_TENSOR_IS_BY_VALUE, CUDNN_TYPE_BOOLEAN, true);
  return add_tensor(std::move(scalar));
}

CudnnGraph::Tensor CudnnGraph::between(const std::string& name, cudnnDataType_t type,
                                       const Layout& layout) {
  const auto id = kFirstVirtualId + static_cast<std::int64_t>(tensors_.size());
  return add_tensor(tensor(id, name, type, layout, true));
}

CudnnDescriptor& CudnnGraph::add_function(cudnnBackendDescriptorType_t type,
                                          const std::string& name) {
  return functions_.emplace_back(type, name_ + ", function of " + name);
}

void CudnnGraph::add_operation(CudnnDescriptor operation) {
  operation.finalize();
  operations_.push_back(std::move(operation));
}

CudnnGraph::Tensor CudnnGraph::matmul(const std::string& name, Tensor a, Tensor b, Tensor out) {
  CudnnDescriptor& function = add_function(CUDNN_BACKEND_MATMUL_DESCRIPTOR, name);
  function.set(CUDNN_ATTR_MATMUL_COMP_TYPE, CUDNN_TYPE_DATA_TYPE, CUDNN_DATA_FLOAT);
  function.finalize();
  CudnnDescriptor operation(CUDNN_BACKEND_OPERATION_MATMUL_DESCRIPTOR, name_ + ", " + name);
  operation.set(CUDNN_ATTR_OPERATION_MATMUL_DESC, function);
  operation.set(CUDNN_ATTR_OPERATION_MATMUL_ADESC, at(a));
  operation.set(CUDNN_ATTR_OPERATION_MATMUL_BDESC, at(b));
  operation.set(CUDNN_ATTR_OPERATION_MATMUL_CDESC, at(out));
  add_operation(std::move(operation));
  return out;
}

CudnnGraph::Tensor CudnnGraph::pointwise(const std::string& name, cudnnPointwiseMode_t mode,
                                         const std::vector<Tensor>& inputs, Tensor out,
                                         cudnnDataType_t compute) {
  constexpr std::array kInputs = {CUDNN_ATTR_OPERATION_POINTWISE_XDESC,
                                  CUDNN_ATTR_OPERATION_POINTWISE_BDESC,
                                  CUDNN_ATTR_OPERATION_POINTWISE_TDESC};
  CudnnDescriptor& function = add_function(CUDNN_BACKEND_POINTWISE_DESCRIPTOR, name);
  function.set(CUDNN_ATTR_POINTWISE_MODE, CUDNN_TYPE_POINTWISE_MODE, mode);
  function.set(CUDNN_ATTR_POINTWISE_MATH_PREC, CUDNN_TYPE_DATA_TYPE, compute);
  function.finalize();
  CudnnDescriptor operation(CUDNN_BACKEND_OPERATION_POINTWISE_DESCRIPTOR, name_ + ", " + name);
  operation.set(CUDNN_ATTR_OPERATION_POINTWISE_PW_DESCRIPTOR, function);
  for (std::size_t i = 0; i < inputs.size(); ++i) operation.set(kInputs.at(i), at(inputs[i]));
  operation.set(CUDNN_ATTR_OPERATION_POINTWISE_YDESC, at(out));
  add_operation(std::move(operation));
  return out;
}

CudnnGraph::Tensor CudnnGraph::position(const std::string& name, std::int64_t axis, Tensor like,
                                        Tensor out) {
  CudnnDescriptor& function = add_function(CUDNN_BACKEND_POINTWISE_DESCRIPTOR, name);
  function.set(CUDNN_ATTR_POINTWISE_MODE, CUDNN_TYPE_POINTWISE_MODE, CUDNN_POINTWISE_GEN_INDEX);
  function.set(CUDNN_ATTR_POINTWISE_MATH_PREC, CUDNN_TYPE_DATA_TYPE, CUDNN_DATA_FLOAT);
  function.set(CUDNN_ATTR_POINTWISE_AXIS, CUDNN_TYPE_INT64, axis);
  function.finalize();
  CudnnDescriptor operation(CUDNN_BACKEND_OPERATION_POINTWISE_DESCRIPTOR, name_ + ", " + name);
  operation.set(CUDNN_ATTR_OPERATION_POINTWISE_PW_DESCRIPTOR, function);
  operation.set(CUDNN_ATTR_OPERATION_POINTWISE_XDESC, at(like));
  operation.set(CUDNN_ATTR_OPERATION_POINTWISE_YDESC, at(out));
  add_operation(std::move(operation));
  return out;
}

CudnnGraph::Tensor CudnnGraph::reduce(const std::string& name, cudnnReduceTensorOp_t reduction,
                                      Tensor x, Tensor out) {
  CudnnDescriptor& function = add_function(CUDNN_BACKEND_REDUCTION_DESCRIPTOR, name);
  function.set(CUDNN_ATTR_REDUCTION_OPERATOR, CUDNN_TYPE_REDUCTION_OPERATOR_TYPE, reduction);
  function.set(CUDNN_ATTR_REDUCTION_COMP_TYPE, CUDNN_TYPE_DATA_TYPE, CUDNN_DATA_FLOAT);
  function.finalize();
  CudnnDescriptor operation(CUDNN_BACKEND_OPERATION_REDUCTION_DESCRIPTOR, name_ + ", " + name);
  operation.set(CUDNN_ATTR_OPERATION_REDUCTION_DESC, function);
  operation.set(CUDNN_ATTR_OPERATION_REDUCTION_XDESC, at(x));
  operation.set(CUDNN_ATTR_OPERATION_REDUCTION_YDESC, at(out));
  add_operation(std::move(operation));
  return out;
}

CudnnGraph::Tensor CudnnGraph::view(const std::string& name, Tensor x, Tensor out) {
  CudnnDescriptor operation(CUDNN_BACKEND_OPERATION_RESHAPE_DESCRIPTOR, name_ + ", " + name);
  operation.set(CUDNN_ATTR_OPERATION_RESHAPE_XDESC, at(x));
  operation.set(CUDNN_ATTR_OPERATION_RESHAPE_YDESC, at(out));
  add_operation(std::move(operation));
  return out;
}

}  // namespace tessera::kernels::cuda
