// The interface of a framework's LeNet-5.
#pragma once

#include <ATen/core/Tensor.h>

#include <memory>

#include "conditions.h"
#include "safetensors.h"

class Trainer {
 public:
  virtual ~Trainer() = default;

  // Returns `logits` (n,10) and `gradient.NAME` of every weight, in PyTorch's layout, for the training samples `batch`, int32 (n). The
  // trainer's state does not change.
  virtual Tensors probe(const at::Tensor& batch) = 0;

  // Takes a step for each row of `order`, int32 (steps,n), at its rate, float64 (steps). Returns the loss of each (steps).
  virtual at::Tensor train_epoch(const at::Tensor& order, const at::Tensor& rates) = 0;

  // Returns the logits (n,10) of images, uint8 (n,28,28), from the model as trained so far.
  virtual at::Tensor predict(const at::Tensor& images) = 0;

  // Returns the weights as trained so far, by name.
  virtual Tensors weights() const = 0;
};

// Creates a trainer whose weights and arithmetic have the given type, float or double, and sets libtorch's number of threads.
using MakeTrainer = std::unique_ptr<Trainer> (*)(const Conditions& conditions, at::ScalarType type);

// src/lenet5.cpp: idiomatic libtorch.
std::unique_ptr<Trainer> make_libtorch(const Conditions& conditions, at::ScalarType type);

// native/trainer.cpp: hand-written.
std::unique_ptr<Trainer> make_native(const Conditions& conditions, at::ScalarType type);
