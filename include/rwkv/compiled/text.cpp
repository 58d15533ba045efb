// SPDX-License-Identifier: Apache-2.0
// Text in, text out.
#include <rwkv/compiled/part.hpp>
#include <rwkv/generate.ipp>
#include <rwkv/sampler.ipp>
#include <rwkv/tokenizer.ipp>
