// SPDX-License-Identifier: Apache-2.0
// Back to the state after an earlier token: what a log (row_log.hpp) has of the tokens since is
// replayed by the kernel that ran it first, so that the bits are the same. No weights are read: a
// token costs 11 N C operations of a layer.
#pragma once

#include <rwkv/exec/serial.hpp>
#include <rwkv/row_log.hpp>
#include <rwkv/state.hpp>

namespace rwkv::inline RWKV_ABI::inline RWKV_ISA {

/// Sets `state` to what it was after the first `tokens` of the log's, bit for bit, which are then
/// all that the log has. What the state held before does not matter, so that this is a fork, too.
/// A log that nothing was logged in (since `clear`) changes nothing. Allocates nothing. Throws Error (argument) if the log has
/// fewer or the state was moved away, (shape) for a state of another shape; nothing has changed then.
RWKV_FUNCTION void rewind(State<>& state, RowLog& log, std::size_t tokens, ExecutorRef exec = {});

}  // namespace rwkv::inline RWKV_ABI::inline RWKV_ISA

#if RWKV_HEADER_ONLY
#include <rwkv/rewind.ipp>
#endif
