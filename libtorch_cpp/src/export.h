// Exports the trained network as TorchScript whose input is pixels, and verifies that its outputs are those of the trainer.
#pragma once

#include <filesystem>

#include "safetensors.h"

// Writes a TorchScript module: `image`, float32 (N,28,28,1), pixels 0..255 → {"probabilities", "logits"}, float32 (N,10).
void export_torchscript(const std::filesystem::path& file, const Tensors& weights, double mean, double std);

// Loads `folder`/model.pt and runs it on the images of `folder`/golden.safetensors. Returns the largest difference from the golden
// outputs. Throws Error if a value differs by more than 1e-5, absolute and relative, or a label differs.
double verify_export(const std::filesystem::path& folder);
