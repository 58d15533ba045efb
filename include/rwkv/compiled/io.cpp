// SPDX-License-Identifier: Apache-2.0
// Opens files of all formats; states in files.
#include <rwkv/compiled/part.hpp>
#include <rwkv/core/error.ipp>
#include <rwkv/core/result.ipp>
#include <rwkv/io/vocabulary_file.ipp>

#if !defined(RWKV_NO_FILES)
#include <rwkv/io/atomic_file.ipp>
#include <rwkv/io/mapped_file.ipp>
#endif

#if !defined(RWKV_NO_IO)
#include <rwkv/adapter.ipp>
#include <rwkv/io/hybrid_state_file.ipp>
#include <rwkv/io/json_events.ipp>
#include <rwkv/io/model_config.ipp>
#include <rwkv/io/read.ipp>
#include <rwkv/io/safetensors_writer.ipp>
#include <rwkv/io/state_file.ipp>
#endif
