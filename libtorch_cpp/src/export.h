// The trained network as a TorchScript archive that takes pixels, and the proof that it answers what the trainer answered.
#pragma once

#include <filesystem>

#include "safetensors.h"

// Writes a TorchScript module: `image`, float32 (N,28,28,1), pixels 0..255 → {"probabilities", "logits"}, float32 (N,10).
void export_torchscript(const std::filesystem::path& file, const Tensors& weights, double mean, double std);

// Loads `folder`/model.pt and gives it the images of `folder`/golden.safetensors. Returns the largest difference from the
// golden answers. Throws Error if one is above 1e-5 (relative, for logits above 1) or a label changes.
double verify_export(const std::filesystem::path& folder);
