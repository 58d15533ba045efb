// SPDX-License-Identifier: Apache-2.0
// Training. Needs Eigen.
#include <rwkv/compiled/part.hpp>
#include <rwkv/train/adamw.ipp>
#include <rwkv/train/initialise.ipp>
#include <rwkv/train/longce.ipp>
#include <rwkv/train/lora.ipp>
#include <rwkv/train/model_file.ipp>
#include <rwkv/train/objective.ipp>
#include <rwkv/train/product.ipp>
#include <rwkv/train/recurrence.ipp>
#include <rwkv/train/trainer.ipp>
