// SPDX-License-Identifier: Apache-2.0
// Models: from a checkpoint to logits.
#include <rwkv/compiled/part.hpp>
#include <rwkv/hybrid.ipp>
#include <rwkv/hybrid_shape.ipp>
#include <rwkv/io/deep_embed.ipp>
#include <rwkv/io/describe.ipp>
#include <rwkv/io/dimensions.ipp>
#include <rwkv/io/model_settings.ipp>
#include <rwkv/io/stored_weights.ipp>
#include <rwkv/io/weight_arena.ipp>
#include <rwkv/memory.ipp>
#include <rwkv/model.hpp>
#include <rwkv/rewind.ipp>
#include <rwkv/shape_difference.ipp>

namespace rwkv::inline RWKV_ABI::inline RWKV_ISA::detail {

template void run(const io::StoredWeights&, std::span<const Slot<>>, Logits, const Outputs&,
                  Workspace<>&, ExecutorRef);

}  // namespace rwkv::inline RWKV_ABI::inline RWKV_ISA::detail
